"""Markov chains and Pathfinder through blackjax, against moments that are known."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vaex import inference
from vaex.errors import MissingPackageError, UserError

SUPPORTS = {"rate": inference.positive(), "share": inference.interval(0.0, 1.0)}


def gamma_and_beta(p):
    """Gamma(3, 2) and Beta(2, 4), independent and not normalised."""
    log_gamma = 2.0 * jnp.log(p["rate"]) - 2.0 * p["rate"]
    return log_gamma + jnp.log(p["share"]) + 3.0 * jnp.log1p(-p["share"])


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["nuts", "hmc"])
def test_moments_within_four_standard_errors(kernel):
    diagnostics = pytest.importorskip("blackjax.diagnostics")
    chains = jax.jit(lambda key: inference.sample_chains(key, gamma_and_beta, SUPPORTS, kernel=kernel))(
        jax.random.key(0)
    )
    truths = {"rate": stats.gamma(3, scale=0.5), "share": stats.beta(2, 4)}
    for name, truth in truths.items():
        draws, size = np.asarray(chains.samples[name]), float(chains.effective_sample_size[name])
        assert draws.shape == (4, 1000) and size > 150 and 0.99 < chains.r_hat[name] < 1.03
        np.testing.assert_allclose(draws.mean(), truth.mean(), atol=4 * truth.std() / np.sqrt(size))
        moment = truth.moment(2)
        size = float(diagnostics.effective_sample_size(np.square(draws)))  # squares mix more slowly
        error = np.sqrt((truth.moment(4) - moment**2) / size)
        np.testing.assert_allclose(np.square(draws).mean(), moment, atol=4 * error)
    assert np.all(np.asarray(chains.divergences) == 0) and np.all(np.asarray(chains.acceptance) > 0.5)
    inside = jax.vmap(jax.vmap(inference.space(SUPPORTS).unconstrain))(chains.samples)
    np.testing.assert_allclose(inside, chains.z, atol=1e-3)


@pytest.mark.slow
def test_chains_at_two_modes_do_not_agree():
    pytest.importorskip("blackjax")

    def two_modes(x):
        return jnp.logaddexp(-0.5 * jnp.sum((x - 20.0) ** 2), -0.5 * jnp.sum((x + 20.0) ** 2))

    start = jnp.array([[-20.0], [20.0], [-20.0], [20.0]])
    chains = inference.sample_chains(jax.random.key(0), two_modes, 1, num_samples=200, warmup=100, start=start)
    assert float(chains.r_hat[0]) > 3


@pytest.mark.slow
def test_pathfinder_of_a_gaussian_and_its_elbo():
    pytest.importorskip("blackjax")
    covariance = np.array([[1.0, 0.8, 0.1], [0.8, 2.0, -0.3], [0.1, -0.3, 0.5]])
    mean, precision = jnp.array([1.0, -2.0, 0.5]), jnp.asarray(np.linalg.inv(covariance), jnp.float32)

    def log_density(x):
        return -0.5 * (x - mean) @ precision @ (x - mean)

    fit = jax.jit(lambda key: inference.pathfinder(key, log_density, 3)[1:])(jax.random.key(0))
    q = inference.FullRank(3).distribution(fit[0])
    np.testing.assert_allclose(q.mean, mean, atol=0.02)
    np.testing.assert_allclose(q.covariance, covariance, atol=0.15)  # of a quasi-Newton path
    evidence = 1.5 * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(covariance)[1]
    np.testing.assert_allclose(fit[1], evidence, atol=0.05)


def test_what_chains_refuse(monkeypatch):
    with pytest.raises(UserError, match="kernel is 'gibbs'"):
        inference.sample_chains(jax.random.key(0), jnp.sum, 2, kernel="gibbs")
    with pytest.raises(UserError, match=r"start has shape \(2,\), expected \(4, 2\)"):
        inference.sample_chains(jax.random.key(0), jnp.sum, 2, start=jnp.zeros(2))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for function in (inference.sample_chains, inference.pathfinder):
        with pytest.raises(MissingPackageError, match=r'pip install "vaex-jax\[mcmc\]"'):
            function(jax.random.key(0), jnp.sum, 2)


@pytest.mark.slow
def test_a_potential_of_numpyro_is_a_log_density():
    """Its unconstrained parameters are real: the moments, constrained by NumPyro, are those of the conjugate model."""
    numpyro = pytest.importorskip("numpyro")
    from numpyro import infer

    data = jnp.array([1.0, 4.0, 2.0, 3.0])

    def model():
        rate = numpyro.sample("rate", numpyro.distributions.Gamma(2.0, 1.0))
        numpyro.sample("x", numpyro.distributions.Poisson(rate), obs=data)

    initial = infer.util.initialize_model(jax.random.key(0), model)
    family = inference.FullRank({"rate": inference.real()})
    params, _ = jax.jit(lambda key: inference.fit(key, lambda p: -initial.potential_fn(p), family, steps=500))(
        jax.random.key(0)
    )
    diagnosis = inference.diagnose(
        jax.random.key(1), lambda p: -initial.potential_fn(p), family, params, num_samples=20_000
    )
    mean = inference.corrected_expectation(lambda p: initial.postprocess_fn(p)["rate"], diagnosis)
    np.testing.assert_allclose(mean, 12.0 / 5.0, atol=4 * np.sqrt(12.0 / 25.0 / 20_000) + 1e-3)
    exact = stats.nbinom  # the evidence of one draw at a time: Gamma-Poisson is negative binomial
    shape, rate, evidence = 2.0, 1.0, 0.0
    for value in np.asarray(data):
        evidence += exact.logpmf(value, shape, rate / (rate + 1))
        shape, rate = shape + value, rate + 1
    np.testing.assert_allclose(diagnosis.log_evidence, evidence, atol=5e-3)
