r"""Winograd convolution F(4x4, 3x3): 3x3 kernels with stride 1, with a quarter of the multiplications.

A tile of 4x4 outputs reads 6x6 inputs. Along one axis its outputs are :math:`A^\top[(G k) \odot (B^\top x)]`: kernel and input are
evaluated as polynomials at six points (one of them infinity), multiplied, and interpolated. A convolution is thus 36 matrix
products over channels, one for each pair of points, over the tiles of the whole batch. The gradient in the kernel is
:math:`G^\top[\sum (A y) \odot (B^\top x)]`; the gradient in the input is a convolution with the flipped kernel.

What it buys: a convolution of 64 channels on 16x16 with its gradients takes 1.4 to 1.7 times less time than by im2col, one on
14x14 1.2 to 1.3 times less. Its time goes into moving the values at the points, 2.25 times the pixels, so it gains only where
channels are many. Tiles of 2x2, and 4x4 kernels of stride 2 over blocks, gained nothing.

What it costs: up to ten times the rounding of a plain sum, 2e-6 to 6e-6 of the largest result.

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

from vaex.ops.cpu_conv.layout import batch_is_sharded, dot, pad, to_chwn, to_nhwc
from vaex.ops.cpu_conv.shapes import ConvShape

OUTPUT_TILE, KERNEL = 4, 3
INPUT_TILE = OUTPUT_TILE + KERNEL - 1  # pixels that a tile reads along an axis, and as many points
FINITE_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)  # the sixth is infinity
MIN_CHANNELS, MIN_BATCH, MIN_MULTIPLICATIONS = 16, 64, 10**8  # of the smallest convolutions for which it is quicker


def applies(conv: ConvShape, x: jax.Array) -> bool:
    """Return whether the convolution is quicker this way, and accurate enough.

    Small ones are not quicker: starting so many small operations takes their time. Products of low precision are not accurate
    enough.

    Args:
      conv: the convolution.
      x: its input or its output; batch size and dtype count.
    """
    if (conv.kernel, conv.strides) != ((KERNEL, KERNEL), (1, 1)) or conv.dilation != (1, 1) or x.dtype != jnp.float32:
        return False
    precision = conv.precision or jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    if precision not in (None, "default", lax.Precision.DEFAULT) or batch_is_sharded():
        return False
    multiplications = x.shape[0] * math.prod(conv.out) * KERNEL**2 * conv.channels * conv.features
    large = x.shape[0] >= MIN_BATCH and multiplications >= MIN_MULTIPLICATIONS
    return min(conv.channels, conv.features) >= MIN_CHANNELS and large


def forward(conv: ConvShape, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution of x [b, *image, channels] with the kernel [3, 3, channels, features]: [b, *out, features].

    Example:
      >>> conv = ConvShape((3, 3), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), channels=1, features=1)
      >>> forward(conv, jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0].round().astype(int).tolist()
      [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    """
    lows = [low for low, _ in conv.padding]
    return to_nhwc(_convolve(to_chwn(x), kernel.swapaxes(2, 3), lows, conv.out))


def input_gradient(conv: ConvShape, y: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the transpose in x, of y [b, *out, features] and the kernel [3, 3, channels, features]: [b, *image, channels].

    Example:
      >>> conv = ConvShape((3, 3), (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
      >>> input_gradient(conv, jnp.ones((1, 1, 1, 1)), kernel)[0, :, :, 0].round().astype(int).tolist()
      [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    """
    lows = [KERNEL - 1 - low for low, _ in conv.padding]
    return to_nhwc(_convolve(to_chwn(y), lax.rev(kernel, (0, 1)), lows, conv.image))


def kernel_gradient(conv: ConvShape, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the transpose in the kernel, of x [b, *image, channels] and y [b, *out, features]: [3, 3, channels, features].

    Example:
      >>> conv = ConvShape((3, 3), (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> kernel_gradient(conv, x, jnp.ones((1, 1, 1, 1)))[:, :, 0, 0].round().astype(int).tolist()
      [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    """
    lows = [low for low, _ in conv.padding]
    pairs = zip(_transform_input(to_chwn(x), lows, conv.out), _transform_output(to_chwn(y)), strict=True)
    products = [dot(x_values, y_values, None, over_columns=True) for x_values, y_values in pairs]
    flat = jnp.stack(products).reshape(len(products), -1)
    return jnp.matmul(_G_PAIRS.T, flat).reshape(KERNEL, KERNEL, conv.channels, conv.features)


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T [output tile, points], G [points, kernel], B^T [points, input tile]; the last point is infinity."""
    points = np.array(FINITE_POINTS)
    others = [np.delete(points, i) for i in range(len(points))]
    numerators = [
        np.append(np.poly(roots)[::-1], 0.0) for roots in others
    ]  # of Lagrange, from the constant coefficient on
    b_transposed = np.stack([*numerators, np.poly(points)[::-1]])
    denominators = np.array([np.prod(point - roots) for point, roots in zip(points, others, strict=True)])
    powers = points[:, None] ** np.arange(KERNEL)
    g = np.vstack([powers / denominators[:, None], np.eye(KERNEL)[-1]])
    a_transposed = np.vstack([points[:, None] ** np.arange(OUTPUT_TILE), np.eye(OUTPUT_TILE)[-1]]).T
    return a_transposed, g, b_transposed


_A_T, _G, _B_T = _transforms()
_G_PAIRS = np.kron(_G, _G).astype(np.float32)  # [points^2, kernel^2]


def _convolve(x: jax.Array, kernel: jax.Array, lows: Sequence[int], out: Sequence[int]) -> jax.Array:
    """Convolve x [c, h, w, b], padded by ``lows`` zeros before it, with the kernel [3, 3, n, c]: [n, *out, b]."""
    n, c = kernel.shape[2:]
    kernel_values = jnp.matmul(_G_PAIRS, kernel.reshape(KERNEL**2, -1)).reshape(-1, n, c)
    pairs = zip(kernel_values, _transform_input(x, lows, out), strict=True)
    products = [dot(matrix, x_values, None) for matrix, x_values in pairs]
    rows = []
    for first in range(0, len(products), INPUT_TILE):
        columns = [_weighted_sum(weights, products[first : first + INPUT_TILE]) for weights in _A_T]
        rows.append(_interleave(columns, 2))
    rows = lax.optimization_barrier(rows)  # without it each row of a tile recomputes all of them
    tiles = _interleave([_weighted_sum(weights, rows) for weights in _A_T], 1)
    return tiles[:, : out[0], : out[1]]


def _transform_input(x: jax.Array, lows: Sequence[int], out: Sequence[int]) -> list[jax.Array]:
    """B^T x B of every tile of x [c, h, w, b]: for each pair of points [c, tiles down, tiles across, b]."""
    axes = zip(lows, out, x.shape[1:3], strict=True)
    pads = [(low, _whole_tiles(o) + KERNEL - 1 - low - n, 0) for low, o, n in axes]
    return _transform_tiles(x, pads, _B_T)


def _transform_output(y: jax.Array) -> list[jax.Array]:
    """A y A^T of every tile of y [n, h, w, b], the transpose of their interpolation: for each pair of points."""
    return _transform_tiles(y, [(0, _whole_tiles(n) - n, 0) for n in y.shape[1:3]], _A_T.T)


def _transform_tiles(x: jax.Array, pads: Sequence[tuple[int, int, int]], weights: np.ndarray) -> list[jax.Array]:
    """Sums of the pixels of every tile of the padded x, weighted by each pair of rows of ``weights`` [points, pixels]."""
    pixels = weights.shape[1]
    x = pad(x, [pads[0], (0, 0, 0)])
    rows = [_weighted_sum(row, _tile_pixels(x, 1, pixels)) for row in weights]
    rows = [pad(row, [(0, 0, 0), pads[1]]) for row in lax.optimization_barrier(rows)]
    return [_weighted_sum(column, _tile_pixels(row, 2, pixels)) for row in rows for column in weights]


def _whole_tiles(pixels: int) -> int:
    """Pixels of the output tiles that cover so many pixels."""
    return -(-pixels // OUTPUT_TILE) * OUTPUT_TILE


def _tile_pixels(x: jax.Array, axis: int, count: int) -> list[jax.Array]:
    """Pixel 0, 1, ... ``count`` - 1 of each tile along the axis."""
    last = (x.shape[axis] - count) // OUTPUT_TILE * OUTPUT_TILE
    return [lax.slice_in_dim(x, start, start + last + 1, OUTPUT_TILE, axis) for start in range(count)]


def _weighted_sum(weights: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """The weighted sum, without terms of weight 0 and without multiplications by 1."""
    terms = [array if w == 1.0 else array * np.float32(w) for w, array in zip(weights, arrays, strict=True) if w]
    return sum(terms[1:], terms[0])


def _interleave(pixels: Sequence[jax.Array], axis: int) -> jax.Array:
    """Tiles from their pixels along the axis; the inverse of ``_tile_pixels``."""
    stacked = jnp.stack(pixels, axis + 1)
    shape = pixels[0].shape
    return stacked.reshape(*shape[:axis], -1, *shape[axis + 1 :])
