"""Fast ways to compute on one platform: convolutions as matrix products on CPU, and random numbers without a loop."""

from vaex.ops.cpu_conv import convolve, convolve_transpose
from vaex.ops.threefry import fold_in, unrolled

__all__ = ["convolve", "convolve_transpose", "fold_in", "unrolled"]
