"""Solutions of chapter 6, bounds from both sides."""

import jax
import jax.numpy as jnp
import numpy as np

from vaex import bounds
from vaex.distributions import Normal

PRIOR, X = Normal(jnp.zeros(1), 1.0), jnp.array([2.0])


def log_joint(z):  # x|z ~ N(z, 1): p(z|x) = N(x / 2, 1 / 2), p(x) = N(0, 2)
    return PRIOR.log_prob(z) + Normal(z, 1.0).log_prob(X)


EVIDENCE = Normal(jnp.zeros(1), 2**0.5).log_prob(X)


def elbo(loc, scale):
    """E log p(x, z) + entropy, in closed form."""
    constant = -jnp.log(2 * jnp.pi)
    return (
        constant
        - 0.5 * (loc**2 + scale**2 + (X[0] - loc) ** 2 + scale**2)
        + jnp.log(scale)
        + 0.5 * jnp.log(2 * jnp.pi * jnp.e)
    )


def test_1_the_gap_of_a_wrong_encoder_is_amortisation():
    """The family contains the posterior, so its best member leaves no gap: all of the encoder's is its own."""
    wrong = EVIDENCE - elbo(0.3 * X[0], 1.0)

    def climb(parameters, _):
        gradient = jax.grad(lambda p: elbo(p[0], jnp.exp(p[1])))(parameters)
        return parameters + 0.1 * gradient, None

    best, _ = jax.lax.scan(climb, jnp.array([0.3 * 2.0, 0.0]), length=500)
    np.testing.assert_allclose(best, [1.0, 0.5 * np.log(0.5)], atol=1e-3)
    assert wrong > 0.2 and abs(EVIDENCE - elbo(best[0], jnp.exp(best[1]))) < 1e-5


def test_2_the_gap_closes_like_one_over_k():
    """log mean w = log p + (mean - p) / p - (mean - p)² / 2 p² + ...; the second term averages to 0, the third to Var[w] / 2 K p².

    For log w ~ N(-s² / 2, s²): p = 1 and Var[w] = exp(s²) - 1.
    """
    log_weights = 0.5 * jax.random.normal(jax.random.key(0), (100, 100_000)) - 0.125
    gap = -bounds.importance_bound(log_weights).mean()
    np.testing.assert_allclose(gap, (np.exp(0.25) - 1) / 200, rtol=0.1)
    fewer = -bounds.importance_bound(log_weights[:99]).mean()
    assert fewer > gap


def test_3_the_harmonic_mean_has_infinite_variance():
    """1 / w with q the prior is 1 / p(x|z); its second moment under p(z|x) is proportional to the integral of p(z) / p(x|z), in
    which exp(-z² / 2 + (x - z)² / 2) does not fall: infinite. Its logs are upper bounds on average, and scatter far.
    """
    z = Normal(X / 2, 0.5**0.5).sample(jax.random.key(0), (1000, 200))
    log_px = Normal(z, 1.0).log_prob(X)
    harmonic = -bounds.importance_bound(-log_px)  # of a thousand samples, 200 times
    q = Normal(X / 2, 1.0)  # wider than the posterior: weights are bounded
    z = q.sample(jax.random.key(1), (1000, 200))
    importance = bounds.importance_bound(log_joint(z) - q.log_prob(z))
    assert harmonic.mean() > EVIDENCE + 0.03 and harmonic.std() > 3 * importance.std()
    assert abs(importance.mean() - EVIDENCE) < 0.01
