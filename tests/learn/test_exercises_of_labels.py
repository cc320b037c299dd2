"""Solutions of chapter 10, labels."""

import jax
import jax.numpy as jnp
import numpy as np


def test_1_the_best_classifier_is_the_softmax_of_the_bounds():
    """sum_y q (L - log q) = log sum exp L - KL(q || softmax L): largest, with the value log sum exp L, at q = softmax L."""
    bounds = jnp.array([-10.0, -9.0, -12.0])

    def unlabelled(logits):
        q = jax.nn.softmax(logits)
        return jnp.sum(q * (bounds - jnp.log(q)))

    np.testing.assert_allclose(unlabelled(bounds), jax.nn.logsumexp(bounds), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(unlabelled)(bounds), 0.0, atol=1e-5)
    assert unlabelled(bounds + jnp.array([1.0, 0.0, 0.0])) < unlabelled(bounds)


def test_2_samples_lie_on_a_shell_and_not_at_the_most_likely_point():
    """|z|² has mean d and standard deviation (2 d)^1/2. The origin is d / 2 nats more likely than a typical sample, and foreign."""
    d = 400
    z = jax.random.normal(jax.random.key(0), (2000, d))
    squares = jnp.sum(z**2, axis=1)
    assert abs(squares.mean() - d) < 4 * (2 * d / 2000) ** 0.5 and squares.min() > 0.75 * d
    np.testing.assert_allclose(0.5 * squares.mean(), d / 2, rtol=0.01)


def test_3_gaps_act_as_a_prior():
    """softmax(log p(x|y) - d_y) = p(x|y) exp(-d_y) / sum: Bayes' rule with the prior exp(-d_y). Equal gaps cancel."""
    log_px, gaps = jnp.array([-100.0, -100.5]), jnp.array([1.0, 0.2])
    used = jax.nn.softmax(log_px - gaps)
    prior = jnp.exp(-gaps) / jnp.exp(-gaps).sum()
    np.testing.assert_allclose(used, jnp.exp(log_px + 100) * prior / jnp.sum(jnp.exp(log_px + 100) * prior), rtol=1e-5)
    assert jnp.argmax(log_px) != jnp.argmax(used)  # the gaps differ by more than the log-likelihoods
    np.testing.assert_allclose(jax.nn.softmax(log_px - 3.0), jax.nn.softmax(log_px), rtol=1e-6)
