"""Products with a matrix: those of ``@``, with gradients that XLA for CPU computes from operands of two axes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vaex.ops import products
from vaex.ops.platforms import compiling_for, plain_lowering

KEY = jax.random.key(0)


def operand_axes(function, *arguments) -> set[int]:
    """How many axes the operands of all products have, in the program of the function."""
    equations = jax.make_jaxpr(function)(*arguments).jaxpr.eqns
    return {operand.aval.ndim for each in equations if each.primitive is lax.dot_general_p for operand in each.invars}


def anew(function):
    """A function that jax has not traced before."""
    return lambda *arguments: function(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (4, 2, 3), (2, 0), (0, 3)])
def test_values_and_gradients_are_those_of_the_operator(leading):
    x, matrix = jax.random.normal(KEY, (*leading, 5)), jax.random.normal(KEY, (5, 4))

    def loss(product):
        return lambda x, matrix: jnp.sum(jnp.sin(product(x, matrix)))

    np.testing.assert_allclose(products.matmul(x, matrix), x @ matrix, rtol=1e-6, atol=1e-6)
    computed = jax.grad(loss(products.matmul), argnums=(0, 1))(x, matrix)
    expected = jax.grad(loss(jnp.matmul), argnums=(0, 1))(x, matrix)
    for ours, right in zip(computed, expected, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-5, atol=1e-6)


def test_a_dense_layer_has_the_same_parameters_and_outputs():
    x = jax.random.normal(KEY, (2, 3, 5))
    dense, plain = nn.Dense(4, dot_general=products.dot_general), nn.Dense(4)
    (y, variables), (expected, plain_variables) = (layer.init_with_output(KEY, x) for layer in (dense, plain))
    jax.tree.map(np.testing.assert_array_equal, variables, plain_variables)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_leading_axes_are_merged_on_cpu_alone():
    x, matrix = jnp.ones((2, 3, 5)), jnp.ones((5, 4))
    gradient = jax.grad(lambda x, matrix: jnp.sum(products.matmul(x, matrix) ** 2), argnums=(0, 1))
    with compiling_for("cpu"):
        assert operand_axes(anew(gradient), x, matrix) == {2}
    for block in (compiling_for("tpu"), plain_lowering()):
        with block:
            assert 3 in operand_axes(anew(gradient), x, matrix)


def test_other_contractions_are_those_of_lax():
    x, matrix = jax.random.normal(KEY, (2, 5, 5)), jax.random.normal(KEY, (5, 5))
    dimensions = (((1,), (1,)), ((), ()))
    expected = lax.dot_general(x, matrix, dimensions)
    np.testing.assert_array_equal(products.dot_general(x, matrix, dimensions), expected)
