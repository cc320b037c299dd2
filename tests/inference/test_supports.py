"""Supports: log-determinants against the Jacobian, inverses, and what the values must fulfil."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.errors import UserError
from vaex.inference import correlation_cholesky, interval, ordered, positive, real, simplex, space

SUPPORTS = {
    "real": real(2, 2),
    "positive": positive(3),
    "interval": interval(-1.0, 3.0, 2),
    "simplex": simplex(4),
    "ordered": ordered(4),
    "correlation_cholesky": correlation_cholesky(4),
}


def free_entries(name, value):
    if name == "simplex":
        return value[:-1]
    return value[np.tril_indices(4, -1)] if name == "correlation_cholesky" else value.reshape(-1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUPPORTS)
def test_log_determinants_are_those_of_the_jacobian(name):
    support = SUPPORTS[name]
    with jax.enable_x64(True):
        z = jnp.asarray(np.random.default_rng(0).normal(size=support.size))
        jacobian = jax.jit(jax.jacfwd(lambda z: free_entries(name, support.constrain(z)[0])))(z)
        value, log_det = jax.jit(support.constrain)(z)
        np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], atol=1e-12)
        np.testing.assert_allclose(support.unconstrain(value), z, atol=1e-12)


def test_values_lie_in_their_supports():
    z = jnp.asarray(np.random.default_rng(1).normal(size=30) * 3, jnp.float32)
    values = {name: np.asarray(jax.jit(support.constrain)(z[: support.size])[0]) for name, support in SUPPORTS.items()}
    assert np.all(values["positive"] > 0)
    assert np.all((values["interval"] > -1) & (values["interval"] < 3))
    np.testing.assert_allclose(values["simplex"].sum(), 1.0, rtol=1e-6)
    assert np.all(np.diff(values["ordered"]) > 0)
    correlation = values["correlation_cholesky"] @ values["correlation_cholesky"].T
    np.testing.assert_allclose(np.diagonal(correlation), 1.0, rtol=1e-6)


def test_a_space_maps_a_pytree_and_back():
    parameters = space({"a": positive(2), "b": [real(), simplex(3)]})
    values, log_det = parameters.constrain(jnp.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert parameters.size == 5 and values["a"].shape == (2,) and values["b"][0].shape == ()
    np.testing.assert_allclose(parameters.unconstrain(values), [0.1, 0.2, 0.3, 0.4, 0.5], atol=1e-6)
    parts = positive(2).constrain(jnp.array([0.1, 0.2]))[1] + simplex(3).constrain(jnp.array([0.4, 0.5]))[1]
    np.testing.assert_allclose(log_det, parts, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: space({"a": 1.0}),
        lambda: space({}),
        lambda: interval(1.0, 0.0),
        lambda: interval(0.0, np.inf),
        lambda: simplex(1),
        lambda: real(0),
    ],
)
def test_what_is_no_support_is_refused(wrong):
    with pytest.raises(UserError):
        wrong()
