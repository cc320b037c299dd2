"""Imputation against the conditional moments of a Gaussian, which a linear decoder has in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.distributions import MultivariateNormal, Normal, Observed
from vaex.evaluation.imputation import impute

RNG = np.random.default_rng(0)
D, L, B, NOISE = 5, 2, 3, 0.4
W, MEAN = RNG.normal(size=(D, L)), RNG.normal(size=D)
X = RNG.normal(size=(B, D))
X[RNG.random(X.shape) < 0.4] = np.nan
X[2] = np.nan  # nothing observed
COVARIANCE = W @ W.T + NOISE**2 * np.eye(D)


def decode(z):
    return Observed(Normal(z @ jnp.asarray(W.T, jnp.float32) + jnp.asarray(MEAN, jnp.float32), NOISE, event_ndims=0), 1)


def conditional(x):
    """Mean and covariance of all values given those of x that are observed."""
    o, m = ~np.isnan(x), np.isnan(x)
    mean, covariance = np.where(o, x, MEAN), np.zeros((D, D))
    gain = COVARIANCE[np.ix_(m, o)] @ np.linalg.inv(COVARIANCE[np.ix_(o, o)])
    mean[m] = MEAN[m] + gain @ (x[o] - MEAN[o])
    covariance[np.ix_(m, m)] = COVARIANCE[np.ix_(m, m)] - gain @ COVARIANCE[np.ix_(o, m)]
    return mean, covariance


def posterior(widen):
    """q(z|x_observed): the exact one of each example, its covariance times ``widen``."""
    means, covariances = [], []
    for x in X:
        o = ~np.isnan(x)
        precision = np.eye(L) + W[o].T @ W[o] / NOISE**2
        covariances.append(widen * np.linalg.inv(precision))
        means.append(np.linalg.solve(precision, W[o].T @ (x[o] - MEAN[o]) / NOISE**2))
    covariances, means = np.array(covariances), np.array(means)
    return MultivariateNormal(
        jnp.asarray(means, jnp.float32), scale_tril=jnp.asarray(np.linalg.cholesky(covariances), jnp.float32)
    )


@pytest.fixture(scope="module", params=[1.0, 1.7], ids=["exact_posterior", "wide_posterior"])
def imputation(request):
    return impute(
        jax.random.key(0),
        jnp.asarray(X, jnp.float32),
        posterior(request.param),
        decode,
        num_samples=20_000,
        num_draws=4000,
    )


@pytest.mark.slow
@pytest.mark.optimised
def test_mean_and_deviation_are_those_of_the_conditional_gaussian(imputation):
    for row, x in enumerate(X):
        mean, covariance = conditional(x)
        np.testing.assert_allclose(imputation.mean[row], mean, atol=0.03)
        np.testing.assert_allclose(imputation.deviation[row], np.sqrt(np.diag(covariance)), atol=0.03)


@pytest.mark.slow
@pytest.mark.optimised
def test_draws_are_joint_ones(imputation):
    for row, x in enumerate(X):
        draws = np.asarray(imputation.draws[:, row], np.float64)
        np.testing.assert_allclose(np.cov(draws.T), conditional(x)[1], atol=0.2)
        np.testing.assert_array_equal(
            draws[:, ~np.isnan(x)], np.broadcast_to(np.float32(x[~np.isnan(x)]), draws[:, ~np.isnan(x)].shape)
        )


@pytest.mark.slow
def test_observed_values_stay_and_the_posterior_shows_in_the_effective_sample_size():
    exact, wide = (
        impute(jax.random.key(0), jnp.asarray(X, jnp.float32), posterior(widen), decode, num_samples=500, num_draws=1)
        for widen in (1.0, 1.7)
    )
    observed = ~np.isnan(X)
    np.testing.assert_array_equal(np.asarray(exact.mean)[observed], X.astype(np.float32)[observed])
    assert np.all(np.asarray(exact.deviation)[observed] == 0)
    np.testing.assert_allclose(exact.effective_sample_size, 500, rtol=1e-3)
    assert np.all(wide.effective_sample_size < 450)
