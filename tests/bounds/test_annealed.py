"""Annealed chains sandwich the exact log-likelihood of probabilistic PCA, and their weights are unbiased."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import LinearGaussian

from vaex.bounds import adapted_step_sizes, annealed_log_weights, annealing_schedule, importance_bound

ORACLE = LinearGaussian(latents=4, pixels=10, seed=3)
EXACT = ORACLE.log_likelihood()
CHAINS = 400


def log_px(z):
    return jnp.sum(ORACLE.likelihood(z).log_prob(ORACLE.x)[..., None], axis=-1)


def log_prior(z):
    return ORACLE.prior.log_prob(z)


def chains(num, *, reverse=False, seed=0):
    betas = annealing_schedule(num)
    keys = jax.random.split(jax.random.key(seed), 4)
    prior = jax.random.normal(keys[0], (CHAINS, 4))
    steps = adapted_step_sizes(keys[1], prior, log_prior, log_px, betas=betas)
    if reverse:
        start = jnp.asarray(ORACLE.sample_posterior(np.random.default_rng(seed), CHAINS))
    else:
        start = jax.random.normal(keys[2], (CHAINS, 4))
    return annealed_log_weights(keys[3], start, log_prior, log_px, betas=betas, step_sizes=steps, reverse=reverse)


@pytest.mark.slow
def test_chains_sandwich_the_exact_log_likelihood():
    lower, upper = jax.jit(lambda: chains(500))(), jax.jit(lambda: chains(500, reverse=True))()
    gaps = [np.asarray(EXACT - lower.log_weights, np.float64), np.asarray(upper.log_weights - EXACT, np.float64)]
    for gap in gaps:  # nearly normal logs of unbiased weights lie half their variance off
        assert 0 < gap.mean() < 0.6 and abs(gap.mean() - gap.var() / 2) < 4 * gap.std() / CHAINS**0.5
    for gap, bound in zip(
        gaps, (importance_bound(lower.log_weights), importance_bound(-upper.log_weights)), strict=True
    ):
        ratios = np.exp(-gap)
        assert abs(ratios.mean() - 1) < 4 * ratios.std() / CHAINS**0.5
        assert abs(abs(float(bound)) - abs(EXACT)) == pytest.approx(abs(np.log(ratios.mean())), abs=1e-4)
    for result in (lower, upper):
        assert 0.4 < float(result.acceptance[100:].mean()) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
def test_weights_are_unbiased_at_any_number_of_temperatures(reverse):
    """E[w] = p(x) forward and E[1/w] = 1/p(x) in reverse, however few temperatures, within 4 standard errors."""
    weights = jnp.concatenate(
        [jax.jit(lambda s: chains(12, reverse=reverse, seed=s).log_weights, static_argnums=0)(s) for s in range(5)]
    )
    sign = -1 if reverse else 1
    ratios = np.exp(sign * (np.asarray(weights, np.float64) - EXACT))
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / len(ratios) ** 0.5
    assert (np.mean(weights) > EXACT) == reverse


@pytest.mark.slow
def test_forward_chains_end_in_the_posterior():
    ends = np.asarray(jax.jit(lambda: chains(500))().z, np.float64)
    error = np.sqrt(np.diag(ORACLE.covariance) / CHAINS)
    assert np.all(np.abs(ends.mean(0) - ORACLE.centre) < 4 * error)
    np.testing.assert_allclose(np.cov(ends.T), ORACLE.covariance, atol=0.35 * np.diag(ORACLE.covariance).max())


def test_the_schedule_rises_from_0_to_1_and_is_dense_at_the_ends():
    betas = np.asarray(annealing_schedule(50))
    assert betas[0] == 0 and betas[-1] == 1 and np.all(np.diff(betas) > 0)
    assert np.diff(betas)[0] < 0.5 * np.diff(betas)[25]
    np.testing.assert_allclose(annealing_schedule(50, steepness=1e-2), np.linspace(0, 1, 51), atol=1e-4)
    with pytest.raises(ValueError, match="num=0"):
        annealing_schedule(0)
    with pytest.raises(ValueError, match="steepness=0"):
        annealing_schedule(3, steepness=0)


@pytest.mark.slow
def test_without_transitions_a_weight_is_the_importance_weight():
    """One temperature: log w = log p(x|z), forward and in reverse, of examples along further axes too."""
    z = jax.random.normal(jax.random.key(0), (3, 2, 4))
    for reverse in (False, True):
        result = annealed_log_weights(
            jax.random.key(1), z, log_prior, log_px, betas=annealing_schedule(1), step_sizes=0.1, reverse=reverse
        )
        np.testing.assert_allclose(result.log_weights, log_px(z), rtol=1e-6)
        assert result.z.shape == z.shape and result.acceptance.shape == (1,)
