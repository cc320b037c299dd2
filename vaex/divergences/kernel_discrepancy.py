"""Maximum mean discrepancy between two batches of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vaex.ops.arrays import lift


def rbf_kernel(square_distance: jax.Array, width: jax.Array | float) -> jax.Array:
    r"""Gaussian kernel :math:`e^{-r^2/C}`, elementwise.

    Args:
      square_distance: [...], r^2.
      width: C; twice the squared bandwidth.
    Returns: [...] in (0, 1].
    Example:
      >>> rbf_kernel(jnp.array([0.0, 1e4]), 1.0)
      Array([1., 0.], dtype=float32)

    References: Gretton et al. 2012, section 2.2; Zhao, Song & Ermon 2019.
    """
    return jnp.exp(-square_distance / width)


def imq_kernel(square_distance: jax.Array, width: jax.Array | float) -> jax.Array:
    r"""Inverse multiquadric kernel :math:`C/(C + r^2)`, elementwise; its heavy tail still pulls on far outliers.

    Args:
      square_distance: [...], r^2.
      width: C.
    Returns: [...] in (0, 1].
    Example:
      >>> imq_kernel(jnp.array([0.0, 3.0]), 1.0)
      Array([1.  , 0.25], dtype=float32)

    References: Tolstikhin et al. 2018, section 4.
    """
    return width / (width + square_distance)


_KERNELS = {"rbf": rbf_kernel, "imq": imq_kernel}
MOST_DIFFERENCES = 2**24  # held at once: 64 MB; batches of more pairs are taken some rows at a time


def _sum_over_rows(
    values_of: Callable[[jax.Array, jax.Array], jax.Array], a: jax.Array, b: jax.Array, rows: int
) -> jax.Array:
    """Sum of ``values_of(a, b)``, [n, m], in blocks of so many rows, which the gradient computes again."""
    blocks = -(-a.shape[0] // rows)
    padded = jnp.pad(a, ((0, blocks * rows - a.shape[0]), (0, 0))).reshape(blocks, rows, a.shape[1])
    counts = (jnp.arange(blocks * rows) < a.shape[0]).reshape(blocks, rows)

    @jax.checkpoint
    def sum_of(block: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.sum(jnp.where(block[1][:, None], values_of(block[0], b), 0))

    return jnp.sum(jax.lax.map(sum_of, (padded, counts)))


def mmd(
    x: jax.Array,
    y: jax.Array,
    *,
    kernel: Literal["rbf", "imq"] = "imq",
    scales: Sequence[float] = (1.0,),
    unbiased: bool = True,
) -> jax.Array:
    r"""Squared maximum mean discrepancy between two batches, a scalar.

    :math:`E k(x,x') + E k(y,y') - 2 E k(x,y)` with k the mean of the kernel over C = 2 d s^2, s in ``scales``: s is in units
    of the samples' standard deviation per dimension. (WAE sums over (0.1, 0.2, 0.5, 1, 2, 5, 10) times C = 2 d: its value
    is the number of scales times this one at the square roots of those.)

    Args:
      x: [n, d], independent rows, for instance one latent of each example; several of one example depend on each other, and their
        pairs would make the estimate positive where the distributions agree.
      y: [m, d], for instance draws from the prior.
      kernel: "rbf" or "imq".
      scales: one or several length scales; several make the test sensitive to more than one size of difference.
      unbiased: leave out pairs of a point with itself (the U-statistic, which may come out negative and needs n, m >= 2);
        otherwise the V-statistic, never negative but positive in expectation even where the distributions agree.
    Returns: a scalar over the whole batch, float32 or wider, between -2 and 2.
    Raises: ValueError if the shapes disagree, a batch is too small or the kernel is unknown.
    Example:
      >>> x = jnp.array([[0.0], [1.0]])
      >>> mmd(x, x, unbiased=False)
      Array(0., dtype=float32)

    References: Gretton et al. 2012, eqs. 3 and 5; Tolstikhin et al. 2018, algorithm 2; Zhao, Song & Ermon 2019 (InfoVAE).
    """
    if kernel not in _KERNELS:
        raise ValueError(f"mmd: kernel is {kernel!r}, expected one of these: {', '.join(_KERNELS)}")
    if np.ndim(x) != 2 or np.ndim(y) != 2 or np.shape(x)[1] != np.shape(y)[1]:
        raise ValueError(
            f"mmd: got shapes {np.shape(x)} and {np.shape(y)}, expected [n, d] and [m, d]; flatten all axes but the batch"
        )
    if min(np.shape(x)[0], np.shape(y)[0]) < 1 + unbiased or not len(scales):
        raise ValueError(
            f"mmd: got {np.shape(x)[0]} and {np.shape(y)[0]} rows and {len(scales)} scales, expected at least "
            f"{1 + unbiased} rows and one scale; use larger batches or unbiased=False"
        )
    x, y = lift(x, y)

    def values_of(a: jax.Array, b: jax.Array) -> jax.Array:
        # latents first: last, a step on CPU would take twice as long
        square = jnp.sum(jnp.square(a.T[:, :, None] - b.T[:, None]), axis=0)
        kernels = [_KERNELS[kernel](square, 2.0 * a.shape[1] * s * s) for s in scales]
        return sum(kernels[1:], kernels[0]) / len(scales)

    def mean_kernel(a: jax.Array, b: jax.Array, same: bool) -> jax.Array:
        rows = max(1, MOST_DIFFERENCES // max(1, b.size))
        if a.shape[0] > rows:
            total = _sum_over_rows(values_of, a, b, rows)
            n, m = a.shape[0], b.shape[0]
            return (total - n) / (n * (n - 1)) if same and unbiased else total / (n * m)  # k(x, x) = 1
        values = values_of(a, b)
        if not (same and unbiased):
            return jnp.mean(values)
        n = a.shape[0]
        return (jnp.sum(values) - jnp.trace(values)) / (n * (n - 1))

    return mean_kernel(x, x, True) + mean_kernel(y, y, True) - 2.0 * mean_kernel(x, y, False)
