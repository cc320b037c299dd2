"""Convolutions for the CPU as matrix products with hand-written gradients; XLA's own convolutions on other platforms.

The way of a convolution through the files:

1. ``api`` checks shapes, turns strides, padding and dilation into one ``ConvShape``, and hands over [b, *image, c] arrays.
2. ``shapes`` derives the sizes of the matrix products from a ``ConvShape``, and chooses per axis how its taps are summed.
3. ``vjp`` wires the forward convolution and its two gradients into three custom VJPs. Each picks its lowering when the program
   is compiled: matrix products on CPU, ``lax.conv_general_dilated`` elsewhere.
4. ``im2col`` computes the three as matrix products: space to depth for strides, then im2col or kn2row per axis.
5. ``winograd`` takes over large 3x3 convolutions of stride 1: Winograd F(4x4, 3x3), a quarter of the multiplications.
6. ``layout`` transposes to channels first and batch last (CHWN) and back, pads, and multiplies matrices over all pixels of a batch.
"""

from vaex.ops.cpu_conv.api import convolve, convolve_transpose

__all__ = ["convolve", "convolve_transpose"]
