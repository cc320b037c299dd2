"""Solutions of chapter 3, variational inference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import inference
from vaex.distributions import MultivariateNormal, Normal
from vaex.inference import GaussianMixture, MeanField, diagnose, fit

RHO = 0.9
TARGET = MultivariateNormal(jnp.zeros(2), scale_tril=jnp.linalg.cholesky(jnp.array([[1.0, RHO], [RHO, 1.0]])))


@pytest.mark.slow
def test_1_directions_of_the_divergence_give_different_variances():
    """log q_1*(z_1) = -(L11 z_1² + 2 L12 z_1 E[z_2]) / 2 + const: a Gaussian of variance 1 / L11 = 1 - rho², whatever E[z_2].

    The forward KL is -sum_i E_p[log q_i(z_i)] + const: each factor is fitted to a marginal of p alone, whose variance is 1.
    """
    run = jax.jit(fit, static_argnames=("log_density", "family", "objective", "steps", "num_samples"))
    key = jax.random.key(0)
    reverse, _ = run(key, log_density=TARGET.log_prob, family=MeanField(2), steps=1000)
    forward = inference.forward_kl(Normal(jnp.zeros(2), 2.0))
    moments, _ = run(
        key, log_density=TARGET.log_prob, family=MeanField(2), steps=1000, objective=forward, num_samples=512
    )
    np.testing.assert_allclose(jnp.exp(2 * reverse["log_scale"]), 1 - RHO**2, rtol=0.05)
    np.testing.assert_allclose(jnp.exp(2 * moments["log_scale"]), 1.0, rtol=0.1)


APART = {"logits": jnp.zeros(2), "loc": jnp.array([[-1.0], [1.0]]), "log_scale": jnp.full((2, 1), -1.0)}


def circle(z):
    mean = jnp.stack([jnp.cos(2 * z[0]), jnp.sin(2 * z[0])])
    return Normal(jnp.zeros(1), 1.0).log_prob(z) + Normal(mean, 0.2).log_prob(jnp.array([-1.0, 0.05]))


@pytest.mark.slow
def test_2_two_components_leave_almost_nothing_out():
    """One Gaussian on one of two equal modes loses log 2; two lose only what their shapes differ from the modes'."""
    grid = jnp.linspace(-6, 6, 2001)[:, None]
    evidence = jax.nn.logsumexp(jax.vmap(circle)(grid)) + jnp.log(grid[1, 0] - grid[0, 0])
    gaps = []
    for family, start in [
        (MeanField(1), {"loc": jnp.array([0.5]), "log_scale": jnp.zeros(1)}),
        (GaussianMixture(1, components=2), APART),  # components that begin together may end on one mode
    ]:
        params, _ = jax.jit(lambda key, f=family, s=start: fit(key, circle, f, steps=1500, params=s))(jax.random.key(1))
        diagnosis = diagnose(jax.random.key(2), circle, family, params, num_samples=4000)
        gaps.append(float(evidence - diagnosis.elbo))
    assert abs(gaps[0] - np.log(2)) < 0.15 and gaps[1] < 0.1


def test_3_log_weights_of_the_posterior_do_not_vary():
    """log p(x, z) - log p(z|x) = log p(x) for every z. z ~ N(0, 1), x|z ~ N(z, 1): p(z|x) = N(x / 2, 1 / 2)."""
    x = jnp.array([1.7])
    q = Normal(x / 2, jnp.sqrt(0.5))
    z = q.sample(jax.random.key(0), (100,))
    log_weights = Normal(jnp.zeros(1), 1.0).log_prob(z) + Normal(z, 1.0).log_prob(x) - q.log_prob(z)
    np.testing.assert_allclose(log_weights, Normal(jnp.zeros(1), jnp.sqrt(2.0)).log_prob(x), rtol=1e-5)
