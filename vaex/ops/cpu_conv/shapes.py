"""The static sizes of one convolution, and how its matrix products are arranged."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

MULTIPLICATIONS_PER_NUMBER = 40  # that a CPU core does in the time in which it writes and reads a number of an operand


class Geometry(NamedTuple):
    """Sizes of a convolution of ``image`` pixels by a ``kernel``; everything else follows. One entry per spatial axis.

    ``padding`` holds (low, high) pairs, negative ones crop. ``channels`` and ``features`` count all groups together.

    Example:
      >>> sizes = Geometry((64, 64), (4, 4), (2, 2), ((1, 1), (1, 1)), (1, 1), channels=32, features=32)
      >>> sizes.out, sizes.taps, sizes.phases, sizes.scattered
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
    precision: Any = None

    @property
    def extent(self) -> tuple[int, ...]:
        """Pixels from the kernel's first tap to its last, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def out(self) -> tuple[int, ...]:
        axes = zip(self.image, self.padding, self.extent, self.strides, strict=True)
        return tuple((n + low + high - extent) // s + 1 for n, (low, high), extent, s in axes)

    @property
    def filled(self) -> tuple[bool, ...]:
        """Axes whose dilated kernel is written out with zeros between its taps: those that are strided as well."""
        return tuple(s > 1 and d > 1 for s, d in zip(self.strides, self.dilation, strict=True))

    @property
    def dense(self) -> tuple[int, ...]:
        """Kernel sizes after filling."""
        return tuple(e if f else k for e, f, k in zip(self.extent, self.filled, self.kernel, strict=True))

    @property
    def phases(self) -> tuple[int, ...]:
        """Pixels of a block that any tap reads; a block has as many as the stride."""
        return tuple(min(k, s) for k, s in zip(self.dense, self.strides, strict=True))

    @property
    def taps(self) -> tuple[int, ...]:
        """Kernel sizes counted in blocks."""
        return tuple(-(-k // s) for k, s in zip(self.dense, self.strides, strict=True))

    @property
    def steps(self) -> tuple[int, ...]:
        """Distance of neighbouring taps in blocks."""
        return tuple(1 if f else d for f, d in zip(self.filled, self.dilation, strict=True))

    @property
    def reach(self) -> tuple[int, ...]:
        """Distance of the first and the last tap in blocks."""
        return tuple((t - 1) * step for t, step in zip(self.taps, self.steps, strict=True))

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
        """Per axis: are its taps added after the product (True) or stacked before it (False)?

        Whatever costs least: stacking makes operands wider, adding makes results wider and has more columns.
        """
        return min(itertools.product((True, False), repeat=len(self.taps)), key=self.cost)

    def cost(self, scattered: tuple[bool, ...]) -> int:
        """About the time of the three products of one example, in multiplications; see ``MULTIPLICATIONS_PER_NUMBER``."""
        k, n = self.widths(scattered)
        axes = zip(scattered, self.occupied, self.out, strict=True)
        columns = math.prod(last - first if flag else o for flag, (first, last), o in axes)
        return columns * (k * n + MULTIPLICATIONS_PER_NUMBER * (k + n))

    def widths(self, scattered: tuple[bool, ...]) -> tuple[int, int]:
        """Columns of the product's operand and of its result."""
        after = math.prod(t for t, flag in zip(self.taps, scattered, strict=True) if flag)
        return self.depth * math.prod(self.taps) // after, self.features * after
