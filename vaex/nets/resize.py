"""Images at another size by area averaging, and as patches."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np


def area_weights(before: int, after: int) -> np.ndarray:
    """Return the share of each new pixel that each old one covers, [after, before]; both rows of pixels are equally long.

    Example:
      >>> area_weights(4, 2).tolist()
      [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
      >>> area_weights(2, 3).round(2).tolist()
      [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    start = np.arange(after)[:, None] * before / after
    old = np.arange(before)[None]
    covered = np.minimum(start + before / after, old + 1) - np.maximum(start, old)
    return np.maximum(covered, 0.0) * after / before


def resize(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Return images [..., h, w, c] at another size (h, w), each new pixel the mean over the area that it covers.

    Halving averages blocks of 2x2, doubling repeats pixels; any other factor weighs neighbours by their areas.

    Example:
      >>> resize(jnp.arange(4.0).reshape(2, 2, 1), (1, 4))[..., 0]
      Array([[1., 1., 2., 2.]], dtype=float32)
    """
    for axis, after in zip((-3, -2), size, strict=True):
        before = x.shape[axis]
        if before != after:
            weights = jnp.asarray(area_weights(before, after), x.dtype)
            x = jnp.einsum("nh,...hwc->...nwc" if axis == -3 else "nw,...hwc->...hnc", weights, x)
    return x


def to_patches(x: jax.Array, sides: tuple[int, int]) -> jax.Array:
    """Cut images [b, h, w, c], padded with zeros at the end, into [b, ceil(h / sides[0]), ceil(w / sides[1]), patch].

    Example:
      >>> to_patches(jnp.ones((2, 7, 8, 3)), (2, 4)).shape
      (2, 4, 2, 24)
    """
    (height, width), channels = (-(-n // side) for n, side in zip(x.shape[1:3], sides, strict=True)), x.shape[3]
    x = jnp.pad(x, ((0, 0), (0, height * sides[0] - x.shape[1]), (0, width * sides[1] - x.shape[2]), (0, 0)))
    x = x.reshape(-1, height, sides[0], width, sides[1], channels)
    return jnp.swapaxes(x, 2, 3).reshape(-1, height, width, math.prod(sides) * channels)


def from_patches(x: jax.Array, sides: tuple[int, int]) -> jax.Array:
    """Join patches [b, h, w, patch] to images [b, h sides[0], w sides[1], c], the inverse of ``to_patches`` without padding.

    Example:
      >>> x = jnp.arange(24.0).reshape(1, 4, 6, 1)
      >>> bool(jnp.all(from_patches(to_patches(x, (2, 3)), (2, 3)) == x))
      True
    """
    _, height, width, size = x.shape
    channels = size // math.prod(sides)
    x = jnp.swapaxes(x.reshape(-1, height, width, *sides, channels), 2, 3)
    return x.reshape(-1, height * sides[0], width * sides[1], channels)
