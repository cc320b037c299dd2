"""Convolutions as matrix products, for the CPU, where XLA's own are slow, and inside a compiled loop tens of times slower.

The trilinear form sum(y * conv(x, kernel)) has three partial derivatives. Each is bilinear and written by hand here, because the
derivative rules of slices would give slow sums of padded arrays:

``forward``          (x, kernel) -> y       the convolution
``input_gradient``   (y, kernel) -> x       its transpose: the gradient in x, and every transposed convolution
``kernel_gradient``  (x, y) -> kernel       the gradient in the kernel

Space to depth: x is cut into blocks of one stride per axis, whose pixels become channels. This leaves a convolution of stride 1
with ceil(kernel / stride) taps.

im2col or kn2row, per axis: the taps of an axis are *gathered*, shifted copies of the operand stacked on its channels before the
product (im2col), or *scattered*, shifted results added after it (kn2row). ``ConvShape.scattered`` picks what makes products and
copies cheapest together: all axes scattered for 4x4 with stride 2 on large images, all gathered on small ones or those of one
channel, one of each for 3x3 with stride 1. The transpose gathers what was scattered.

CHWN: with channels first and the batch last, stacking channels copies whole arrays, a shift by pixels moves runs of at least b
numbers, and all three products read their operands as they lie. With channels last a training step at 64x64 takes about a quarter
longer. The elementwise operations between two layers inherit that order, since XLA lays out a transposed array as it lies
where it can.

Large 3x3 convolutions of stride 1 go to ``vaex.ops.cpu_conv.winograd``, with a quarter of the multiplications.

Axes: x [b, *image, channels], kernel [*size, channels, features], y [b, *out, features].

Source: Vasudevan, Anderson & Gregg 2017, Parallel multi channel convolution using general matrix multiplication (kn2row).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from vaex.ops.cpu_conv import winograd
from vaex.ops.cpu_conv.layout import dot, is_image, pad, to_chwn, to_nhwc
from vaex.ops.cpu_conv.shapes import ConvShape

Ranges = Sequence[tuple[int, int]]


def forward(conv: ConvShape, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution of x [b, *image, channels] with the kernel [*size, channels, features]: [b, *out, features].

    Example:
      >>> conv = ConvShape((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> forward(conv, jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1)))[0, :, :, 0]
      Array([[4., 4.],
             [4., 4.]], dtype=float32)
    """
    if winograd.applies(conv, x):
        return winograd.forward(conv, x, kernel)
    scattered = conv.scattered
    matrix = _kernel_matrix(_kernel_to_blocks(conv, kernel), scattered)
    result = dot(matrix, _gather_input(conv, to_chwn(x)), conv.precision)
    lows = [first if flag else 0 for flag, (first, _) in zip(scattered, conv.occupied, strict=True)]
    return to_nhwc(_add_taps(result, conv, scattered, conv.out, lows).astype(x.dtype))


def input_gradient(conv: ConvShape, y: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the transpose in x, of y [b, *out, features] and the kernel [*size, channels, features]: [b, *image, channels].

    Example:
      >>> conv = ConvShape((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> input_gradient(conv, jnp.ones((1, 2, 2, 1)), jnp.ones((2, 2, 1, 1))).shape
      (1, 4, 4, 1)
    """
    if winograd.applies(conv, y):
        return winograd.input_gradient(conv, y, kernel)
    gathered = _inverted(conv.scattered)
    flipped = lax.rev(_kernel_to_blocks(conv, kernel), range(len(conv.taps))).swapaxes(-1, -2)
    result = dot(_kernel_matrix(flipped, gathered), _gather_output(conv, to_chwn(y)), conv.precision)
    result = _add_taps(result, conv, gathered, _lengths(conv.occupied), _margins(conv, gathered))
    return to_nhwc(_from_blocks(conv, result).astype(y.dtype))


def kernel_gradient(conv: ConvShape, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the transpose in the kernel, of x [b, *image, channels] and y [b, *out, features]: [*size, channels, features].

    Example:
      >>> conv = ConvShape((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> kernel_gradient(conv, jnp.ones((3, 4, 4, 1)), jnp.ones((3, 2, 2, 1)))[:, :, 0, 0]
      Array([[12., 12.],
             [12., 12.]], dtype=float32)
    """
    if winograd.applies(conv, x):
        return winograd.kernel_gradient(conv, x, y)
    left, right = _gather_input(conv, to_chwn(x)), _gather_output(conv, to_chwn(y))
    blocks = _kernel_from_matrix(conv, dot(left, right, conv.precision, over_columns=True))
    reversed_axes = [axis for axis, flag in enumerate(conv.scattered) if flag]
    return _kernel_from_blocks(conv, lax.rev(blocks, reversed_axes)).astype(x.dtype)


def bias_gradient(y: jax.Array) -> jax.Array:
    """Return the sum of y [b, *out, features] over all axes but the features.

    Features are summed by a matrix product: XLA would lay out the operand of a sum, and everything around it, with the channels
    last. Images of few channels lie so anyway.

    Example:
      >>> bias_gradient(jnp.ones((2, 3, 4)))
      Array([6., 6., 6., 6.], dtype=float32)
    """
    if is_image(y.shape[-1]):
        return jnp.sum(y, axis=tuple(range(y.ndim - 1)))
    rows = to_chwn(y)
    ones = jnp.ones((1, *rows.shape[1:]), y.dtype)
    return dot(rows, ones, None, over_columns=True)[:, 0].astype(y.dtype)


def _inverted(flags: Sequence[bool]) -> tuple[bool, ...]:
    return tuple(not flag for flag in flags)


def _lengths(ranges: Ranges) -> tuple[int, ...]:
    return tuple(last - first for first, last in ranges)


def _margins(conv: ConvShape, flags: Sequence[bool]) -> list[int]:
    """Blank blocks before the first output on the flagged axes, counted from the first block of the image."""
    axes = zip(flags, conv.occupied, conv.reach, strict=True)
    return [reach - first if flag else 0 for flag, (first, _), reach in axes]


def _gather_input(conv: ConvShape, x: jax.Array) -> jax.Array:
    """The operand of the products from x: [gathered taps * depth, *columns, b], without blank blocks on scattered axes."""
    gathered = _inverted(conv.scattered)
    axes = zip(gathered, conv.blocks, conv.occupied, strict=True)
    ranges = [(0, b) if flag else occupied for flag, b, occupied in axes]
    return _stack_taps(_to_blocks(conv, x, ranges), conv, gathered, conv.out, [0] * len(ranges))


def _gather_output(conv: ConvShape, y: jax.Array) -> jax.Array:
    """The operand of the gradients from y: [scattered taps * features, *columns, b], columns being blocks of the image and taps
    reversed."""
    return _stack_taps(y, conv, conv.scattered, _lengths(conv.occupied), _margins(conv, conv.scattered))


def _tap_starts(conv: ConvShape, flags: Sequence[bool]) -> list[list[int]]:
    """The first block of every tap's window on the flagged axes; the last axis varies fastest."""
    counts = [range(t) if flag else (0,) for t, flag in zip(conv.taps, flags, strict=True)]
    return [[i * step for i, step in zip(tap, conv.tap_distance, strict=True)] for tap in itertools.product(*counts)]


def _window(x: jax.Array, starts: Sequence[int], spans: Sequence[int], lows: Sequence[int]) -> jax.Array:
    """The window of ``spans`` pixels from ``starts`` on, of x with ``lows`` zeros before it and enough after: one pad or crop."""
    axes = zip(x.shape[1:-1], starts, spans, lows, strict=True)
    pads = [(low - start, start + span - low - n, 0) for n, start, span, low in axes]
    return pad(x, pads)


def _window_spans(x: jax.Array, flags: Sequence[bool], spans: Sequence[int]) -> list[int]:
    return [span if flag else n for span, flag, n in zip(spans, flags, x.shape[1:-1], strict=True)]


def _stack_taps(
    x: jax.Array, conv: ConvShape, flags: Sequence[bool], spans: Sequence[int], lows: Sequence[int]
) -> jax.Array:
    """im2col: shifted copies of x, one per tap of the flagged axes, stacked on the channels."""
    spans = _window_spans(x, flags, spans)
    copies = [_window(x, starts, spans, lows) for starts in _tap_starts(conv, flags)]
    return lax.concatenate(copies, 0) if len(copies) > 1 else copies[0]


def _add_taps(
    x: jax.Array, conv: ConvShape, flags: Sequence[bool], spans: Sequence[int], lows: Sequence[int]
) -> jax.Array:
    """kn2row: the sum over the taps of the flagged axes of each tap's channels, shifted by the tap."""
    spans, taps = _window_spans(x, flags, spans), _tap_starts(conv, flags)
    width = x.shape[0] // len(taps)
    shifted = [_window(x[i * width : (i + 1) * width], starts, spans, lows) for i, starts in enumerate(taps)]
    return sum(shifted[1:], shifted[0])


def _to_blocks(conv: ConvShape, x: jax.Array, ranges: Ranges) -> jax.Array:
    """Space to depth over the given ranges of blocks: [c, *image, b] -> [phases * c, *blocks, b]."""
    phases = itertools.product(*(range(phase) for phase in conv.phases))
    parts = [_phase(conv, x, ranges, phase) for phase in phases]
    return lax.concatenate(parts, 0) if len(parts) > 1 else parts[0]


def _phase(conv: ConvShape, x: jax.Array, ranges: Ranges, phase: Sequence[int]) -> jax.Array:
    """The pixel of one phase in every block, zero where it lies outside the image."""
    starts, limits, pads = [], [], []
    for n, (low, _), stride, (first, last), p in zip(
        conv.image, conv.padding, conv.strides, ranges, phase, strict=True
    ):
        begin = min(max(first, -(-(low - p) // stride)), last)  # the first block whose pixel is in the image
        end = min(max(begin, (n - 1 + low - p) // stride + 1), last)
        starts.append(begin * stride + p - low if end > begin else 0)
        limits.append((end - 1) * stride + p - low + 1 if end > begin else 0)
        pads.append((begin - first, last - end, 0))
    pixels = lax.slice(x, [0, *starts, 0], [x.shape[0], *limits, x.shape[-1]], [1, *conv.strides, 1])
    return pad(pixels, pads)


def _from_blocks(conv: ConvShape, x: jax.Array) -> jax.Array:
    """Depth to space, the transpose of ``_to_blocks`` over the occupied ranges: [phases * c, *blocks, b] -> [c, *image, b]."""
    batch, spans, rank = x.shape[-1], _lengths(conv.occupied), len(conv.image)
    if any(s > 1 for s in conv.strides):
        x = x.reshape(*conv.phases, conv.channels, *spans, batch)
        x = x.transpose(rank, *(axis for i in range(rank) for axis in (rank + 1 + i, i)), 2 * rank + 1)
        unread = [s - f for s, f in zip(conv.strides, conv.phases, strict=True)]
        x = pad(x, [(0, width, 0) for pair in zip([0] * rank, unread, strict=True) for width in pair])
        x = x.reshape(conv.channels, *(b * s for b, s in zip(spans, conv.strides, strict=True)), batch)
    axes = zip(conv.image, conv.padding, conv.strides, conv.occupied, strict=True)
    return pad(x, [(first * s - low, low + n - last * s, 0) for n, (low, _), s, (first, last) in axes])


def _kernel_to_blocks(conv: ConvShape, kernel: jax.Array) -> jax.Array:
    """The kernel of the convolution over blocks: [*size, c, features] -> [*taps, phases * c, features]."""
    taps, phases, rank = conv.taps, conv.phases, len(conv.taps)
    axes = zip(taps, phases, conv.dense_kernel, conv.zero_filled, conv.dilation, strict=True)
    pads = [(0, t * f - size, d - 1 if filled else 0) for t, f, size, filled, d in axes]
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [*pads, (0, 0, 0), (0, 0, 0)])
    kernel = kernel.reshape(*itertools.chain(*zip(taps, phases, strict=True)), *kernel.shape[-2:])
    kernel = kernel.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), 2 * rank, 2 * rank + 1)
    return kernel.reshape(*taps, conv.depth, conv.features)


def _kernel_from_blocks(conv: ConvShape, blocks: jax.Array) -> jax.Array:
    """The transpose of ``_kernel_to_blocks``."""
    taps, phases, rank = conv.taps, conv.phases, len(conv.taps)
    kernel = blocks.reshape(*taps, *phases, conv.channels, conv.features)
    order = [axis + half for axis in range(rank) for half in (0, rank)]
    kernel = kernel.transpose(*order, 2 * rank, 2 * rank + 1)
    kernel = kernel.reshape(*(t * f for t, f in zip(taps, phases, strict=True)), *kernel.shape[-2:])
    dilation = [d if filled else 1 for d, filled in zip(conv.dilation, conv.zero_filled, strict=True)]
    return lax.slice(kernel, [0] * kernel.ndim, [*conv.dense_kernel, *kernel.shape[-2:]], [*dilation, 1, 1])


def _matrix_order(scattered: Sequence[bool]) -> list[int]:
    """Axes of kernel blocks in the order of their gradient: gathered taps, depth; scattered taps, features."""
    rank = len(scattered)
    gathered = [axis for axis in range(rank) if not scattered[axis]]
    return [*gathered, rank, *(axis for axis in range(rank) if scattered[axis]), rank + 1]


def _kernel_matrix(blocks: jax.Array, scattered: Sequence[bool]) -> jax.Array:
    """Kernel blocks [*taps, m, n] as the left operand of a product: [scattered taps * n, gathered taps * m]."""
    order, rank = _matrix_order(scattered), len(scattered)
    split = order.index(rank) + 1
    inputs = math.prod(blocks.shape[axis] for axis in order[:split])
    return blocks.transpose(*order[split:], *order[:split]).reshape(-1, inputs)


def _kernel_from_matrix(conv: ConvShape, matrix: jax.Array) -> jax.Array:
    """The gradient of the kernel [gathered taps * depth, scattered taps * features] as kernel blocks."""
    order = _matrix_order(conv.scattered)
    shape = (*conv.taps, conv.depth, conv.features)
    blocks = matrix.reshape([shape[axis] for axis in order])
    return blocks.transpose([order.index(axis) for axis in range(len(order))])
