"""The three derivatives of a convolution, each lowered to what suits the platform, each with its gradients by hand.

``output``, ``input`` and ``kernel`` compute what their namesakes in ``vaex.ops.cpu_conv.im2col`` do. Each is bilinear and its
gradients are the other two, so reverse mode works to any order. Under "auto" the choice between matrix products and
``lax.conv_general_dilated`` is made when the program is compiled for a device, not by the process's default device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vaex.ops.cpu_conv import im2col as products
from vaex.ops.cpu_conv.shapes import Geometry

LOWERINGS = ("auto", "conv", "matmul", "matmul_jvp")
Bilinear = Callable[[Geometry, jax.Array, jax.Array], jax.Array]


def output(sizes: Geometry, lowering: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution (x, kernel) -> y by the named lowering.

    Example:
      >>> sizes = Geometry((3,), (2,), (1,), ((0, 0),), (1,), channels=1, features=1)
      >>> output(sizes, "auto", jax.numpy.ones((1, 3, 1)), jax.numpy.ones((2, 1, 1)))[0, :, 0]
      Array([2., 2.], dtype=float32)
    """
    if lowering == "conv":
        return _stock_output(sizes, x, kernel)
    if lowering == "matmul_jvp":
        return _product_output(sizes, x, kernel)
    return _output(sizes, lowering, *_varying_alike(x, kernel))


def transposed(sizes: Geometry, lowering: str, y: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose in x, (y, kernel) -> x, by the named lowering.

    Example:
      >>> sizes = Geometry((3,), (2,), (1,), ((0, 0),), (1,), channels=1, features=1)
      >>> transposed(sizes, "auto", jax.numpy.ones((1, 2, 1)), jax.numpy.ones((2, 1, 1)))[0, :, 0]
      Array([1., 2., 1.], dtype=float32)
    """
    if lowering == "conv":
        return _stock_input(sizes, y, kernel)
    if lowering == "matmul_jvp":
        return _product_input(sizes, y, kernel)
    return _input(sizes, lowering, *_varying_alike(y, kernel))


def add_bias(lowering: str, y: jax.Array, bias: jax.Array) -> jax.Array:
    """y [b, *out, features] plus bias [features], whose gradient is summed in the order in which the lowering lays out y.

    Example:
      >>> add_bias("auto", jax.numpy.zeros((1, 3, 2)), jax.numpy.array([1.0, 2.0])).sum(1)
      Array([[3., 6.]], dtype=float32)
    """
    return y + bias if lowering in ("conv", "matmul_jvp") else _add_bias(lowering, *_varying_alike(y, bias))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _add_bias(lowering: str, y: jax.Array, bias: jax.Array) -> jax.Array:
    return y + bias


def _stock_bias(g: jax.Array) -> jax.Array:
    return jnp.sum(g, axis=tuple(range(g.ndim - 1)))


def _bias_gradients(lowering: str, _: None, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    if lowering == "matmul":
        return g, products.bias_product(g)
    return g, lax.platform_dependent(g, cpu=products.bias_product, default=_stock_bias)


_add_bias.defvjp(lambda lowering, y, bias: (y + bias, None), _bias_gradients)


def _varying_alike(*operands: jax.Array) -> list[jax.Array]:
    """In ``jax.shard_map`` all operands vary over the same mesh axes, so that a replicated one's gradient is summed."""
    over = [jax.typeof(operand).manual_axis_type.varying for operand in operands]  # type: ignore[attr-defined]
    missing = [tuple(frozenset().union(*over) - axes) for axes in over]
    return [lax.pcast(a, axes, to="varying") if axes else a for a, axes in zip(operands, missing, strict=True)]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _output(sizes: Geometry, lowering: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _lower(sizes, lowering, _product_output, _stock_output, x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _input(sizes: Geometry, lowering: str, y: jax.Array, kernel: jax.Array) -> jax.Array:
    return _lower(sizes, lowering, _product_input, _stock_input, y, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _kernel(sizes: Geometry, lowering: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return _lower(sizes, lowering, _product_kernel, _stock_kernel, x, y)


def _with_operands(function: Any) -> Callable[..., tuple[jax.Array, tuple[jax.Array, jax.Array]]]:
    def forward(sizes, lowering, first, second):
        return function(sizes, lowering, first, second), (first, second)

    return forward


def _output_gradients(sizes, lowering, operands, y):
    x, kernel = operands
    return _input(sizes, lowering, y, kernel), _kernel(sizes, lowering, x, y)


def _input_gradients(sizes, lowering, operands, x):
    y, kernel = operands
    return _output(sizes, lowering, x, kernel), _kernel(sizes, lowering, x, y)


def _kernel_gradients(sizes, lowering, operands, kernel):
    x, y = operands
    return _input(sizes, lowering, y, kernel), _output(sizes, lowering, x, kernel)


_output.defvjp(_with_operands(_output), _output_gradients)
_input.defvjp(_with_operands(_input), _input_gradients)
_kernel.defvjp(_with_operands(_kernel), _kernel_gradients)


def _lower(
    sizes: Geometry, lowering: str, product: Bilinear, stock: Bilinear, first: jax.Array, second: jax.Array
) -> jax.Array:
    if lowering == "matmul":
        return product(sizes, first, second)
    return lax.platform_dependent(first, second, cpu=partial(product, sizes), default=partial(stock, sizes))


# Groups are an axis beside the last one of every array, mapped over.


def _grouped(function: Bilinear, sizes: Geometry, first: jax.Array, second: jax.Array) -> jax.Array:
    count = sizes.groups
    if count == 1:
        return function(sizes, first, second)
    one = sizes._replace(channels=sizes.channels // count, features=sizes.features // count, groups=1)
    return jax.vmap(partial(function, one), in_axes=-2, out_axes=-2)(first, second)


def _split(x: jax.Array, sizes: Geometry) -> jax.Array:
    return x if sizes.groups == 1 else x.reshape(*x.shape[:-1], sizes.groups, -1)


def _join(x: jax.Array, sizes: Geometry) -> jax.Array:
    return x if sizes.groups == 1 else x.reshape(*x.shape[:-2], -1)


def _product_output(sizes: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _join(_grouped(products.output_product, sizes, _split(x, sizes), _split(kernel, sizes)), sizes)


def _product_input(sizes: Geometry, y: jax.Array, kernel: jax.Array) -> jax.Array:
    return _join(_grouped(products.input_product, sizes, _split(y, sizes), _split(kernel, sizes)), sizes)


def _product_kernel(sizes: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    return _join(_grouped(products.kernel_product, sizes, _split(x, sizes), _split(y, sizes)), sizes)


def _stock_output(sizes: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    rank = len(sizes.image)
    axes = "DHW"[-rank:]
    return lax.conv_general_dilated(
        x,
        kernel,
        sizes.strides,
        sizes.padding,
        rhs_dilation=sizes.dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=sizes.groups,
        precision=sizes.precision,
    )


def _stock_input(sizes: Geometry, y: jax.Array, kernel: jax.Array) -> jax.Array:
    x, y = _varying_alike(jnp.zeros((y.shape[0], *sizes.image, sizes.channels), y.dtype), y)
    return jax.linear_transpose(lambda x: _stock_output(sizes, x, kernel), x)(y)[0]


def _stock_kernel(sizes: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    kernel, y = _varying_alike(jnp.zeros((*sizes.kernel, sizes.channels // sizes.groups, sizes.features), x.dtype), y)
    return jax.linear_transpose(lambda kernel: _stock_output(sizes, x, kernel), kernel)(y)[0]
