"""One mixture of diagonal Gaussians, computed by matrix products, against the sum over components in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from vaex.distributions import Mixture, MultivariateNormal, Normal

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=50).astype(np.float32)
MEAN = 3.0 * RNG.normal(size=(50, 20)).astype(np.float32)


def by_hand(z, log_scale):
    """log p(z) and the components' responsibilities in float64."""
    components = norm.logpdf(np.float64(z)[..., None, :], np.float64(MEAN), np.exp(np.float64(log_scale))).sum(-1)
    joint = components + LOGITS - logsumexp(np.float64(LOGITS))
    total = logsumexp(joint, axis=-1)
    return total, np.exp(joint - total[..., None])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1.0, 0.1, 1e-3])
def test_density_and_gradient_do_not_cancel(width):
    log_scale = np.float32(np.log(width) + 0.3 * RNG.normal(size=MEAN.shape))
    z = np.concatenate([MEAN[:30] + np.exp(log_scale[:30]) * RNG.normal(size=(30, 20)), RNG.normal(size=(10, 20))])
    z = np.float32(z.reshape(4, 10, 20))
    expected, shares = by_hand(z, log_scale)
    found, gradient = jax.vmap(
        jax.value_and_grad(lambda z: Mixture(LOGITS, Normal(MEAN, log_scale=log_scale)).log_prob(z))
    )(z.reshape(40, 20))
    assert Mixture(LOGITS, Normal(MEAN, log_scale=log_scale)).log_prob(z).shape == (4, 10)
    np.testing.assert_allclose(found.reshape(4, 10), expected, rtol=2e-5)
    mixture = Mixture(LOGITS, Normal(MEAN, log_scale=log_scale))
    np.testing.assert_allclose(np.exp(mixture.log_responsibilities(z)), shares, atol=1e-3 if width > 0.01 else 0.05)
    scores = -(z[..., None, :] - np.float64(MEAN)) / np.exp(2.0 * np.float64(log_scale))
    slope = np.einsum("abk,abkd->abd", shares, scores)
    np.testing.assert_allclose(gradient.reshape(4, 10, 20), slope, rtol=1e-3, atol=1e-4 * np.abs(slope).max())


@pytest.mark.slow
def test_far_from_all_components_it_falls_without_nan():
    mixture = Mixture(jnp.zeros(50), Normal(MEAN, log_scale=np.zeros_like(MEAN)))
    assert mixture.log_prob(jnp.full(20, 1e25)) == -np.inf
    assert mixture.log_prob(jnp.full(20, 1e10)) < -1e20


@pytest.mark.slow
def test_samples_have_the_moments_of_the_mixture():
    mixture = Mixture(jnp.asarray(LOGITS), Normal(MEAN, log_scale=np.full_like(MEAN, -1.0)))
    z = mixture.sample(jax.random.key(0), (100, 400))
    assert z.shape == (100, 400, 20)
    flat = np.asarray(z, np.float64).reshape(-1, 20)
    error = np.sqrt(mixture.variance / len(flat))
    assert np.all(np.abs(flat.mean(0) - mixture.mean) < 4.5 * error)
    np.testing.assert_allclose(flat.var(0), mixture.variance, rtol=0.05)


def test_responsibilities_of_any_family_sum_to_one():
    components = MultivariateNormal(jnp.asarray(MEAN[:4, :2]), scale_tril=jnp.eye(2))
    found = Mixture(jnp.zeros(4), components).log_responsibilities(jnp.zeros((5, 2)))
    by_hand = -0.5 * np.sum(MEAN[:4, :2] ** 2, axis=-1)
    np.testing.assert_allclose(found, np.tile(by_hand - logsumexp(by_hand), (5, 1)), rtol=1e-4)
    with pytest.raises(ValueError, match="log_responsibilities: value has shape"):
        Mixture(jnp.zeros(4), components).log_responsibilities(jnp.zeros((5, 3)))
