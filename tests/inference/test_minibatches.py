"""Log-densities of many examples by a few at a time, against all of them and against the conjugate posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import inference
from vaex.errors import UserError

X = jnp.asarray(1.0 + 2.0 * np.random.default_rng(0).normal(size=400), jnp.float32)
NOISE, SPREAD = 2.0, 3.0  # x ~ N(m, NOISE), m ~ N(0, SPREAD)


def log_prior(m):
    return -0.5 * jnp.square(m / SPREAD)


def log_likelihood(m, x):
    return -0.5 * jnp.square((x - m) / NOISE)


DENSITY = inference.minibatches(log_prior, log_likelihood, X, size=100)


def test_batches_estimate_the_log_density_of_all_examples():
    everything = log_prior(0.5) + jnp.sum(log_likelihood(0.5, X))
    np.testing.assert_allclose(DENSITY(0.5), everything, rtol=1e-5)
    values = jax.jit(jax.vmap(lambda key: DENSITY.draw(key)(0.5)))(jax.random.split(jax.random.key(0), 4000))
    np.testing.assert_allclose(values.mean(), everything, atol=4 * values.std() / np.sqrt(4000))
    assert values.std() > 10  # they are batches


@pytest.mark.slow
def test_a_fit_by_batches_is_the_conjugate_posterior():
    """The prior counts once and each example once, though a step sees a quarter of them."""
    family = inference.FullRank(inference.real())
    params, _ = jax.jit(lambda key: inference.fit(key, DENSITY, family, steps=3000))(jax.random.key(0))
    precision = 1 / SPREAD**2 + len(X) / NOISE**2
    mean = float(jnp.sum(X)) / NOISE**2 / precision
    q = family.distribution(params)
    np.testing.assert_allclose(q.mean[0], mean, atol=0.5 / np.sqrt(precision))
    np.testing.assert_allclose(q.covariance[0, 0], 1 / precision, rtol=0.05)
    diagnosis = inference.diagnose(jax.random.key(1), DENSITY, family, params)  # of all examples
    corrected = inference.corrected_expectation(lambda m: m, diagnosis)
    np.testing.assert_allclose(corrected, mean, atol=5 / np.sqrt(precision * diagnosis.effective_sample_size))


def test_what_is_no_set_of_examples_is_refused():
    with pytest.raises(UserError, match="size is 401, expected 1 to 400"):
        inference.minibatches(log_prior, log_likelihood, X, size=401)
    with pytest.raises(UserError, match="expected one number of examples"):
        inference.minibatches(log_prior, log_likelihood, (X, X[:3]), size=2)
    summed = inference.minibatches(log_prior, lambda m, x: jnp.sum(log_likelihood(m, x)), X, size=2)
    with pytest.raises(ValueError, match=r"has shape \(\), expected \(400,\)"):
        summed(0.5)
