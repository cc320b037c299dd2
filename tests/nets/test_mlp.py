"""MLP against the same arithmetic written out in NumPy."""

import operator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from vaex.errors import UserError
from vaex.nets import ACTIVATIONS, MLP, activation_function

REFERENCE = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "identity": lambda x: x,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": expit,
    "silu": lambda x: x * expit(x),
    "softplus": lambda x: np.logaddexp(x, 0),
    "tanh": np.tanh,
}


def standard_normal(shape):
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def test_every_activation_has_a_reference():
    assert set(REFERENCE) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_activation_is_the_textbook_formula(name):
    x = np.linspace(-6, 6, 25)
    result = activation_function(name)(jnp.asarray(x, jnp.float32))
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, REFERENCE[name](x), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("hidden", [(), (5,), (7, 4)])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_mlp_is_dense_layers_with_activation_between_and_none_at_the_end(hidden, activation, filled):
    mlp = MLP(hidden, 3, activation)
    x = standard_normal((6, 11))
    params = filled(mlp, x)["params"]
    names = [f"hidden_{index}" for index in range(len(hidden))]
    assert set(params) == {*names, "output"}
    expected = x
    for name in names:
        expected = REFERENCE[activation](expected @ params[name]["kernel"] + params[name]["bias"])
    expected = expected @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(mlp.apply({"params": params}, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "event_ndims", "expected"),
    [
        ((9,), 1, (2,)),
        ((4, 3, 9), 1, (4, 3, 2)),
        ((5, 4, 3, 2), 3, (5, 2)),
        ((6, 5, 4, 3, 2), 3, (6, 5, 2)),
        ((3, 2), 2, (2,)),
    ],
)
def test_mlp_flattens_the_event_axes_only(shape, event_ndims, expected, filled):
    mlp = MLP((4,), 2, event_ndims=event_ndims)
    x = standard_normal(shape)
    variables = filled(mlp, x)
    result = mlp.apply(variables, x)
    assert result.shape == expected
    flat = x.reshape(*shape[: len(shape) - event_ndims], -1)
    np.testing.assert_array_equal(result, MLP((4,), 2).apply(variables, flat))


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [(), (5,), (7, 4)])
def test_a_condition_is_more_inputs_and_broadcasts(hidden, filled):
    """As if the condition stood beside x, with its kernel below x's; all conditions at once equal one after the other."""
    x, every = standard_normal((6, 11)), np.eye(3, dtype=np.float32)[:, None]
    mlp = MLP(hidden, 2)
    params = filled(mlp, x, every)["params"]
    together = mlp.apply({"params": params}, x, every)
    assert together.shape == (3, 6, 2)
    first = "hidden_0" if hidden else "output"
    unconditional = {name: layer for name, layer in params.items() if name != "condition"}
    joined = np.concatenate([params[first]["kernel"], params["condition"]["kernel"]])
    wide = {"params": {**unconditional, first: {**params[first], "kernel": joined}}}
    for index in range(3):
        beside = np.concatenate([x, np.tile(every[index], (6, 1))], axis=1)
        np.testing.assert_allclose(together[index], mlp.apply(wide, beside), rtol=1e-5, atol=1e-5)
    none = mlp.apply({"params": params}, x, np.zeros((6, 3), np.float32))
    np.testing.assert_allclose(none, mlp.apply({"params": unconditional}, x), rtol=1e-6, atol=1e-6)


def test_mlp_compiles_to_the_program_of_plain_dense_layers(filled):
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2, name="output")(jax.nn.relu(nn.Dense(4, name="hidden_0")(x)))

    x = jnp.ones((3, 5))
    ours, plain = MLP((4,), 2), Plain()
    variables = filled(ours, x)
    assert str(jax.make_jaxpr(ours.apply)(variables, x)) == str(jax.make_jaxpr(plain.apply)(variables, x))


def test_mlp_under_vmap_over_parameters_equals_each_member(filled):
    mlp = MLP((4,), 2)
    x = standard_normal((3, 5))
    stacked = filled(mlp, x, members=(3,))
    together = jax.vmap(mlp.apply, (0, None))(stacked, x)
    for member in range(3):
        alone = mlp.apply(jax.tree.map(operator.itemgetter(member), stacked), x)
        np.testing.assert_allclose(together[member], alone, rtol=1e-5, atol=1e-6)


def test_unknown_activation_names_its_neighbours():
    with pytest.raises(UserError, match=r"activation='rellu' is not known; did you mean .*relu"):
        MLP((4,), 2, "rellu").init(jax.random.key(0), jnp.ones((1, 3)))


@pytest.mark.parametrize(("shape", "event_ndims"), [((3, 4), 3), ((3, 4), 0)])
def test_too_few_axes_are_refused(shape, event_ndims):
    with pytest.raises(ValueError, match=r"MLP: x has shape \(3, 4\), expected at least event_ndims"):
        MLP((4,), 2, event_ndims=event_ndims).init(jax.random.key(0), jnp.ones(shape))
