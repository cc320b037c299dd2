"""Predictive log-likelihoods: the estimator on a model with a closed form, and the baselines by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.distributions import Normal
from vaex.evaluation import prediction


def test_the_estimate_approaches_the_exact_likelihood_from_below():
    """z ~ N(x, 1) a step later, x' ~ N(z, 1): together N(x, 2)."""

    def predict(key, variables, hparams, batch, steps, num_samples):
        last = batch["x"][:, -1]
        z = last + jnp.sqrt(1.0 * steps) * jax.random.normal(key, (num_samples, *last.shape))
        return Normal(z, log_scale=jnp.zeros_like(z), event_ndims=1)

    x, frame = jnp.zeros((2, 3, 1)), jnp.array([[0.5], [2.0]])
    exact = Normal(jnp.zeros((2, 1)), log_scale=jnp.full((2, 1), 0.5 * np.log(3.0))).log_prob(frame)
    keys = jax.random.split(jax.random.key(0), (300, 2))
    means = []
    for samples in (1, 10, 1000):
        estimate = prediction.predictive_log_likelihood(predict, steps=2, num_samples=samples)
        estimates = np.asarray(jax.vmap(lambda two, f=estimate: f(two, None, None, x, frame))(keys))
        means.append(estimates.mean(0))
        error = estimates.std(0) / np.sqrt(300)
    assert np.all(means[0] < means[1]) and np.all(means[1] < means[2])
    assert np.all(np.abs(means[2] - exact) < 4 * error + 1e-3)


@pytest.mark.slow
def test_a_sequence_draws_by_its_key_alone():
    def predict(key, variables, hparams, batch, steps, num_samples):
        last = batch["x"][:, -1]
        return Normal(last + jax.random.normal(key, (num_samples, *last.shape)), 1.0, event_ndims=1)

    estimate = prediction.predictive_log_likelihood(predict, steps=1, num_samples=3)
    keys, x, frame = jax.random.split(jax.random.key(0), 5), jnp.arange(30.0).reshape(5, 3, 2), jnp.ones((5, 2))
    together = estimate(keys, None, None, x, frame)
    for rows in (np.array([3]), np.array([4, 0, 2])):
        np.testing.assert_allclose(estimate(keys[rows], None, None, x[rows], frame[rows]), together[rows], rtol=1e-6)


def test_baselines_by_hand():
    x = np.zeros((2, 3, 2, 1, 1), np.float32)
    x[0, :, 0] = 1  # of 12 values 3 are white; nothing moves in the first sequence
    x[1, 2, 1] = 1  # and one pixel appears in the second one
    baselines = prediction.fit_baselines(x, (1, 2))
    assert baselines.flip == {1: (1 + 1) / (8 + 2), 2: (1 + 1) / (4 + 2)}
    np.testing.assert_allclose(baselines.mean.ravel(), [(3 + 1) / 8, (1 + 1) / 8])
    last, frame = np.array([[1.0, 0.0]]).reshape(1, 2, 1, 1), np.array([[1.0, 1.0]]).reshape(1, 2, 1, 1)
    np.testing.assert_allclose(baselines.copy_last(last, frame, 1), np.log(0.8) + np.log(0.2), rtol=1e-6)
    np.testing.assert_allclose(baselines.independent(frame), np.log(0.5) + np.log(0.25), rtol=1e-6)


def test_the_flip_probability_is_the_one_that_makes_training_frames_most_likely():
    x = (np.random.default_rng(0).random((20, 6, 5, 5, 1)) < 0.3).astype(np.float32)
    baselines = prediction.fit_baselines(x, (2,))

    def total(p):
        flipped = baselines._replace(flip={2: p})
        return sum(flipped.copy_last(x[:, t], x[:, t + 2], 2).sum() for t in range(4))

    best = baselines.flip[2]
    assert total(best) > total(best * 1.03) and total(best) > total(best * 0.97)


@pytest.mark.parametrize("x, steps", [(np.full((2, 3, 4, 4, 1), 0.5), (1,)), (np.zeros((2, 3, 4, 4, 1)), (3,))])
def test_invalid_arguments_are_refused(x, steps):
    with pytest.raises(ValueError, match="fit_baselines: x has shape"):
        prediction.fit_baselines(x, steps)


def test_all_horizons_have_the_same_context():
    for length in range(1, 30):
        ahead = prediction.horizons(length)
        assert (
            prediction.context_frames(length) + max(ahead, default=0) == length
            and prediction.context_frames(length) >= 1
        )
