"""Convolutions as matrix products, for the CPU, where XLA's own are slow and inside a compiled loop catastrophically so.

The trilinear form sum(y * conv(x, kernel)) has three partial derivatives, each bilinear and each written by hand here,
because the derivative rules of slices give slow sums of padded arrays:

``output_product``  (x, kernel) -> y       the convolution
``input_product``   (y, kernel) -> x       its transpose: the gradient in x, and every transposed convolution
``kernel_product``  (x, y) -> kernel       the gradient in the kernel

Strides: x is cut into blocks of one stride an axis whose pixels become channels (space to depth), which leaves a
convolution of stride 1 with ceil(kernel / stride) taps. The taps of an axis are then either *gathered*, shifted copies of
the operand stacked on its channels before the product, or *scattered*, shifted results added after it. The modes are
chosen so that products and copies cost least together: all axes scattered for 4x4 with stride 2 on large images, all
gathered on small ones or those of one channel, one of each for 3x3 with stride 1. The transpose gathers what was scattered.

Inside, channels come first and the batch last: [channels, *image, b]. Then stacking channels is copying whole arrays, a
shift by pixels moves runs of at least b numbers, and all three products read their operands as they lie. (With channels
last, as outside, a training step at 64x64 takes about a quarter longer.) The elementwise operations between two layers
inherit that order, since XLA lays out a transposed array as it lies where it can.

Of large layers of 3x3 with stride 1, ``vaex.ops.cpu_conv.winograd`` makes the same products with a quarter of the multiplications.

Axes: x [b, *image, channels], kernel [*size, channels, features], y [b, *out, features].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from vaex.ops.cpu_conv import winograd as minimal
from vaex.ops.cpu_conv.layout import dot, few, inward, outward, pad
from vaex.ops.cpu_conv.shapes import Geometry

Pairs = Sequence[tuple[int, int]]


def output_product(sizes: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution of x by the kernel: [b, *image, channels], [*size, channels, features] -> [b, *out, features].

    Example:
      >>> sizes = Geometry((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> output_product(sizes, jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1)))[0, :, :, 0]
      Array([[4., 4.],
             [4., 4.]], dtype=float32)
    """
    if minimal.suits(sizes, x):
        return minimal.output_product(sizes, x, kernel)
    scattered = sizes.scattered
    matrix = _matrix(_kernel_blocks(sizes, kernel), scattered)
    result = dot(matrix, _gathered_input(sizes, inward(x)), sizes.precision)
    lows = [first if flag else 0 for flag, (first, _) in zip(scattered, sizes.occupied, strict=True)]
    return outward(_overlap(result, sizes, scattered, sizes.out, lows).astype(x.dtype))


def input_product(sizes: Geometry, y: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose in x: [b, *out, features], [*size, channels, features] -> [b, *image, channels].

    Example:
      >>> sizes = Geometry((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> input_product(sizes, jnp.ones((1, 2, 2, 1)), jnp.ones((2, 2, 1, 1))).shape
      (1, 4, 4, 1)
    """
    if minimal.suits(sizes, y):
        return minimal.input_product(sizes, y, kernel)
    gathered = _inverted(sizes.scattered)
    blocks = lax.rev(_kernel_blocks(sizes, kernel), range(len(sizes.taps))).swapaxes(-1, -2)
    result = dot(_matrix(blocks, gathered), _gathered_output(sizes, inward(y)), sizes.precision)
    result = _overlap(result, sizes, gathered, _spans(sizes.occupied), _margins(sizes, gathered))
    return outward(_from_blocks(sizes, result).astype(y.dtype))


def kernel_product(sizes: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The transpose in the kernel: [b, *image, channels], [b, *out, features] -> [*size, channels, features].

    Example:
      >>> sizes = Geometry((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> kernel_product(sizes, jnp.ones((3, 4, 4, 1)), jnp.ones((3, 2, 2, 1)))[:, :, 0, 0]
      Array([[12., 12.],
             [12., 12.]], dtype=float32)
    """
    if minimal.suits(sizes, x):
        return minimal.kernel_product(sizes, x, y)
    left, right = _gathered_input(sizes, inward(x)), _gathered_output(sizes, inward(y))
    blocks = _from_matrix(sizes, dot(left, right, sizes.precision, over_columns=True))
    flipped = [axis for axis, flag in enumerate(sizes.scattered) if flag]
    return _from_kernel_blocks(sizes, lax.rev(blocks, flipped)).astype(x.dtype)


def bias_product(y: jax.Array) -> jax.Array:
    """The sum over all but the features: [b, *out, features] -> [features].

    As a product, because XLA would have a sum's operand lie with the channels last, and all around it too; images of few
    channels lie so anyway.

    Example:
      >>> bias_product(jnp.ones((2, 3, 4)))
      Array([6., 6., 6., 6.], dtype=float32)
    """
    if few(y.shape[-1]):
        return jnp.sum(y, axis=tuple(range(y.ndim - 1)))
    rows = inward(y)
    ones = jnp.ones((1, *rows.shape[1:]), y.dtype)
    return dot(rows, ones, None, over_columns=True)[:, 0].astype(y.dtype)


def _inverted(flags: Sequence[bool]) -> tuple[bool, ...]:
    return tuple(not flag for flag in flags)


def _spans(ranges: Pairs) -> tuple[int, ...]:
    return tuple(last - first for first, last in ranges)


def _margins(sizes: Geometry, flags: Sequence[bool]) -> list[int]:
    """Blank blocks before the first output on the flagged axes, as the image's blocks see it."""
    axes = zip(flags, sizes.occupied, sizes.reach, strict=True)
    return [reach - first if flag else 0 for flag, (first, _), reach in axes]


def _gathered_input(sizes: Geometry, x: jax.Array) -> jax.Array:
    """Right operand of the product: [taps gathered * depth, columns..., b]; without blank blocks on scattered axes."""
    gathered = _inverted(sizes.scattered)
    axes = zip(gathered, sizes.blocks, sizes.occupied, strict=True)
    ranges = [(0, b) if flag else occupied for flag, b, occupied in axes]
    return _stack(_to_blocks(sizes, x, ranges), sizes, gathered, sizes.out, [0] * len(ranges))


def _gathered_output(sizes: Geometry, y: jax.Array) -> jax.Array:
    """The same for y, seen from the image's blocks, with the taps in reverse: [taps scattered * features, columns..., b]."""
    return _stack(y, sizes, sizes.scattered, _spans(sizes.occupied), _margins(sizes, sizes.scattered))


def _taps(sizes: Geometry, flags: Sequence[bool]) -> list[list[int]]:
    """Where the window of every tap of the flagged axes starts, in blocks, the last axis varying fastest."""
    counts = [range(t) if flag else (0,) for t, flag in zip(sizes.taps, flags, strict=True)]
    return [[i * step for i, step in zip(tap, sizes.steps, strict=True)] for tap in itertools.product(*counts)]


def _window(x: jax.Array, starts: Sequence[int], spans: Sequence[int], lows: Sequence[int]) -> jax.Array:
    """Windows of ``spans`` pixels of x, were it padded by ``lows`` zeros before and enough after: one pad or crop."""
    axes = zip(x.shape[1:-1], starts, spans, lows, strict=True)
    pads = [(low - start, start + span - low - n, 0) for n, start, span, low in axes]
    return pad(x, pads)


def _flagged(x: jax.Array, flags: Sequence[bool], spans: Sequence[int]) -> list[int]:
    return [span if flag else n for span, flag, n in zip(spans, flags, x.shape[1:-1], strict=True)]


def _stack(
    x: jax.Array, sizes: Geometry, flags: Sequence[bool], spans: Sequence[int], lows: Sequence[int]
) -> jax.Array:
    """Shifted copies of x, one per tap of the flagged axes, on top of each other."""
    spans = _flagged(x, flags, spans)
    parts = [_window(x, starts, spans, lows) for starts in _taps(sizes, flags)]
    return lax.concatenate(parts, 0) if len(parts) > 1 else parts[0]


def _overlap(
    x: jax.Array, sizes: Geometry, flags: Sequence[bool], spans: Sequence[int], lows: Sequence[int]
) -> jax.Array:
    """Sum over the taps of the flagged axes of their channels, each shifted by its tap."""
    spans, taps = _flagged(x, flags, spans), _taps(sizes, flags)
    width = x.shape[0] // len(taps)
    parts = [_window(x[i * width : (i + 1) * width], starts, spans, lows) for i, starts in enumerate(taps)]
    return sum(parts[1:], parts[0])


def _to_blocks(sizes: Geometry, x: jax.Array, ranges: Pairs) -> jax.Array:
    """Space to depth over the given ranges of blocks: [c, *image, b] -> [phases * c, *blocks, b]."""
    phases = itertools.product(*(range(phase) for phase in sizes.phases))
    parts = [_phase(sizes, x, ranges, phase) for phase in phases]
    return lax.concatenate(parts, 0) if len(parts) > 1 else parts[0]


def _phase(sizes: Geometry, x: jax.Array, ranges: Pairs, phase: Sequence[int]) -> jax.Array:
    """Every block's pixel of one phase, zero where that lies outside of the image."""
    starts, limits, pads = [], [], []
    for n, (low, _), stride, (first, last), p in zip(
        sizes.image, sizes.padding, sizes.strides, ranges, phase, strict=True
    ):
        begin = min(max(first, -(-(low - p) // stride)), last)  # the first block whose pixel is in the image
        end = min(max(begin, (n - 1 + low - p) // stride + 1), last)
        starts.append(begin * stride + p - low if end > begin else 0)
        limits.append((end - 1) * stride + p - low + 1 if end > begin else 0)
        pads.append((begin - first, last - end, 0))
    cut = lax.slice(x, [0, *starts, 0], [x.shape[0], *limits, x.shape[-1]], [1, *sizes.strides, 1])
    return pad(cut, pads)


def _from_blocks(sizes: Geometry, x: jax.Array) -> jax.Array:
    """The transpose of ``_to_blocks`` over the occupied ranges."""
    batch, spans, rank = x.shape[-1], _spans(sizes.occupied), len(sizes.image)
    if any(s > 1 for s in sizes.strides):
        x = x.reshape(*sizes.phases, sizes.channels, *spans, batch)
        x = x.transpose(rank, *(axis for i in range(rank) for axis in (rank + 1 + i, i)), 2 * rank + 1)
        blank = [s - f for s, f in zip(sizes.strides, sizes.phases, strict=True)]
        x = pad(x, [(0, width, 0) for pair in zip([0] * rank, blank, strict=True) for width in pair])
        x = x.reshape(sizes.channels, *(b * s for b, s in zip(spans, sizes.strides, strict=True)), batch)
    axes = zip(sizes.image, sizes.padding, sizes.strides, sizes.occupied, strict=True)
    return pad(x, [(first * s - low, low + n - last * s, 0) for n, (low, _), s, (first, last) in axes])


def _kernel_blocks(sizes: Geometry, kernel: jax.Array) -> jax.Array:
    """The kernel of the convolution over blocks: [*size, c, features] -> [*taps, phases * c, features]."""
    taps, phases, rank = sizes.taps, sizes.phases, len(sizes.taps)
    axes = zip(taps, phases, sizes.dense, sizes.filled, sizes.dilation, strict=True)
    pads = [(0, t * f - size, d - 1 if filled else 0) for t, f, size, filled, d in axes]
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [*pads, (0, 0, 0), (0, 0, 0)])
    kernel = kernel.reshape(*itertools.chain(*zip(taps, phases, strict=True)), *kernel.shape[-2:])
    kernel = kernel.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), 2 * rank, 2 * rank + 1)
    return kernel.reshape(*taps, sizes.depth, sizes.features)


def _from_kernel_blocks(sizes: Geometry, blocks: jax.Array) -> jax.Array:
    """The transpose of ``_kernel_blocks``."""
    taps, phases, rank = sizes.taps, sizes.phases, len(sizes.taps)
    kernel = blocks.reshape(*taps, *phases, sizes.channels, sizes.features)
    order = [axis + half for axis in range(rank) for half in (0, rank)]
    kernel = kernel.transpose(*order, 2 * rank, 2 * rank + 1)
    kernel = kernel.reshape(*(t * f for t, f in zip(taps, phases, strict=True)), *kernel.shape[-2:])
    every = [d if filled else 1 for d, filled in zip(sizes.dilation, sizes.filled, strict=True)]
    return lax.slice(kernel, [0] * kernel.ndim, [*sizes.dense, *kernel.shape[-2:]], [*every, 1, 1])


def _order(scattered: Sequence[bool]) -> list[int]:
    """Axes of kernel blocks as their gradient comes: gathered taps, depth; scattered taps, features."""
    rank = len(scattered)
    gathered = [axis for axis in range(rank) if not scattered[axis]]
    return [*gathered, rank, *(axis for axis in range(rank) if scattered[axis]), rank + 1]


def _matrix(blocks: jax.Array, scattered: Sequence[bool]) -> jax.Array:
    """Kernel blocks [*taps, m, n] as the product wants them: [scattered taps * n, gathered taps * m]."""
    order, rank = _order(scattered), len(scattered)
    split = order.index(rank) + 1
    before = math.prod(blocks.shape[axis] for axis in order[:split])
    return blocks.transpose(*order[split:], *order[:split]).reshape(-1, before)


def _from_matrix(sizes: Geometry, matrix: jax.Array) -> jax.Array:
    """The kernel's gradient [gathered taps * depth, scattered taps * features] as kernel blocks."""
    order = _order(sizes.scattered)
    shape = (*sizes.taps, sizes.depth, sizes.features)
    blocks = matrix.reshape([shape[axis] for axis in order])
    return blocks.transpose([order.index(axis) for axis in range(len(order))])
