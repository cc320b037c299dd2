"""Convolutions as matrix products, for the CPU, where XLA's own are slow and inside a compiled loop catastrophically so.

The trilinear form sum(y * conv(x, kernel)) has three partial derivatives, each bilinear and each written by hand here,
because the derivative rules of slices give slow sums of padded arrays:

``output_product``  (x, kernel) -> y       the convolution
``input_product``   (y, kernel) -> x       its transpose: the gradient in x, and every transposed convolution
``kernel_product``  (x, y) -> kernel       the gradient in the kernel

Strides: x is cut into blocks of one stride an axis whose pixels become channels (space to depth), which leaves a
convolution of stride 1 with ceil(kernel / stride) taps. The taps of an axis are then either *gathered*, shifted copies of
the operand stacked on its channels before the product, or *scattered*, shifted results added after it. The modes are
chosen so that operand and result are narrowest together: all axes scattered for 4x4 with stride 2 between wide layers,
all gathered where the image has one channel, one of each for 3x3 with stride 1. The transpose gathers what was scattered.

Axes: x [b, *image, channels], kernel [*size, channels, features], y [b, *out, features].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from vaex.nets.geometry import Geometry

Pairs = Sequence[tuple[int, int]]


def output_product(sizes: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution of x by the kernel: [b, *image, channels], [*size, channels, features] -> [b, *out, features].

    Example:
      >>> sizes = Geometry((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> output_product(sizes, jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1)))[0, :, :, 0]
      Array([[4., 4.],
             [4., 4.]], dtype=float32)
    """
    scattered = sizes.scattered
    matrix = _matrix(_kernel_blocks(sizes, kernel), scattered)
    result = _dot(_gathered_input(sizes, x), matrix, sizes)
    blank = [(first, b - last) for (first, last), b in zip(sizes.occupied, sizes.blocks, strict=True)]
    result = _pad(result, _where(scattered, blank))
    return _overlap(result, sizes, scattered, sizes.out).astype(x.dtype)


def input_product(sizes: Geometry, y: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose in x: [b, *out, features], [*size, channels, features] -> [b, *image, channels].

    Example:
      >>> sizes = Geometry((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> input_product(sizes, jnp.ones((1, 2, 2, 1)), jnp.ones((2, 2, 1, 1))).shape
      (1, 4, 4, 1)
    """
    gathered = _inverted(sizes.scattered)
    blocks = lax.rev(_kernel_blocks(sizes, kernel), range(len(sizes.taps))).swapaxes(-1, -2)
    result = _dot(_gathered_output(sizes, y), _matrix(blocks, gathered), sizes)
    axes = zip(sizes.occupied, sizes.reach, sizes.out, strict=True)
    margins = [(reach - first, last - o) for (first, last), reach, o in axes]
    result = _overlap(_pad(result, _where(gathered, margins)), sizes, gathered, _spans(sizes.occupied))
    return _from_blocks(sizes, result).astype(y.dtype)


def kernel_product(sizes: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """The transpose in the kernel: [b, *image, channels], [b, *out, features] -> [*size, channels, features].

    Example:
      >>> sizes = Geometry((4, 4), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), channels=1, features=1)
      >>> kernel_product(sizes, jnp.ones((3, 4, 4, 1)), jnp.ones((3, 2, 2, 1)))[:, :, 0, 0]
      Array([[12., 12.],
             [12., 12.]], dtype=float32)
    """
    left, right = _gathered_input(sizes, x), _gathered_output(sizes, y)
    rows = tuple(range(left.ndim - 1))
    matrix = lax.dot_general(
        left, right, ((rows, rows), ((), ())), precision=sizes.precision, preferred_element_type=_accumulator(x.dtype)
    )
    blocks = _from_matrix(sizes, matrix)
    flipped = [axis for axis, flag in enumerate(sizes.scattered) if flag]
    return _from_kernel_blocks(sizes, lax.rev(blocks, flipped)).astype(x.dtype)


def _accumulator(dtype: jnp.dtype) -> jnp.dtype | None:
    """Shifted results of low precision are added in float32."""
    return jnp.dtype(jnp.float32) if dtype in (jnp.bfloat16, jnp.float16) else None


def _dot(left: jax.Array, matrix: jax.Array, sizes: Geometry) -> jax.Array:
    numbers = (((left.ndim - 1,), (0,)), ((), ()))
    accumulator = _accumulator(left.dtype)
    return lax.dot_general(left, matrix, numbers, precision=sizes.precision, preferred_element_type=accumulator)


def _inverted(flags: Sequence[bool]) -> tuple[bool, ...]:
    return tuple(not flag for flag in flags)


def _where(flags: Sequence[bool], pairs: Pairs) -> Pairs:
    return [pair if flag else (0, 0) for flag, pair in zip(flags, pairs, strict=True)]


def _spans(ranges: Pairs) -> tuple[int, ...]:
    return tuple(last - first for first, last in ranges)


def _pad(x: jax.Array, pairs: Pairs) -> jax.Array:
    """Zeros around the spatial axes; negative numbers crop."""
    if not any(itertools.chain(*pairs)):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pairs), (0, 0, 0)])


def _gathered_input(sizes: Geometry, x: jax.Array) -> jax.Array:
    """Left operand of the product: [b, rows..., taps gathered * depth]; without blank blocks on scattered axes."""
    gathered = _inverted(sizes.scattered)
    axes = zip(gathered, sizes.blocks, sizes.occupied, strict=True)
    ranges = [(0, b) if flag else occupied for flag, b, occupied in axes]
    return _stack(_to_blocks(sizes, x, ranges), sizes, gathered, sizes.out)


def _gathered_output(sizes: Geometry, y: jax.Array) -> jax.Array:
    """The same for y, seen from the image's blocks, with the taps in reverse: [b, rows..., taps scattered * features]."""
    axes = zip(sizes.occupied, sizes.reach, sizes.out, strict=True)
    margins = _where(sizes.scattered, [(reach - first, last - o) for (first, last), reach, o in axes])
    if any(itertools.chain(*margins)):
        # Without the barrier XLA merges padding into the slices and tests every element for it.
        y = lax.optimization_barrier(_pad(y, margins))
    return _stack(y, sizes, sizes.scattered, _spans(sizes.occupied))


def _shifts(shape: Sequence[int], sizes: Geometry, flags: Sequence[bool], spans: Sequence[int]) -> list:
    """(start, limit) of every tap's window of ``spans`` blocks on the flagged axes, the last axis varying fastest."""
    counts = [range(t) if flag else (0,) for t, flag in zip(sizes.taps, flags, strict=True)]
    ends = [span if flag else n for span, flag, n in zip(spans, flags, shape, strict=True)]
    starts = [[i * step for i, step in zip(tap, sizes.steps, strict=True)] for tap in itertools.product(*counts)]
    return [(start, [a + end for a, end in zip(start, ends, strict=True)]) for start in starts]


def _stack(x: jax.Array, sizes: Geometry, flags: Sequence[bool], spans: Sequence[int]) -> jax.Array:
    """Shifted copies of x, one per tap of the flagged axes, side by side on the channels."""
    windows = _shifts(x.shape[1:-1], sizes, flags, spans)
    batch, channels = x.shape[0], x.shape[-1]
    parts = [lax.slice(x, (0, *start, 0), (batch, *limit, channels)) for start, limit in windows]
    return lax.concatenate(parts, x.ndim - 1) if len(parts) > 1 else parts[0]


def _overlap(x: jax.Array, sizes: Geometry, flags: Sequence[bool], spans: Sequence[int]) -> jax.Array:
    """Sum over the taps of the flagged axes of their channels, each shifted by its tap."""
    windows = _shifts(x.shape[1:-1], sizes, flags, spans)
    batch, width = x.shape[0], x.shape[-1] // len(windows)
    parts = [
        lax.slice(x, (0, *start, index * width), (batch, *limit, (index + 1) * width))
        for index, (start, limit) in enumerate(windows)
    ]
    return sum(parts[1:], parts[0])


def _to_blocks(sizes: Geometry, x: jax.Array, ranges: Pairs) -> jax.Array:
    """Space to depth over the given ranges of blocks: [b, *image, c] -> [b, *blocks, phases * c]."""
    axes = list(zip(sizes.image, sizes.padding, sizes.strides, ranges, strict=True))
    x = _pad(x, [(low - first * s, last * s - low - n) for n, (low, _), s, (first, last) in axes])
    if all(s == 1 for s in sizes.strides):
        return x
    # Five axes, not six: the batch joins the first axis' blocks, the channels the last axis' phases.
    batch, channels, spans = x.shape[0], x.shape[-1], _spans(ranges)
    split = list(itertools.chain(*zip(spans, sizes.strides, strict=True)))
    x = x.reshape(batch * split[0], *split[1:-1], split[-1] * channels)
    kept = list(itertools.chain(*zip(spans, sizes.phases, strict=True)))
    x = lax.slice(x, [0] * x.ndim, [x.shape[0], *kept[1:-1], kept[-1] * channels])
    x = x.transpose(*range(0, x.ndim, 2), *range(1, x.ndim, 2))
    return x.reshape(batch, *spans, -1)


def _from_blocks(sizes: Geometry, x: jax.Array) -> jax.Array:
    """The transpose of ``_to_blocks`` over the occupied ranges."""
    batch, spans = x.shape[0], _spans(sizes.occupied)
    if any(s > 1 for s in sizes.strides):
        rank = len(spans)
        x = x.reshape(batch * spans[0], *spans[1:], *sizes.phases[:-1], sizes.phases[-1] * sizes.channels)
        x = x.transpose(*(axis + half for axis in range(rank) for half in (0, rank)))
        blank = [s - f for s, f in zip(sizes.strides, sizes.phases, strict=True)]
        blank[-1] *= sizes.channels
        if any(blank):
            pads = [(0, pad, 0) for pair in zip([0] * rank, blank, strict=True) for pad in pair]
            x = lax.pad(x, jnp.zeros((), x.dtype), pads)
        x = x.reshape(batch, *(b * s for b, s in zip(spans, sizes.strides, strict=True)), sizes.channels)
    axes = zip(sizes.image, sizes.padding, sizes.strides, sizes.occupied, strict=True)
    return _pad(x, [(first * s - low, low + n - last * s) for n, (low, _), s, (first, last) in axes])


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
    """Axes of kernel blocks as the product wants them: gathered taps, depth; scattered taps, features."""
    rank = len(scattered)
    gathered = [axis for axis in range(rank) if not scattered[axis]]
    return [*gathered, rank, *(axis for axis in range(rank) if scattered[axis]), rank + 1]


def _matrix(blocks: jax.Array, scattered: Sequence[bool]) -> jax.Array:
    """Kernel blocks [*taps, m, n] as [gathered taps * m, scattered taps * n]."""
    after = math.prod(t for t, flag in zip(blocks.shape, scattered, strict=False) if flag)
    return blocks.transpose(_order(scattered)).reshape(-1, after * blocks.shape[-1])


def _from_matrix(sizes: Geometry, matrix: jax.Array) -> jax.Array:
    """The inverse of ``_matrix`` for the kernel's own arrangement."""
    order = _order(sizes.scattered)
    shape = (*sizes.taps, sizes.depth, sizes.features)
    blocks = matrix.reshape([shape[axis] for axis in order])
    return blocks.transpose([order.index(axis) for axis in range(len(order))])
