"""Poisson and negative binomial against SciPy, at small and large counts, in float32 and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

from vaex import distributions as vd

COUNTS = np.array([0, 1, 2, 3, 7, 8, 9, 50, 300, 4000, 60000])[:, None, None]
MEANS = np.array([1e-3, 0.4, 1.0, 6.0, 55.0, 3990.0, 50000.0])[:, None]
DISPERSIONS = np.array([1e-4, 0.01, 0.3, 1.0, 20.0])
UNIT = 1.0 / 60000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_densities_and_gradients_are_scipys(dtype):
    with jax.enable_x64(dtype == np.float64):
        counts, means, dispersions = np.broadcast_arrays(COUNTS, MEANS, DISPERSIONS)
        log_means, log_dispersions = np.log(means).astype(dtype), np.log(dispersions).astype(dtype)
        values = (counts * UNIT).astype(dtype)

        def negative_binomial(log_mean, log_dispersion):
            return vd.NegativeBinomial(log_mean, log_dispersion, 0, UNIT).log_prob(values)

        poisson = np.asarray(jax.jit(lambda log_rate: vd.Poisson(log_rate, 0, UNIT).log_prob(values))(log_means))
        binomial = np.asarray(jax.jit(negative_binomial)(log_means, log_dispersions))
        gradient = jax.jit(jax.grad(lambda *a: negative_binomial(*a).sum(), argnums=(0, 1)))
        of_mean, of_dispersion = map(np.asarray, gradient(log_means, log_dispersions))
    means, dispersions = np.exp(log_means.astype(float)), np.exp(log_dispersions.astype(float))
    # exp(log mean) is off by a few units in the last place, times the logarithm, which the distance of the count multiplies
    rounding = 8 * np.finfo(dtype).eps * (1 + np.abs(log_means)) * (1 + np.abs(counts - means))
    for result, expected in (
        (poisson, st.poisson.logpmf(counts, means)),
        (binomial, st.nbinom.logpmf(counts, 1 / dispersions, 1 / (1 + dispersions * means))),
    ):
        # SciPy's own differences of logarithms of gamma functions lose digits: 4e-11 of the value, in float64
        relative = max(4 * np.finfo(dtype).eps, 1e-10)
        assert np.all(np.abs(result - expected) <= rounding + relative * np.abs(expected) + 3e-6)
    score = (counts - means) / (1 + dispersions * means)  # d log p / d log mean
    np.testing.assert_allclose(of_mean, score, rtol=1e-3, atol=1e-2 if dtype == np.float32 else 1e-9)
    assert np.all(np.isfinite(of_dispersion))


@pytest.mark.slow
def test_a_geometric_distribution_and_a_poisson_are_limits():
    counts = np.arange(9.0, dtype=np.float32)
    geometric = vd.NegativeBinomial(jnp.full(9, jnp.log(3.0)), jnp.zeros(9), 0).log_prob(counts)
    np.testing.assert_allclose(geometric, counts * np.log(0.75) + np.log(0.25), rtol=1e-5)
    near = vd.NegativeBinomial(jnp.full(9, 1.0), jnp.full(9, -16.0), 0).log_prob(counts)
    np.testing.assert_allclose(near, vd.Poisson(jnp.full(9, 1.0), 0).log_prob(counts), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_probabilities_sum_to_one():
    values = jnp.arange(4000.0)[:, None]
    distribution = vd.NegativeBinomial(jnp.log(jnp.array([0.5, 30.0, 200.0])), jnp.log(jnp.array([0.2, 1.5, 0.3])), 0)
    np.testing.assert_allclose(jnp.exp(distribution.log_prob(values)).sum(0), 1.0, atol=2e-5)
