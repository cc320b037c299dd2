"""Diagnostics against blackjax, against tails of known shape, and against exact evidences and moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy import stats as stats_jax
from scipy import special, stats

from vaex import inference
from vaex.errors import UserError


@pytest.mark.slow
@pytest.mark.parametrize("shape", [0.4, 0.8, 1.3])
def test_smoothing_is_blackjaxs(shape):
    blackjax = pytest.importorskip("blackjax.diagnostics")
    draws = np.random.default_rng(0).pareto(1 / shape, 2000) + 1
    log_weights = jnp.asarray(np.log(draws), jnp.float32)
    smoothed, k = jax.jit(inference.smooth_weights)(log_weights)
    tail = int(np.ceil(3 * np.sqrt(2000)))
    reference, reference_k = blackjax.psis_weights(log_weights, r_eff=2000 / (tail / 3) ** 2)  # the same tail
    np.testing.assert_allclose(k, reference_k, atol=1e-4)
    np.testing.assert_allclose(smoothed - jax.nn.logsumexp(smoothed), reference, atol=1e-4)


@pytest.mark.parametrize("shape", [0.3, 0.6, 1.0])
def test_the_shape_of_a_pareto_tail(shape):
    log_weights = jnp.asarray(-shape * np.log(np.random.default_rng(1).uniform(size=50_000)))
    smoothed, k = jax.jit(inference.smooth_weights)(log_weights)
    error = (1 + shape) / np.sqrt(3 * np.sqrt(50_000))  # asymptotic, of maximum likelihood
    np.testing.assert_allclose(k, shape, atol=4 * error)
    assert float(jnp.max(smoothed)) <= float(jnp.max(log_weights)) + 1e-5


def test_equal_weights_stay_and_few_are_refused():
    smoothed, k = jax.jit(inference.smooth_weights)(jnp.full(100, 3.0))
    np.testing.assert_array_equal(smoothed, 3.0)
    assert k == -jnp.inf
    with pytest.raises(UserError, match="at least 25"):
        inference.smooth_weights(jnp.zeros(24))


def test_a_gamma_and_its_evidence():
    """Gamma(a, 1) without its normaliser: the evidence is the log of the gamma function, the mean a."""
    shape, family = 3.0, inference.FullRank({"x": inference.positive()})

    def log_density(parameters):
        return (shape - 1) * jnp.log(parameters["x"]) - parameters["x"]

    @jax.jit
    def run(key):
        params, _ = inference.fit(key, log_density, family, steps=400)
        diagnosis = inference.diagnose(jax.random.fold_in(key, 1), log_density, family, params, num_samples=20_000)
        return diagnosis, inference.corrected_expectation(lambda parameters: parameters["x"], diagnosis)

    diagnosis, mean = run(jax.random.key(0))
    evidence = special.gammaln(shape)
    assert diagnosis.elbo + 4 * diagnosis.elbo_error < evidence
    np.testing.assert_allclose(diagnosis.log_evidence, evidence, atol=0.01)
    np.testing.assert_allclose(mean, shape, atol=4 * np.sqrt(shape / diagnosis.effective_sample_size))
    assert diagnosis.pareto_k < 0.7 and diagnosis.effective_sample_size > 10_000


def test_a_family_that_misses_mass_is_reported():
    """Too narrow by a factor of 4: weights have no mean of their squares, and the shape is 1 - 1/16 in the limit."""
    family = inference.MeanField(1)
    params = {"loc": jnp.zeros(1), "log_scale": jnp.log(jnp.full(1, 0.25))}
    diagnosis = jax.jit(
        lambda key: inference.diagnose(key, lambda x: -0.5 * jnp.sum(x**2), family, params, num_samples=5000)
    )(jax.random.key(0))
    assert diagnosis.pareto_k > 0.7


@pytest.mark.slow
def test_eight_schools_against_quadrature():
    """Without the schools' effects, which integrate out, two parameters are left: a grid gives evidence and means."""
    effects = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    errors = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    mean, log_spread = np.meshgrid(np.linspace(-30, 40, 701), np.linspace(-10, 9, 951), indexing="ij")
    spread = np.exp(log_spread)
    log_density = stats.norm.logpdf(mean, 0, 5) - np.log1p((spread / 5) ** 2) + log_spread
    for effect, error in zip(effects, errors, strict=True):
        log_density += stats.norm.logpdf(effect, mean, np.sqrt(error**2 + spread**2))
    evidence = special.logsumexp(log_density) + np.log(0.1 * 0.02)
    expected = np.sum(np.exp(log_density - special.logsumexp(log_density)) * mean)
    family = inference.FullRank({"mean": inference.real(), "spread": inference.positive(), "z": inference.real(8)})

    def density(p):
        prior = stats_jax.norm.logpdf(p["mean"], 0, 5) - jnp.log1p((p["spread"] / 5) ** 2)
        prior += jnp.sum(stats_jax.norm.logpdf(p["z"]))
        centre = p["mean"] + p["spread"] * p["z"]
        return prior + jnp.sum(stats_jax.norm.logpdf(jnp.asarray(effects), centre, jnp.asarray(errors)))

    @jax.jit
    def run(key):
        params, _ = inference.fit(key, density, family)
        diagnosis = inference.diagnose(jax.random.fold_in(key, 1), density, family, params, num_samples=50_000)
        return diagnosis, inference.corrected_expectation(lambda p: p["mean"], diagnosis)

    diagnosis, corrected = run(jax.random.key(0))
    assert diagnosis.elbo < evidence - 0.05
    np.testing.assert_allclose(diagnosis.log_evidence, evidence, atol=0.05)
    np.testing.assert_allclose(corrected, expected, atol=0.25)
