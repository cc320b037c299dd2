"""Solutions of chapter 2, latent variables."""

import jax
import jax.numpy as jnp
import numpy as np

from vaex.bounds import importance_bound
from vaex.distributions import Normal

GRID = jnp.linspace(-6, 6, 2001)[:, None]
WIDTH = GRID[1, 0] - GRID[0, 0]
PRIOR = Normal(jnp.zeros(1), 1.0)


def likelihood(z, sigma):
    return Normal(jnp.concatenate([jnp.cos(2 * z), jnp.sin(2 * z)], axis=-1), sigma)


def log_joint(x, sigma):
    return likelihood(GRID, sigma).log_prob(x) + PRIOR.log_prob(GRID)


def log_evidence(x, sigma):
    return jax.nn.logsumexp(log_joint(x, sigma)) + jnp.log(WIDTH)


def posterior(x):
    return jnp.exp(log_joint(x, 0.2) - log_evidence(x, 0.2))


def test_1_the_gradient_of_the_evidence_is_an_average_over_the_posterior():
    """grad log p(x) = (1 / p(x)) int grad p(x, z) dz = int (p(x, z) / p(x)) grad log p(x, z) dz."""
    x = jnp.array([0.9, 0.5])
    averaged = jnp.sum(posterior(x) * jax.jacobian(log_joint, argnums=1)(x, 0.2)) * WIDTH
    np.testing.assert_allclose(averaged, jax.grad(log_evidence, argnums=1)(x, 0.2), rtol=1e-3)


def test_2_a_mean_between_two_modes_is_an_unlikely_value():
    """On the left of the circle the modes are at -pi/2 and pi/2, the mean lies near 0, where x would be on the right."""
    density = posterior(jnp.array([-1.0, 0.0]))
    mean = jnp.sum(density * GRID[:, 0]) * WIDTH
    at_the_mean = density[jnp.argmin(jnp.abs(GRID[:, 0] - mean))]
    assert abs(mean) < 0.01 and at_the_mean < 1e-6 and density.max() > 1.5


def test_3_the_log_of_an_average_is_too_low_and_rises_with_its_terms():
    """Jensen: E log mean <= log E mean; the mean of K is a mean over all subsets of K - 1, so Jensen again compares K and K - 1."""
    x = jnp.array([0.98, 0.2])
    z = PRIOR.sample(jax.random.key(0), (100, 4000))
    log_px = likelihood(z, 0.2).log_prob(x)
    bounds = [jnp.mean(importance_bound(log_px[:k])) for k in (1, 10, 100)]
    assert bounds[0] < bounds[1] < bounds[2] < log_evidence(x, 0.2)
