"""Convolutions as matrix products on CPU, with hand-written gradients."""

from vaex.ops.cpu_conv.api import convolve, convolve_transpose

__all__ = ["convolve", "convolve_transpose"]
