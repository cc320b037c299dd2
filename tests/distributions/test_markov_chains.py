"""Densities and moments against blackjax: chains that see a log-density alone must find the moments that the records claim."""

import math

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import LinearGaussian
from scipy import integrate

from vaex import bounds
from vaex.distributions import Bernoulli, Laplace, LowRankNormal, Mixture, MultivariateNormal, Normal

CHAINS, WARM_UP, STEPS = 400, 100, 200


def chains(log_density, start: jax.Array, step_size: float, seed: int = 0) -> np.ndarray:
    """Hamiltonian Monte Carlo: positions [chains, steps, d] after warming up."""
    sampler = blackjax.hmc(log_density, step_size, jnp.ones(start.shape[-1]), 12)

    def one(key, position):
        def move(state, key):
            state, _ = sampler.step(key, state)
            return state, state.position

        return jax.lax.scan(move, sampler.init(position), jax.random.split(key, WARM_UP + STEPS))[1][WARM_UP:]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(seed), CHAINS), start), np.float64)


def agrees(per_chain: np.ndarray, expected: np.ndarray) -> bool:
    """Whether the mean over chains, which are independent, lies within four standard errors."""
    error = per_chain.std(0, ddof=1) / math.sqrt(len(per_chain))
    return bool(np.all(np.abs(per_chain.mean(0) - expected) < 4 * error + 1e-3))


FACTOR = jnp.array([[1.0, 0.0], [0.6, 0.5]])
CASES = {
    "normal": Normal(jnp.array([1.0, -2.0]), log_scale=jnp.array([0.0, -0.7])),
    "laplace": Laplace(jnp.array([0.5, 0.0]), log_scale=jnp.array([-0.3, 0.2])),
    "full covariance": MultivariateNormal(jnp.array([1.0, -1.0]), scale_tril=FACTOR),
    "low rank": LowRankNormal(jnp.array([0.0, 1.0]), jnp.array([[0.8], [0.4]]), log_scale=jnp.array([-0.5, -0.2])),
    "mixture": Mixture(jnp.zeros(2), Normal(jnp.array([[-0.8, 0.0], [0.8, 0.5]]), 1.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_chains_on_a_density_find_its_moments(name):
    d = CASES[name]
    start = d.sample(jax.random.key(1), (CHAINS,))
    found = chains(d.log_prob, start, 0.2)
    assert agrees(found.mean(1), np.asarray(d.mean))
    assert agrees(np.square(found - np.asarray(d.mean)).mean(1), np.asarray(d.variance))


def test_chains_find_the_exact_posterior_of_probabilistic_pca_and_its_upper_bound():
    model = LinearGaussian(latents=2, pixels=4, seed=0)

    def log_joint(z):
        return model.likelihood(z).log_prob(model.x) + model.prior.log_prob(z)

    start = jnp.asarray(model.sample_posterior(np.random.default_rng(0), CHAINS))
    z = chains(log_joint, start + 0.5, 0.1)
    assert agrees(z.mean(1), model.centre)
    centred = z - model.centre
    assert agrees(np.einsum("csi,csj->cij", centred, centred) / STEPS, model.covariance)
    q = Normal(jnp.asarray(model.centre + 0.3, jnp.float32), log_scale=jnp.full(2, -0.5))
    positions = jnp.asarray(z, jnp.float32)
    weights = jax.vmap(jax.vmap(log_joint))(positions) - q.log_prob(positions)
    upper = bounds.evidence_upper_bound(jnp.swapaxes(weights, 0, 1), samples="posterior")  # one value per chain
    gap = model.kl_from_posterior(model.centre + 0.3, math.exp(-1.0) * np.eye(2))
    assert agrees(np.asarray(upper, np.float64), np.array(model.log_likelihood() + gap))


@pytest.mark.slow
def test_the_upper_bound_of_a_nonlinear_decoder_by_chains_and_by_quadrature():
    x = jnp.array([1.0, 0.0, 1.0])
    prior, q = Normal(jnp.zeros(1), 1.0), Normal(jnp.array([0.4]), log_scale=jnp.array([-0.2]))

    def log_joint(z):
        logits = jnp.concatenate([1.5 * jnp.sin(2.0 * z), z**2 - 1.0, -2.0 * z], -1)
        return Bernoulli(logits).log_prob(x) + prior.log_prob(z)

    z = jnp.asarray(chains(log_joint, q.sample(jax.random.key(1), (CHAINS,)), 0.25), jnp.float32)
    weights = jax.vmap(jax.vmap(log_joint))(z) - q.log_prob(z)
    upper = np.asarray(bounds.evidence_upper_bound(jnp.swapaxes(weights, 0, 1), samples="posterior"), np.float64)
    grid = np.linspace(-8, 8, 4001)
    joint = np.asarray(jax.vmap(log_joint)(jnp.asarray(grid, jnp.float32)[:, None]), np.float64)
    log_q = np.asarray(q.log_prob(jnp.asarray(grid, jnp.float32)[:, None]), np.float64)
    evidence = integrate.simpson(np.exp(joint), x=grid)
    exact = integrate.simpson(np.exp(joint) * (joint - log_q), x=grid) / evidence
    assert exact > math.log(evidence)
    assert agrees(upper, np.array(exact))
