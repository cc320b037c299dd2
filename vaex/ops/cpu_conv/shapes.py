"""The static sizes of one convolution, and how its matrix products are arranged."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jax.lax import PrecisionLike

MULTIPLICATIONS_PER_NUMBER = 40  # that a CPU core does in the time in which it writes and reads a number of an operand


class ConvShape(NamedTuple):
    """Sizes of a convolution of ``image`` pixels with a ``kernel``; everything else follows. One entry per spatial axis.

    Strides become channels by space to depth: a *block* holds the pixels of one stride along each axis, and the kernel is counted
    in blocks. ``padding`` holds (low, high) pairs; negative numbers crop. ``channels`` and ``features`` count all groups together.

    Example:
      >>> conv = ConvShape((64, 64), (4, 4), (2, 2), ((1, 1), (1, 1)), (1, 1), channels=32, features=32)
      >>> conv.out, conv.taps, conv.phases, conv.scattered
      ((32, 32), (2, 2), (2, 2), (True, True))
    """

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    channels: int
    features: int
    groups: int = 1
    precision: PrecisionLike = None

    @property
    def extent(self) -> tuple[int, ...]:
        """Pixels from the kernel's first tap to its last, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def out(self) -> tuple[int, ...]:
        """Pixels of the output."""
        axes = zip(self.image, self.padding, self.extent, self.strides, strict=True)
        return tuple((n + low + high - extent) // s + 1 for n, (low, high), extent, s in axes)

    @property
    def zero_filled(self) -> tuple[bool, ...]:
        """Axes whose dilated kernel is written out with zeros between its taps: those that are strided as well."""
        return tuple(s > 1 and d > 1 for s, d in zip(self.strides, self.dilation, strict=True))

    @property
    def dense_kernel(self) -> tuple[int, ...]:
        """Kernel sizes after the zeros are written out."""
        return tuple(e if f else k for e, f, k in zip(self.extent, self.zero_filled, self.kernel, strict=True))

    @property
    def phases(self) -> tuple[int, ...]:
        """Pixels of a block that any tap reads; a block has as many as the stride."""
        return tuple(min(k, s) for k, s in zip(self.dense_kernel, self.strides, strict=True))

    @property
    def taps(self) -> tuple[int, ...]:
        """Kernel sizes counted in blocks."""
        return tuple(-(-k // s) for k, s in zip(self.dense_kernel, self.strides, strict=True))

    @property
    def tap_distance(self) -> tuple[int, ...]:
        """Blocks from one tap to the next."""
        return tuple(1 if f else d for f, d in zip(self.zero_filled, self.dilation, strict=True))

    @property
    def reach(self) -> tuple[int, ...]:
        """Blocks from the first tap to the last."""
        return tuple((t - 1) * distance for t, distance in zip(self.taps, self.tap_distance, strict=True))

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks of the padded image that any output reads."""
        return tuple(o + r for o, r in zip(self.out, self.reach, strict=True))

    @property
    def occupied(self) -> tuple[tuple[int, int], ...]:
        """The range of those blocks that holds pixels of the image, not padding alone."""
        axes = zip(self.image, self.padding, self.strides, self.blocks, strict=True)
        ends = [(min(max(low, 0) // s, b), min(-(-(low + n) // s), b)) for n, (low, _), s, b in axes]
        return tuple((first, max(first, last)) for first, last in ends)

    @property
    def depth(self) -> int:
        """Channels of a block."""
        return math.prod(self.phases) * self.channels

    @property
    def scattered(self) -> tuple[bool, ...]:
        """Axes whose taps are added after the product (kn2row); the other axes stack them before it (im2col).

        The cheapest choice by ``cost``: stacking makes operands wider; adding makes results wider and has more columns.
        """
        return min(itertools.product((True, False), repeat=len(self.taps)), key=self.cost)

    def cost(self, scattered: tuple[bool, ...]) -> int:
        """About the time of the three products of one example, in multiplications; see ``MULTIPLICATIONS_PER_NUMBER``."""
        k, n = self.widths(scattered)
        axes = zip(scattered, self.occupied, self.out, strict=True)
        columns = math.prod(last - first if flag else o for flag, (first, last), o in axes)
        return columns * (k * n + MULTIPLICATIONS_PER_NUMBER * (k + n))

    def widths(self, scattered: tuple[bool, ...]) -> tuple[int, int]:
        """Rows of the product's operand and of its result."""
        added = math.prod(t for t, flag in zip(self.taps, scattered, strict=True) if flag)
        return self.depth * math.prod(self.taps) // added, self.features * added
