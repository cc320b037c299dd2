"""Log-sum-exp and normalised exponentials against SciPy, and their derivatives up to the second where entries are infinite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ROOT
from scipy import special

from vaex.ops.log_sum_exp import log_sum_exp, normalise_exp

INF = np.inf
ROWS = np.array([[0.3, -1.2, 2.0], [-INF, 0.5, -1.0], [-INF, -INF, -INF], [INF, 0.0, -INF], [1e4, 1e4, -1e4]])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_values_are_scipys(axis):
    with jax.enable_x64(True):
        x = ROWS if axis else ROWS.T
        np.testing.assert_allclose(log_sum_exp(jnp.asarray(x), axis), special.logsumexp(x, axis=axis), rtol=1e-14)
        found = (
            np.asarray(normalise_exp(jnp.asarray(x), axis)) if axis else np.asarray(normalise_exp(jnp.asarray(x), 0)).T
        )
        expected = special.softmax(ROWS[[0, 1, 4]], axis=1)
        np.testing.assert_allclose(found[[0, 1, 4]], expected, rtol=1e-13, atol=1e-300)
        np.testing.assert_array_equal(found[2:4], [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])


@pytest.mark.slow
def test_derivatives_are_finite_and_those_of_the_finite_rows_are_scipys():
    with jax.enable_x64(True):
        x = jnp.asarray(ROWS)
        gradient = jax.grad(lambda x: jnp.sum(log_sum_exp(x)))(x)
        shares = special.softmax(ROWS[[0, 1, 4]], axis=1)
        np.testing.assert_allclose(gradient[jnp.array([0, 1, 4])], shares, rtol=1e-13)
        np.testing.assert_array_equal(gradient[2:4], 0.0)
        hessian = jax.vmap(jax.hessian(log_sum_exp))(x)
        np.testing.assert_allclose(hessian[0], np.diag(shares[0]) - np.outer(shares[0], shares[0]), rtol=1e-12)
        assert np.isfinite(hessian).all()
        assert np.isfinite(jax.vmap(jax.jacobian(normalise_exp))(x)).all()


@pytest.mark.slow
def test_nan_stays_in_its_row():
    x = jnp.array([[0.0, jnp.nan], [0.0, 0.0]])
    for function in (log_sum_exp, normalise_exp):
        value, gradient = function(x), jax.grad(lambda x, f=function: jnp.sum(f(x)))(x)
        assert np.isnan(value[0]).all() and np.isfinite(value[1]).all()
        assert np.isnan(gradient[0]).all() and np.isfinite(gradient[1]).all()


def test_nothing_else_in_the_package_takes_jaxs():
    """Whose gradient is NaN where all entries are -inf."""
    for path in (ROOT / "vaex").rglob("*.py"):
        assert path.parent.name == "ops" or "nn.logsumexp" not in path.read_text(), path
