"""Conversion of stored values to model inputs, as pure functions of (key, x) inside the compiled step.

Axes: b batch, h w c image, d vector.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.data.spec import Spec
from vaex.errors import UserError


def prepare(spec: Spec, key: jax.Array, x: ArrayLike) -> jax.Array:
    """Return model inputs of stored values: scaled to [0, 1], then binarised or dequantised as the spec says.

    With ``binarize="dynamic"`` each value is a Bernoulli draw whose probability is its intensity. With "threshold" it is
    1 where the intensity exceeds one half. With ``dequantize="uniform"`` level k becomes (k + u) / levels, u uniform in
    [0, 1). Values of kind "real" pass unchanged.

    Args:
      spec: of the data; static under jit.
      key: used by "dynamic" and "uniform" only.
      x: stored values [b, *spec.shape]: integer level indices where ``spec.levels`` is set, else floats.
    Returns: float32 of x's shape, in [0, 1] unless the kind is "real".
    Raises: ValueError where the shape or dtype of x is not that of the spec.
    References: Salakhutdinov & Murray 2008 (dynamic binarisation); Theis et al. 2016, section 3.1 (dequantisation).
    Example:
      >>> spec = Spec("digits", (2,), "grey", levels=17, binarize="dynamic")
      >>> prepare(spec, jax.random.key(0), jnp.array([[0, 16]], jnp.uint8))
      Array([[0., 1.]], dtype=float32)
    """
    stored = _checked("prepare", spec, x)
    leading = stored.shape[: stored.ndim - len(spec.shape)]
    # on one flat axis: XLA's CPU loops over an image's last axis, one channel wide, are not vectorised
    return _drawn(spec, key, stored.reshape(*leading, math.prod(spec.shape))).reshape(stored.shape)


def _drawn(spec: Spec, key: jax.Array, stored: jax.Array) -> jax.Array:
    if spec.binarize == "dynamic":
        return binarize(key, _scaled(spec, stored))
    if spec.binarize == "none" and spec.dequantize == "uniform":
        return (stored.astype(jnp.float32) + jax.random.uniform(key, stored.shape)) / _levels(spec)
    return _mean(spec, stored)


def intensities(spec: Spec, x: ArrayLike) -> jax.Array:
    """Return the mean of ``prepare`` over its randomness, the deterministic inputs for encoding and for figures.

    Under dynamic binarisation it is the probability of a 1, under uniform dequantisation (k + 1/2) / levels. Otherwise it
    equals ``prepare``.

    Args:
      spec: of the data; static under jit.
      x: stored values [b, *spec.shape].
    Returns: float32 of x's shape, in [0, 1] unless the kind is "real".
    Raises: ValueError where the shape or dtype of x is not that of the spec.
    Example:
      >>> intensities(Spec("digits", (2,), "grey", levels=17), jnp.array([[4, 16]], jnp.uint8))
      Array([[0.25, 1.  ]], dtype=float32)
    """
    return _mean(spec, _checked("intensities", spec, x))


def _mean(spec: Spec, stored: jax.Array) -> jax.Array:
    if spec.binarize == "threshold":
        return (_scaled(spec, stored) > 0.5).astype(jnp.float32)
    if spec.binarize == "none" and spec.dequantize == "uniform":
        return (stored.astype(jnp.float32) + 0.5) / _levels(spec)
    return _scaled(spec, stored)


def binarize(key: jax.Array, x: jax.Array) -> jax.Array:
    """Draw each value as a Bernoulli variable whose probability is the intensity x (Salakhutdinov & Murray 2008).

    Args:
      key: a key.
      x: intensities in [0, 1], such as those of ``intensities``.
    Returns: 0 or 1 in x's shape and dtype.
    Example:
      >>> binarize(jax.random.key(0), jnp.array([0.0, 1.0]))
      Array([0., 1.], dtype=float32)
    """
    return (jax.random.uniform(key, x.shape) < x).astype(x.dtype)


def augment(key: jax.Array, x: ArrayLike, *, flip: bool = False, crop: int = 0) -> jax.Array:
    """Flip images from left to right with probability 1/2, and shift them by up to ``crop`` pixels, each independently.

    Args:
      key: a key.
      x: images [b, h, w, c], stored values or model inputs.
      flip: whether to flip.
      crop: pixels of zero padding on each side, before a random crop of the original size; 0 is off.
    Returns: images of x's shape and dtype.
    Raises: ValueError unless x is [b, h, w, c]; UserError for a crop below 0 or beyond the image.
    Example:
      >>> augment(jax.random.key(3), jnp.arange(3).reshape(1, 1, 3, 1), flip=True).ravel()
      Array([2, 1, 0], dtype=int32)
    """
    images = jnp.asarray(x)
    if images.ndim != 4:
        raise ValueError(f"augment: x has shape {images.shape}, expected images [b, h, w, c]")
    if not 0 <= crop < min(images.shape[1:3]):
        raise UserError(f"--crop={crop}: expected 0 to {min(images.shape[1:3]) - 1}, less than the side of the images")
    flip_key, crop_key = jax.random.split(key)
    if flip:
        turned = jax.random.bernoulli(flip_key, 0.5, (len(images), 1, 1, 1))
        images = jnp.where(turned, images[:, :, ::-1], images)
    if crop:
        padded = jnp.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0)))
        corners = jax.random.randint(crop_key, (len(images), 2), 0, 2 * crop + 1)

        def cut(image: jax.Array, corner: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

        images = jax.vmap(cut)(padded, corners)
    return images


def _scaled(spec: Spec, stored: jax.Array) -> jax.Array:
    values = stored.astype(jnp.float32)
    return values if spec.levels is None else values / (spec.levels - 1)


def _levels(spec: Spec) -> int:
    if spec.levels is None:
        raise ValueError(
            f"prepare: dequantize='uniform' needs levels, but {spec.name} has continuous values; use 'none'"
        )
    return spec.levels


def _checked(caller: str, spec: Spec, x: ArrayLike) -> jax.Array:
    stored = jnp.asarray(x)
    if stored.shape[stored.ndim - len(spec.shape) :] != spec.shape:
        raise ValueError(
            f"{caller}: x has shape {stored.shape}, expected [b, {', '.join(map(str, spec.shape))}] as in {spec.name}"
        )
    discrete = jnp.issubdtype(stored.dtype, jnp.integer)
    if discrete != (spec.levels is not None):
        expected = "floats" if spec.levels is None else f"integer level indices 0..{spec.levels - 1}"
        raise ValueError(
            f"{caller}: x has dtype {stored.dtype}, expected {expected} as {spec.name} stores them; pass stored values, "
            "not model inputs"
        )
    return stored
