"""Drop-in replacements of ``flax.linen.Conv`` and ``flax.linen.ConvTranspose`` that are fast on CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from vaex.ops.cpu_conv import convolve, convolve_transpose
from vaex.ops.cpu_conv.vjp import add_bias


class Conv(nn.Conv):
    """``flax.linen.Conv`` with the same attributes, parameters and results, computed by ``vaex.ops.convolve``.

    On CPU a training step is faster than with Linen's layer, inside ``lax.scan`` tens of times; see ``docs/performance.md``.

    Attributes:
      features, kernel_size, strides, padding, input_dilation, kernel_dilation, feature_group_count, use_bias, mask, dtype,
        param_dtype, precision, kernel_init, bias_init, promote_dtype: as in ``flax.linen.Conv``.
      lowering: "auto", "matmul", "conv" or "matmul_jvp", see ``vaex.ops.convolve``.
    Example:
      >>> layer = Conv(features=8, kernel_size=(4, 4), strides=2, padding=1)
      >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), jax.numpy.ones((2, 16, 16, 3)))
      >>> y.shape, jax.tree.map(jax.numpy.shape, variables["params"])
      ((2, 8, 8, 8), {'bias': (8,), 'kernel': (4, 4, 3, 8)})
    """

    lowering: str = "auto"

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[..., *image, c] -> [..., *out, features].

        Raises: ValueError where shapes, padding or lowering do not fit.
        """
        if self.conv_general_dilated is not None or self.conv_general_dilated_cls is not None:
            raise ValueError(
                "Conv: conv_general_dilated is set, expected None; choose a lowering, or use flax.linen.Conv"
            )
        size = _kernel_size(self.kernel_size)
        shape = (*size, inputs.shape[-1] // self.feature_group_count, self.features)
        inputs, kernel, bias = _parameters(self, inputs, shape)
        y = convolve(
            inputs,
            kernel,
            self.strides,
            self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            feature_group_count=self.feature_group_count,
            precision=self.precision,
            lowering=self.lowering,
        )
        return y if bias is None else _add_bias(self, y, bias, kernel.ndim - 2)


class ConvTranspose(nn.ConvTranspose):
    """``flax.linen.ConvTranspose`` with the same attributes, parameters and results, computed by ``vaex.ops.convolve_transpose``.

    Attributes:
      features, kernel_size, strides, padding (all but "CIRCULAR"), kernel_dilation, use_bias, mask, dtype, param_dtype,
        precision, kernel_init, bias_init, transpose_kernel, promote_dtype: as in ``flax.linen.ConvTranspose``.
      lowering: "auto", "matmul", "conv" or "matmul_jvp", see ``vaex.ops.convolve``.
    Example:
      >>> layer = ConvTranspose(features=3, kernel_size=(4, 4), strides=(2, 2))
      >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), jax.numpy.ones((2, 8, 8, 5)))
      >>> y.shape, jax.tree.map(jax.numpy.shape, variables["params"])
      ((2, 16, 16, 3), {'bias': (3,), 'kernel': (4, 4, 5, 3)})
    """

    lowering: str = "auto"

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[..., *image, c] -> [..., *out, features].

        Raises: ValueError where shapes, padding or lowering do not fit.
        """
        if self.preferred_element_type is not None:
            raise ValueError("ConvTranspose: preferred_element_type is set, expected None; set dtype instead")
        channels = (inputs.shape[-1], self.features)
        shape = (*_kernel_size(self.kernel_size), *(channels[::-1] if self.transpose_kernel else channels))
        inputs, kernel, bias = _parameters(self, inputs, shape)
        y = convolve_transpose(
            inputs,
            kernel,
            self.strides,
            self.padding,
            kernel_dilation=self.kernel_dilation,
            transpose_kernel=self.transpose_kernel,
            precision=self.precision,
            lowering=self.lowering,
        )
        return y if bias is None else _add_bias(self, y, bias, kernel.ndim - 2)


def doubling(features: int, sides: Sequence[int], *, name: str, lowering: str = "auto") -> ConvTranspose:
    """Return a transposed convolution of 4 points a side with stride 2 whose output has exactly these sides, odd ones too.

    Kernels start with the variance of their true fan-in: a stride of 2 leaves one in 2^axes of the taps.

    Args:
      features: of the output.
      sides: of the output's grid; the input has half of them, rounded down.
      name: of the layer.
      lowering: as of ``ConvTranspose``.
    """
    axes = len(sides)
    return ConvTranspose(
        features,
        (4,) * axes,
        strides=(2,) * axes,
        padding=[(2, 2 + side % 2) for side in sides],
        kernel_init=nn.initializers.variance_scaling(2.0**axes, "fan_in", "truncated_normal"),
        lowering=lowering,
        name=name,
    )


def _kernel_size(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


def _parameters(
    layer: Conv | ConvTranspose, inputs: jax.Array, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Inputs, kernel and bias in the dtype of the layer; the parameters have the names, shapes and initial values of Linen's."""
    if layer.mask is not None and layer.mask.shape != shape:
        raise ValueError(f"{type(layer).__name__}: mask has shape {layer.mask.shape}, expected the kernel's {shape}")
    kernel = layer.param("kernel", layer.kernel_init, shape, layer.param_dtype)
    kernel = kernel if layer.mask is None else kernel * layer.mask
    bias = layer.param("bias", layer.bias_init, (layer.features,), layer.param_dtype) if layer.use_bias else None
    promoted: Any = layer.promote_dtype(inputs, kernel, bias, dtype=layer.dtype)
    inputs, kernel, bias = promoted
    return inputs, kernel, bias


def _add_bias(layer: Conv | ConvTranspose, y: jax.Array, bias: jax.Array, rank: int) -> jax.Array:
    images = y.reshape(-1, *y.shape[-rank - 1 :])
    return add_bias(layer.lowering, images, bias).reshape(y.shape)
