"""Annealed bounds of a decoder under a standard normal prior, against the exact likelihood of probabilistic PCA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import LinearGaussian

from vaex.distributions import Normal
from vaex.evaluation.annealing import annealed_log_likelihood, simulated_sandwich

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
