"""Annealed bounds of a decoder under a standard normal prior, against the exact likelihood of probabilistic PCA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import LinearGaussian

from vaex.bounds import importance_bound, mixture_log_weights
from vaex.distributions import Normal
from vaex.evaluation.annealing import (
    annealed_bounds,
    annealed_log_likelihood,
    density_fit_log_likelihood,
    simulated_sandwich,
)
from vaex.evaluation.likelihood import weighted_log_likelihood

ORACLE = LinearGaussian(latents=3, pixels=8, seed=5)
KEY = jax.random.key(0)


def decode(z):
    likelihood = ORACLE.likelihood(z)
    return Normal(likelihood.loc, log_scale=likelihood.log_scale, event_ndims=1)


@pytest.mark.slow
def test_the_bound_is_near_the_exact_log_likelihood_and_not_above():
    few, many = (
        annealed_log_likelihood(KEY, decode, jnp.broadcast_to(ORACLE.x, (n, 8)), 3, temperatures=t, chains=8)
        for t, n in ((3, 100), (300, 12))
    )
    exact, errors = ORACLE.log_likelihood(), [float(jnp.std(bound) / len(bound) ** 0.5) for bound in (few, many)]
    assert exact - 0.1 < float(many.mean()) < exact + 3 * errors[1]
    assert float(few.mean()) < float(many.mean()) - 3 * errors[0] and float(jnp.std(few)) > float(jnp.std(many))


@pytest.mark.slow
def test_simulated_examples_are_sandwiched():
    lower, upper = simulated_sandwich(KEY, decode, 40, 3, temperatures=200, chains=8)
    gap = np.asarray(upper - lower, np.float64)
    assert 0 < gap.mean() < 1.0 and gap.mean() > 3 * gap.std() / 40**0.5 - gap.mean()
    assert np.mean(gap > -1.0) == 1.0


def test_settings_below_one_are_refused():
    with pytest.raises(ValueError, match="annealed_log_likelihood: temperatures=0"):
        annealed_log_likelihood(KEY, decode, jnp.zeros((1, 8)), 3, temperatures=0)
    with pytest.raises(ValueError, match=r"simulated_sandwich: .*chains=0"):
        simulated_sandwich(KEY, decode, 1, 3, chains=0)


@pytest.mark.slow
def test_annealing_is_within_a_twentieth_of_a_nat_below_and_the_reverse_chain_above():
    """Over copies of one example, whose exact log-likelihood is known; examples that are simulated, by their own."""
    x = jnp.broadcast_to(ORACLE.x, (64, 8))
    bounds = annealed_bounds(KEY, decode, x, 3, temperatures=500, chains=16)
    exact, error = ORACLE.log_likelihood(), float(jnp.std(bounds.bound)) / 8
    assert exact - 0.05 < float(bounds.bound.mean()) < exact + 3 * error and error < 0.02
    assert float(bounds.effective_sample_size.min()) >= 1 and float(bounds.effective_sample_size.max()) <= 16 + 1e-3


@pytest.mark.slow
def test_blocks_change_no_bound():
    """The chains of an example depend on its number and on itself alone."""
    x = ORACLE.x + jnp.arange(5.0)[:, None] / 10
    told = []
    together = annealed_bounds(KEY, decode, x, 3, temperatures=5, chains=100, tell=told.append).bound
    first = annealed_bounds(KEY, decode, x[:3], 3, temperatures=5, chains=100).bound
    np.testing.assert_allclose(together[:3], first, rtol=1e-5)
    assert told[:2] == ["annealed lower bounds: 0 of 5 examples, 2 at a time", "annealed lower bounds: 2 of 5 examples"]
    assert told[-1] == "annealed lower bounds: 5 of 5 examples"


@pytest.mark.slow
def test_the_density_fit_finds_the_exact_log_likelihood():
    x = jnp.broadcast_to(ORACLE.x, (8, 8))
    found = density_fit_log_likelihood(KEY, decode, x, 3, chains=200, temperatures=100, transitions=20)
    exact = ORACLE.log_likelihood()  # the posterior is Gaussian, so the fit's only error is that of its moments
    assert abs(float(found.mean()) - exact) < 0.05 and float(jnp.std(found)) < 0.1


def test_the_density_fit_needs_enough_chains():
    with pytest.raises(ValueError, match=r"density_fit_log_likelihood: chains=4, transitions=50; expected at least 5"):
        density_fit_log_likelihood(KEY, decode, jnp.zeros((1, 8)), 3, chains=4)


def log_weights(key, variables, hparams, batch, k):
    q = Normal(jnp.asarray(ORACLE.centre), jnp.sqrt(jnp.diag(jnp.asarray(ORACLE.covariance))) * 1.2)
    z = q.sample(key, (k,))
    return (decode(z).log_prob(batch["x"][0]) + ORACLE.prior.log_prob(z) - q.log_prob(z))[:, None]


@pytest.mark.slow
def test_weighted_bounds_have_the_size_of_all_weights_at_once():
    batch = {"x": ORACLE.x[None]}
    parts = weighted_log_likelihood(log_weights, num_samples=200, samples_per_chunk=50)(KEY, None, None, batch)
    keys = [jax.random.fold_in(jax.random.split(KEY, 1)[0], i) for i in range(4)]
    weights = np.exp(np.concatenate([np.asarray(log_weights(k, None, None, batch, 50), np.float64) for k in keys]))[
        :, 0
    ]
    np.testing.assert_allclose(parts.effective_sample_size[0], weights.sum() ** 2 / np.square(weights).sum(), rtol=1e-4)
    np.testing.assert_allclose(parts.bound[0], np.log(weights.mean()), rtol=1e-5)


@pytest.mark.slow
def test_several_encoders_bound_more_than_each_and_less_than_the_evidence():
    """Two posteriors that miss on opposite sides: MISELBO is above the mean of their ELBOs, and both are below log p(x)."""
    scale = jnp.sqrt(jnp.diag(jnp.asarray(ORACLE.covariance)))
    posteriors = [Normal(jnp.asarray(ORACLE.centre) + side * scale, scale) for side in (-1.0, 1.0)]
    keys = jax.random.split(KEY)
    z = jnp.stack([q.sample(key, (4000,)) for q, key in zip(posteriors, keys, strict=True)])
    joint = decode(z).log_prob(ORACLE.x) + ORACLE.prior.log_prob(z)
    log_q = jnp.stack([q.log_prob(z) for q in posteriors])
    weights = mixture_log_weights(joint, log_q)
    alone = float(jnp.mean(joint - jnp.stack([log_q[0, 0], log_q[1, 1]])))
    exact, error = ORACLE.log_likelihood(), float(jnp.std(weights)) / 8000**0.5
    assert alone + 0.1 < float(weights.mean()) < exact - 3 * error
    assert abs(float(importance_bound(weights.reshape(-1))) - exact) < 0.1
