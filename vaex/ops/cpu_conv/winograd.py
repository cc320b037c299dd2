r"""Convolutions of 3x3 with stride 1 by minimal filtering (Winograd's F(4x4, 3x3)), with a quarter of the multiplications.

Tiles of 4x4 outputs read 6x6 inputs. Along an axis, a tile's outputs are :math:`A^\top[(G k) \odot (B^\top x)]`: values of
polynomials at six points (one of them infinity), multiplied, and interpolated. So a convolution is 36 matrix products over
channels, one for each pair of points, of what the tiles of the whole batch are there. The gradient in the kernel is
:math:`G^\top[\sum (A y) \odot (B^\top x)]`, and that in the input a convolution by the kernel reversed.

Rounding is up to ten times that of a plain sum: 2e-6 to 6e-6 of the largest result. Time goes into moving the values, which are
2.25 times the pixels, so that it is gained only where channels are many; of 4x4 kernels with stride 2 it was lost.

Source: Lavin & Gray 2016, Fast algorithms for convolutional neural networks; points: Barabasz et al. 2020, Error analysis and
improving the accuracy of Winograd convolution for deep neural networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vaex.ops.cpu_conv.layout import batch_is_divided, dot, inward, outward, pad
from vaex.ops.cpu_conv.shapes import Geometry

TILE, TAPS = 4, 3
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)  # and infinity
SPAN = TILE + TAPS - 1  # pixels that a tile reads along an axis, and values that it has there
CHANNELS, BATCH, MULTIPLICATIONS = 16, 64, 10**8  # of the smallest convolutions for which it is quicker


def suits(sizes: Geometry, x: jax.Array) -> bool:
    """Whether the products of this convolution are quicker so, and accurate enough; x: its input or its output.

    Small ones are not: they spend their time on starting so many small operations. Low precision is not accurate enough.
    """
    if (sizes.kernel, sizes.strides) != ((TAPS, TAPS), (1, 1)) or sizes.dilation != (1, 1) or x.dtype != jnp.float32:
        return False
    precision = sizes.precision or jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    if precision not in (None, "default", lax.Precision.DEFAULT) or batch_is_divided():
        return False
    work = x.shape[0] * math.prod(sizes.out) * TAPS**2 * sizes.channels * sizes.features
    return min(sizes.channels, sizes.features) >= CHANNELS and x.shape[0] >= BATCH and work >= MULTIPLICATIONS


def output_product(sizes: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution of x by the kernel: [b, *image, channels], [3, 3, channels, features] -> [b, *out, features].

    Example:
      >>> sizes = Geometry((3, 3), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), channels=1, features=1)
      >>> output_product(sizes, jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0].round().astype(int).tolist()
      [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    """
    lows = [low for low, _ in sizes.padding]
    return outward(_filtered(inward(x), kernel.swapaxes(2, 3), lows, sizes.out))


def input_product(sizes: Geometry, y: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose in x: [b, *out, features], [3, 3, channels, features] -> [b, *image, channels].

    Example:
      >>> sizes = Geometry((3, 3), (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> input_product(sizes, jnp.ones((1, 1, 1, 1)), jnp.arange(9.0).reshape(3, 3, 1, 1))[0, :, :, 0].round().astype(int).tolist()
      [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    """
    lows = [TAPS - 1 - low for low, _ in sizes.padding]
    return outward(_filtered(inward(y), lax.rev(kernel, (0, 1)), lows, sizes.image))


def kernel_product(sizes: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The transpose in the kernel: [b, *image, channels], [b, *out, features] -> [3, 3, channels, features].

    Example:
      >>> sizes = Geometry((3, 3), (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> kernel_product(sizes, x, jnp.ones((1, 1, 1, 1)))[:, :, 0, 0].round().astype(int).tolist()
      [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    """
    lows = [low for low, _ in sizes.padding]
    values = zip(_input_values(inward(x), lows, sizes.out), _output_values(inward(y)), strict=True)
    products = [dot(of_x, of_y, None, over_columns=True) for of_x, of_y in values]
    flat = jnp.stack(products).reshape(len(products), -1)
    return jnp.matmul(_AT_POINTS.T, flat).reshape(TAPS, TAPS, sizes.channels, sizes.features)


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T [tile, span], G [span, taps], B^T [span, span]: a row of G and of B^T for each point, the last for infinity."""
    points = np.array(POINTS)
    others = [np.delete(points, i) for i in range(len(points))]
    roots = [np.append(np.poly(some)[::-1], 0.0) for some in others]  # coefficients, from the constant one on
    inputs = np.stack([*roots, np.poly(points)[::-1]])
    scales = np.array([np.prod(one - some) for one, some in zip(points, others, strict=True)])
    powers = points[:, None] ** np.arange(TAPS)
    kernels = np.vstack([powers / scales[:, None], np.eye(TAPS)[-1]])
    outputs = np.vstack([points[:, None] ** np.arange(TILE), np.eye(TILE)[-1]]).T
    return outputs, kernels, inputs


_OUTPUTS, _KERNELS, _INPUTS = _matrices()
_AT_POINTS = np.kron(_KERNELS, _KERNELS).astype(np.float32)  # [span^2, taps^2]


def _filtered(x: jax.Array, kernel: jax.Array, lows: Sequence[int], out: Sequence[int]) -> jax.Array:
    """x [c, h, w, b], ``lows`` blank pixels before it, by the kernel [3, 3, n, c] -> [n, *out, b]."""
    n, c = kernel.shape[2:]
    values = jnp.matmul(_AT_POINTS, kernel.reshape(TAPS**2, -1)).reshape(-1, n, c)
    products = [dot(one, of_x, None) for one, of_x in zip(values, _input_values(x, lows, out), strict=True)]
    rows = []
    for first in range(0, len(products), SPAN):
        columns = [_sum(weights, products[first : first + SPAN]) for weights in _OUTPUTS]
        rows.append(_side_by_side(columns, 2))
    rows = lax.optimization_barrier(rows)  # else each of a tile's rows makes all of them anew
    tiles = _side_by_side([_sum(weights, rows) for weights in _OUTPUTS], 1)
    return tiles[:, : out[0], : out[1]]


def _input_values(x: jax.Array, lows: Sequence[int], out: Sequence[int]) -> list[jax.Array]:
    """x [c, h, w, b] at the pairs of points, [c, tiles down, tiles across, b] each."""
    pads = [(low, _covered(o) + TAPS - 1 - low - n, 0) for low, o, n in zip(lows, out, x.shape[1:3], strict=True)]
    return _at_pairs(x, pads, _INPUTS)


def _output_values(y: jax.Array) -> list[jax.Array]:
    """The transpose of how tiles [n, h, w, b] are interpolated, for each pair of points."""
    return _at_pairs(y, [(0, _covered(n) - n, 0) for n in y.shape[1:3]], _OUTPUTS.T)


def _at_pairs(x: jax.Array, pads: Sequence[tuple[int, int, int]], weights: np.ndarray) -> list[jax.Array]:
    """The sums of every tile's pixels of the padded x, weighted by each pair of rows of ``weights`` [points, pixels]."""
    count = weights.shape[1]
    x = pad(x, [pads[0], (0, 0, 0)])
    rows = [_sum(row, _every(x, 1, count)) for row in weights]
    rows = [pad(row, [(0, 0, 0), pads[1]]) for row in lax.optimization_barrier(rows)]
    return [_sum(column, _every(row, 2, count)) for row in rows for column in weights]


def _covered(pixels: int) -> int:
    """Pixels of as many tiles as cover so many."""
    return -(-pixels // TILE) * TILE


def _every(x: jax.Array, axis: int, count: int) -> list[jax.Array]:
    """Pixel 0, 1, ... ``count`` - 1 of each tile along the axis."""
    last = (x.shape[axis] - count) // TILE * TILE
    return [lax.slice_in_dim(x, start, start + last + 1, TILE, axis) for start in range(count)]


def _sum(weights: np.ndarray, parts: Sequence[jax.Array]) -> jax.Array:
    """The weighted sum, without what has no weight."""
    terms = [part if w == 1.0 else part * np.float32(w) for w, part in zip(weights, parts, strict=True) if w]
    return sum(terms[1:], terms[0])


def _side_by_side(pixels: Sequence[jax.Array], axis: int) -> jax.Array:
    """Tiles from their pixels along the axis; the inverse of ``_every``."""
    stacked = jnp.stack(pixels, axis + 1)
    shape = pixels[0].shape
    return stacked.reshape(*shape[:axis], -1, *shape[axis + 1 :])
