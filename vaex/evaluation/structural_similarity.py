"""Structural similarity of images (SSIM), at one scale or several: by means, variances and covariances within a Gaussian window."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SIGMA = 1.5  # standard deviation of the window, in pixels
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # stabilise the quotients, for values in [0, 1]
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first (Wang et al. 2003)
LEAST = 1e-6  # contrast may be negative, which has no power


class Similarity(NamedTuple):
    """SSIM and its contrast-structure part, [..., c] each, averaged over the positions of the window."""

    ssim: jax.Array
    contrast: jax.Array


def similarity(x: jax.Array, y: jax.Array, *, window: int = 11) -> Similarity:
    r"""Return SSIM and its contrast-structure part of each channel of images with values in [0, 1].

    :math:`\frac{2\mu_x\mu_y+c_1}{\mu_x^2+\mu_y^2+c_1}\cdot\frac{2\sigma_{xy}+c_2}{\sigma_x^2+\sigma_y^2+c_2}`; the second factor is
    the contrast-structure part.

    Args:
      x, y: [..., h, w, c].
      window: side of the Gaussian window, which lies within the image.
    Raises: ValueError for images smaller than the window, or of different shapes.

    References: Wang, Bovik, Sheikh & Simoncelli 2004, eqs. 13-16.
    """
    if x.shape != y.shape or min(x.shape[-3:-1]) < window:
        raise ValueError(
            f"similarity: images have shapes {x.shape} and {y.shape}, expected equal ones [..., h, w, c] of at least {window} "
            "pixels a side; give a smaller window"
        )
    rows, columns = (_windows(side, window) for side in x.shape[-3:-1])

    def local_mean(values: jax.Array) -> jax.Array:  # two matrix products: convolutions in a loop are slow on CPU
        return jnp.einsum("ih,jw,...hwc->...ijc", rows, columns, values, precision=jax.lax.Precision.HIGHEST)

    mean_x, mean_y = local_mean(x), local_mean(y)
    products, squares = mean_x * mean_y, jnp.square(mean_x) + jnp.square(mean_y)
    covariance = local_mean(x * y) - products
    variances = local_mean(jnp.square(x) + jnp.square(y)) - squares
    contrast = (2 * covariance + CONTRAST) / (variances + CONTRAST)
    ssim = contrast * (2 * products + LUMINANCE) / (squares + LUMINANCE)
    return Similarity(jnp.mean(ssim, axis=(-3, -2)), jnp.mean(contrast, axis=(-3, -2)))


def scales(height: int, width: int, window: int) -> int:
    """Return how many scales images of this size have: each halves the image, and the window fits into the last.

    Example:
      >>> [scales(side, side, 7) for side in (8, 28, 256)], scales(6, 28, 7)
      ([1, 3, 5], 0)
    """
    sides = [min(height, width) >> scale for scale in range(len(WEIGHTS))]
    return sum(side >= window for side in sides)


def multiscale_ssim(x: jax.Array, y: jax.Array, *, window: int = 11) -> jax.Array:
    """Return MS-SSIM of images with values in [0, 1], [...], averaged over channels; 1 for equal images.

    The product of the contrast-structure parts of the scales and of SSIM at the last, each to the power of its weight. Images too
    small for five scales have fewer, whose weights are scaled to sum to 1. A negative part counts as zero.

    Args:
      x, y: [..., h, w, c].
      window: as in ``similarity``.
    Raises: ValueError for images smaller than the window, or of different shapes.

    References: Wang, Simoncelli & Bovik 2003, eq. 7.
    """
    count = max(1, scales(x.shape[-3], x.shape[-2], window))
    weights = np.array(WEIGHTS[:count]) / sum(WEIGHTS[:count])
    logarithm = jnp.zeros(())
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halved(x), _halved(y)
        parts = similarity(x, y, window=window)
        part = parts.ssim if scale == count - 1 else parts.contrast
        logarithm = logarithm + float(weight) * jnp.log(jnp.maximum(part, LEAST))
    return jnp.mean(jnp.exp(logarithm), axis=-1)


def _windows(side: int, window: int) -> np.ndarray:
    """Return the weights of a Gaussian window at each of its positions, [side - window + 1, side]."""
    distance = np.arange(window) - 0.5 * (window - 1)
    weights = np.exp(-0.5 * np.square(distance / SIGMA))
    rows = np.zeros((side - window + 1, side), np.float32)
    for start, row in enumerate(rows):
        row[start : start + window] = weights / weights.sum()
    return rows


def _halved(x: jax.Array) -> jax.Array:
    """Return means of 2 x 2 pixels; a last odd row or column is left out."""
    height, width = (side // 2 for side in x.shape[-3:-1])
    cropped = x[..., : 2 * height, : 2 * width, :]
    return jnp.mean(cropped.reshape(*x.shape[:-3], height, 2, width, 2, x.shape[-1]), axis=(-4, -2))
