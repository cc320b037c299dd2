"""Natural gradients and Stein's particles against closed forms, blackjax and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vaex import inference
from vaex.errors import UserError

COVARIANCE = np.array([[1.0, 0.8, 0.1], [0.8, 2.0, -0.3], [0.1, -0.3, 0.5]])
MEAN = jnp.array([1.0, -2.0, 0.5])
PRECISION = jnp.asarray(np.linalg.inv(COVARIANCE), jnp.float32)
EVIDENCE = 1.5 * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(COVARIANCE)[1]


def gaussian(x):
    return -0.5 * (x - MEAN) @ PRECISION @ (x - MEAN)


def test_natural_steps_on_a_gaussian_are_those_of_the_formula_and_end_at_the_target():
    """Expectations of a quadratic do not depend on the samples but for the mean, which antithetic ones have exactly."""
    family = inference.FullRank(3, scale=2.0)
    rate, precision, mean = 0.3, np.eye(3) / 4.0, np.zeros(3)
    step = jax.jit(
        lambda params: inference.natural_step(jax.random.key(0), params, gaussian, family, rate=rate, num_samples=2)[0]
    )
    params, target = family.init(jax.random.key(0)), np.linalg.inv(COVARIANCE)
    for _ in range(3):
        slope = target @ (np.asarray(MEAN) - mean)
        change = target - precision
        precision = precision + rate * change + 0.5 * rate**2 * change @ np.linalg.inv(precision) @ change
        mean = mean + rate * np.linalg.solve(precision, slope)
        params = step(params)
        q = family.distribution(params)
        np.testing.assert_allclose(q.covariance, np.linalg.inv(precision), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(q.mean, mean, rtol=1e-3, atol=1e-4)
    params, history = jax.jit(lambda key: inference.fit_natural(key, gaussian, family, steps=40, num_samples=4))(
        jax.random.key(0)
    )
    np.testing.assert_allclose(family.distribution(params).covariance, COVARIANCE, atol=1e-3)
    np.testing.assert_allclose(-history.loss[-1], EVIDENCE, atol=1e-3)
    with pytest.raises(UserError, match="MeanField"):
        inference.fit_natural(jax.random.key(0), gaussian, inference.MeanField(3))


@pytest.mark.slow
def test_natural_gradients_reach_the_optimum_of_adam():
    """A Gamma, which is not Gaussian in its logarithm: the same ELBO."""
    family = inference.FullRank({"x": inference.positive()})

    def density(p):
        return 4.0 * jnp.log(p["x"]) - 2.0 * p["x"]

    natural, _ = jax.jit(lambda key: inference.fit_natural(key, density, family, num_samples=512))(jax.random.key(0))
    adam, _ = jax.jit(lambda key: inference.fit(key, density, family, num_samples=128))(jax.random.key(1))
    diagnoses = [
        inference.diagnose(jax.random.key(2), density, family, params, num_samples=50_000) for params in (natural, adam)
    ]
    np.testing.assert_allclose(diagnoses[0].elbo, diagnoses[1].elbo, atol=2e-3)


def test_the_direction_of_stein_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    z, score, width = rng.normal(size=(5, 2)), rng.normal(size=(5, 2)), 1.7
    expected = np.zeros((5, 2))
    for i in range(5):
        for j in range(5):
            kernel = np.exp(-np.sum((z[j] - z[i]) ** 2) / width)
            expected[i] += (kernel * score[j] + kernel * 2 / width * (z[i] - z[j])) / 5
    np.testing.assert_allclose(
        inference.stein_direction(jnp.asarray(z), jnp.asarray(score), bandwidth=width), expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
def test_steins_steps_are_blackjaxs():
    svgd = pytest.importorskip("blackjax.vi.svgd")
    start = 0.5 * jax.random.normal(jax.random.key(1), (7, 3))
    optimizer = optax.sgd(0.1)
    fit = inference.fit_stein(
        jax.random.key(0), gaussian, 3, num_particles=7, steps=1, optimizer=optimizer, start=start
    )
    algorithm = svgd.as_top_level_api(jax.grad(gaussian), optimizer)
    state = svgd.update_median_heuristic(algorithm.init(start, {"length_scale": 1.0}))
    np.testing.assert_allclose(fit.z, algorithm.step(state).particles, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_particles_have_the_mean_of_a_gaussian_and_one_has_its_mode():
    many = jax.jit(lambda key: inference.fit_stein(key, gaussian, 3, num_particles=100, steps=600))(jax.random.key(0))
    np.testing.assert_allclose(jnp.mean(many.z, axis=0), MEAN, atol=0.02)
    spread = np.cov(np.asarray(many.z).T)
    np.testing.assert_allclose(np.diag(spread), np.diag(COVARIANCE), rtol=0.2)
    assert np.all(np.diag(spread) < np.diag(COVARIANCE)) and many.speed[-1] < 0.02 * many.speed[0]
    one = inference.fit_stein(jax.random.key(0), gaussian, 3, num_particles=1, steps=400)
    np.testing.assert_allclose(one.z[0], MEAN, atol=1e-2)
