"""A convolution and its two gradients as custom VJPs, each lowered to what suits the platform.

``forward``, ``input_gradient`` and ``_kernel_gradient`` compute what their namesakes in ``vaex.ops.cpu_conv.im2col`` do. Each is
bilinear, and its gradients are the other two, so reverse mode works to any order. Under "auto" the choice between matrix products
and ``lax.conv_general_dilated`` falls when the program is compiled for a device, not by the default device of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from vaex.ops.cpu_conv import im2col
from vaex.ops.cpu_conv.shapes import ConvShape
from vaex.ops.platforms import on_cpu

LOWERINGS = ("auto", "conv", "matmul", "matmul_jvp")
Bilinear = Callable[[ConvShape, jax.Array, jax.Array], jax.Array]
Operands = tuple[jax.Array, jax.Array]


def forward(conv: ConvShape, lowering: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution of x [b, *image, channels] with the kernel by "auto", "matmul" or "matmul_jvp": [b, *out, features].

    Example:
      >>> conv = ConvShape((3,), (2,), (1,), ((0, 0),), (1,), channels=1, features=1)
      >>> forward(conv, "auto", jnp.ones((1, 3, 1)), jnp.ones((2, 1, 1)))[0, :, 0]
      Array([2., 2.], dtype=float32)
    """
    if lowering == "matmul_jvp":
        return _matmul_forward(conv, x, kernel)
    return _forward(conv, lowering, *_varying_alike(x, kernel))


def input_gradient(conv: ConvShape, lowering: str, y: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the transpose in x, of y [b, *out, features] and the kernel, by those lowerings: [b, *image, channels].

    Example:
      >>> conv = ConvShape((3,), (2,), (1,), ((0, 0),), (1,), channels=1, features=1)
      >>> input_gradient(conv, "auto", jnp.ones((1, 2, 1)), jnp.ones((2, 1, 1)))[0, :, 0]
      Array([1., 2., 1.], dtype=float32)
    """
    if lowering == "matmul_jvp":
        return _matmul_input_gradient(conv, y, kernel)
    return _input_gradient(conv, lowering, *_varying_alike(y, kernel))


def xla_convolution(
    conv: ConvShape, x: jax.Array, kernel: jax.Array, x_dilation: tuple[int, ...] | None = None
) -> jax.Array:
    """Return XLA's convolution of x [b, *image, channels], dilated by ``x_dilation``, with the kernel: [b, *out, features].

    Example:
      >>> conv = ConvShape((2,), (1,), (1,), ((0, 0),), (1,), channels=1, features=1)
      >>> xla_convolution(conv, jnp.ones((1, 2, 1)), jnp.ones((1, 1, 1)), (2,))[0, :, 0]
      Array([1., 0., 1.], dtype=float32)
    """
    axes = "DHW"[-len(conv.image) :]
    return lax.conv_general_dilated(
        x,
        kernel,
        conv.strides,
        conv.padding,
        lhs_dilation=x_dilation,
        rhs_dilation=conv.dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=conv.groups,
        precision=conv.precision,
    )


def add_bias(lowering: str, y: jax.Array, bias: jax.Array) -> jax.Array:
    """Return y [b, *out, features] plus bias [features], whose gradient is summed in the layout that the lowering gives y.

    Example:
      >>> add_bias("auto", jnp.zeros((1, 3, 2)), jnp.array([1.0, 2.0])).sum(1)
      Array([[3., 6.]], dtype=float32)
    """
    return y + bias if lowering in ("conv", "matmul_jvp") else _add_bias(lowering, *_varying_alike(y, bias))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _add_bias(lowering: str, y: jax.Array, bias: jax.Array) -> jax.Array:
    return y + bias


def _sum_over_pixels(cotangent: jax.Array) -> jax.Array:
    return jnp.sum(cotangent, axis=tuple(range(cotangent.ndim - 1)))


def _add_bias_vjp(lowering: str, _: None, cotangent: jax.Array) -> Operands:
    if lowering == "matmul":
        return cotangent, im2col.bias_gradient(cotangent)
    return cotangent, on_cpu(cotangent, cpu=im2col.bias_gradient, default=_sum_over_pixels)


_add_bias.defvjp(lambda lowering, y, bias: (y + bias, None), _add_bias_vjp)


def _varying_alike(*operands: jax.Array) -> list[jax.Array]:
    """Let all operands vary over the same mesh axes in ``jax.shard_map``, so that the gradient of a replicated one is summed."""
    over = [jax.typeof(operand).manual_axis_type.varying for operand in operands]  # type: ignore[attr-defined]
    missing = [tuple(frozenset().union(*over) - axes) for axes in over]
    return [lax.pcast(a, axes, to="varying") if axes else a for a, axes in zip(operands, missing, strict=True)]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _forward(conv: ConvShape, lowering: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _lower(conv, lowering, _matmul_forward, xla_convolution, x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _input_gradient(conv: ConvShape, lowering: str, y: jax.Array, kernel: jax.Array) -> jax.Array:
    return _lower(conv, lowering, _matmul_input_gradient, _xla_input_gradient, y, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _kernel_gradient(conv: ConvShape, lowering: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return _lower(conv, lowering, _matmul_kernel_gradient, _xla_kernel_gradient, x, y)


def _forward_vjp(conv: ConvShape, lowering: str, operands: Operands, y: jax.Array) -> Operands:
    x, kernel = operands
    return _input_gradient(conv, lowering, y, kernel), _kernel_gradient(conv, lowering, x, y)


def _input_gradient_vjp(conv: ConvShape, lowering: str, operands: Operands, x: jax.Array) -> Operands:
    y, kernel = operands
    return _forward(conv, lowering, x, kernel), _kernel_gradient(conv, lowering, x, y)


def _kernel_gradient_vjp(conv: ConvShape, lowering: str, operands: Operands, kernel: jax.Array) -> Operands:
    x, y = operands
    return _input_gradient(conv, lowering, y, kernel), _forward(conv, lowering, x, kernel)


# The residuals are the operands.
_forward.defvjp(lambda conv, lowering, x, k: (_forward(conv, lowering, x, k), (x, k)), _forward_vjp)
_input_gradient.defvjp(
    lambda conv, lowering, y, k: (_input_gradient(conv, lowering, y, k), (y, k)), _input_gradient_vjp
)
_kernel_gradient.defvjp(
    lambda conv, lowering, x, y: (_kernel_gradient(conv, lowering, x, y), (x, y)), _kernel_gradient_vjp
)


def _lower(
    conv: ConvShape, lowering: str, matmul: Bilinear, xla: Bilinear, first: jax.Array, second: jax.Array
) -> jax.Array:
    """Matrix products where the lowering or the platform asks for them, else XLA's convolution."""
    if lowering == "matmul":
        return matmul(conv, first, second)
    return on_cpu(first, second, cpu=partial(matmul, conv), default=partial(xla, conv))


# Groups are an axis beside the last one of every array, mapped over.


def _grouped(function: Bilinear, conv: ConvShape, first: jax.Array, second: jax.Array) -> jax.Array:
    count = conv.groups
    if count == 1:
        return function(conv, first, second)
    group = conv._replace(channels=conv.channels // count, features=conv.features // count, groups=1)
    operands = (x.reshape(*x.shape[:-1], count, -1) for x in (first, second))
    result = jax.vmap(partial(function, group), in_axes=-2, out_axes=-2)(*operands)
    return result.reshape(*result.shape[:-2], -1)


def _matmul_forward(conv: ConvShape, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _grouped(im2col.forward, conv, x, kernel)


def _matmul_input_gradient(conv: ConvShape, y: jax.Array, kernel: jax.Array) -> jax.Array:
    return _grouped(im2col.input_gradient, conv, y, kernel)


def _matmul_kernel_gradient(conv: ConvShape, x: jax.Array, y: jax.Array) -> jax.Array:
    return _grouped(im2col.kernel_gradient, conv, x, y)


def _xla_input_gradient(conv: ConvShape, y: jax.Array, kernel: jax.Array) -> jax.Array:
    x, y = _varying_alike(jnp.zeros((y.shape[0], *conv.image, conv.channels), y.dtype), y)
    return jax.linear_transpose(lambda x: xla_convolution(conv, x, kernel), x)(y)[0]


def _xla_kernel_gradient(conv: ConvShape, x: jax.Array, y: jax.Array) -> jax.Array:
    kernel, y = _varying_alike(jnp.zeros((*conv.kernel, conv.channels // conv.groups, conv.features), x.dtype), y)
    return jax.linear_transpose(lambda kernel: xla_convolution(conv, x, kernel), kernel)(y)[0]
