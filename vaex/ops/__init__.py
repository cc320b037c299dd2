"""Fast ways to compute on CPU what XLA computes slowly there: convolutions, and random numbers inside compiled loops."""

from vaex.ops.cpu_conv import convolve, convolve_transpose
from vaex.ops.threefry import fold_in, unrolled

__all__ = ["convolve", "convolve_transpose", "fold_in", "unrolled"]
