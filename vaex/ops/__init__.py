"""Fast ways to compute on CPU what XLA computes slowly there: convolutions, and random numbers inside compiled loops.

Beside them what many rooms compute without losing digits: ``arrays`` (dtypes wide enough for nats, sums over trailing axes),
``scalars`` and ``bessel`` (functions that neither overflow nor cancel).
"""

from vaex.ops.cpu_conv import convolve, convolve_transpose
from vaex.ops.threefry import fold_in, unrolled

__all__ = ["convolve", "convolve_transpose", "fold_in", "unrolled"]
