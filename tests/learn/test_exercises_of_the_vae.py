"""Solutions of chapter 4, the variational autoencoder."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import vaex
from vaex.distributions import MultivariateNormal, Normal


def test_1_the_closed_form_is_the_mean_of_the_sampled_one():
    """E_q log q = -(d log 2 pi + d + log det S) / 2 and E_q log p = -(d log 2 pi + tr S + m'm) / 2; the difference is the KL."""
    lower, mean = jnp.array([[1.0, 0.0], [0.8, 0.6]]), jnp.array([0.5, -1.0])
    covariance = lower @ lower.T
    exact = 0.5 * (jnp.trace(covariance) + mean @ mean - 2 - jnp.linalg.slogdet(covariance)[1])
    q, p = MultivariateNormal(mean, scale_tril=lower), Normal(jnp.zeros(2), 1.0)
    np.testing.assert_allclose(vaex.kl(q, p), exact, rtol=1e-5)
    z = q.sample(jax.random.key(0), (40_000,))
    ratios = q.log_prob(z) - p.log_prob(z)
    assert abs(ratios.mean() - exact) < 4 * ratios.std() / 200


def test_2_at_the_optimum_the_sampled_kl_has_no_variance():
    """log p(x, z) - log q(z|x) is log p(x) for every z: fluctuations of both terms cancel. The closed form leaves those of one."""
    d = 5
    q, prior, x = Normal(jnp.full(d, 0.5), jnp.full(d, 0.5**0.5)), Normal(jnp.zeros(d), 1.0), jnp.ones(d)
    z = q.sample(jax.random.key(0), (10_000,))
    log_px = Normal(z, 1.0).log_prob(x)
    sampled = log_px + prior.log_prob(z) - q.log_prob(z)
    closed = log_px - vaex.kl(q, prior)
    # (x - z)² / 2 with x - z ~ N(1/2, 1/2) in each of d latents: variance (2 (1/2)² + 4 (1/2) (1/4)) / 4 = 1/4
    assert sampled.std() < 1e-5
    np.testing.assert_allclose(closed.var(), d / 4, rtol=0.1)
    np.testing.assert_allclose(closed.mean(), sampled.mean(), atol=4 * (d / 4) ** 0.5 / 100)


def test_3_a_direction_is_encoded_where_it_varies_more_than_the_noise():
    """log p(x) of C = s² I + w w' in the direction u of largest variance l, with w = a u, is up to a constant
    -(log(s² + a²) + l / (s² + a²)) / 2: it falls with a² everywhere if l < s², and has its maximum at a² = l - s² otherwise.
    """
    largest = np.linalg.eigvalsh(np.cov(load_digits().data.T / 16))[-1]
    strength = np.linspace(0.0, 2.0, 201)

    def log_likelihood(scale):
        return -0.5 * (np.log(scale**2 + strength) + largest / (scale**2 + strength))

    assert largest < 1 and np.argmax(log_likelihood(1.0)) == 0  # no latent is worth its KL: total collapse
    np.testing.assert_allclose(strength[np.argmax(log_likelihood(0.2))], largest - 0.04, atol=0.01)
