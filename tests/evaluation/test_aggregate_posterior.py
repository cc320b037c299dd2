"""Aggregate posterior of a data set, compared with SciPy, closed forms of a Gaussian one, and the minibatch formula."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from vaex import divergences
from vaex.evaluation import aggregate_posterior

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "n", [1, 7, aggregate_posterior.BLOCK, aggregate_posterior.BLOCK + 3]
)  # less than a block, one, and a part of a second
def test_densities_are_those_of_the_mixture(n):
    mean, log_scale = RNG.normal(size=(n, 3)), RNG.uniform(-2, 0, (n, 3))
    z = mean[RNG.integers(0, n, 20)] + 0.3 * RNG.normal(size=(20, 3))
    pairs = stats.norm.logpdf(z[:, None], mean, np.exp(log_scale))
    joint, marginals = aggregate_posterior.aggregate_log_density(z, mean, log_scale)
    np.testing.assert_allclose(joint, logsumexp(pairs.sum(-1), axis=1) - np.log(n), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(marginals, logsumexp(pairs, axis=1) - np.log(n), rtol=2e-5, atol=2e-5)


def test_points_far_from_all_posteriors():
    joint, marginals = aggregate_posterior.aggregate_log_density(
        np.full((1, 2), 30.0), np.zeros((3, 2)), np.zeros((3, 2))
    )
    np.testing.assert_allclose(joint, 2 * stats.norm.logpdf(30.0), rtol=1e-6)
    assert np.all(marginals == -np.inf)


@pytest.mark.slow
def test_the_parts_of_a_gaussian_aggregate_posterior_are_the_closed_forms():
    n, noise = 50_000, 0.5
    weights = np.array([[1.0, 0.0, 0.0], [0.9, 0.4, 0.0], [0.0, 0.0, 0.7]])
    mean = RNG.normal(size=(n, 3)) @ weights.T  # q(z) = N(0, W W^T + noise^2 I) up to 1/n
    covariance = weights @ weights.T + noise**2 * np.eye(3)
    variances, log_determinant = np.diag(covariance), np.linalg.slogdet(covariance)[1]
    expected = aggregate_posterior.AggregateKL(
        0.5 * (log_determinant - 3 * np.log(noise**2)),
        0.5 * (np.sum(np.log(variances)) - log_determinant),
        0.5 * np.sum(variances - 1 - np.log(variances)),
    )
    parts = aggregate_posterior.aggregate_kl(KEY, mean, np.full((n, 3), np.log(noise)), 4000)
    assert expected.total_correlation > 0.3
    for name, part, closed in zip(expected._fields, parts, expected, strict=True):
        assert part.values.shape == (4000,)
        assert abs(part.mean - closed) < 4 * part.standard_error + 0.01, name  # n posteriors are not quite a Gaussian
        assert part.standard_error < 0.05


def test_independent_latents_have_no_total_correlation():
    mean = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 3), axis=-1).reshape(
        -1, 3
    )  # a product of marginals, exactly
    parts = aggregate_posterior.aggregate_kl(KEY, mean, np.full(mean.shape, -1.5), 500)
    np.testing.assert_allclose(parts.total_correlation.values, 0.0, atol=1e-4)


def test_the_parts_add_up_to_the_average_kl():
    mean, log_scale = RNG.normal(size=(300, 4)), RNG.uniform(-2, 0, (300, 4))
    closed = np.mean(np.sum(0.5 * (mean**2 + np.exp(2 * log_scale) - 1) - log_scale, axis=1))
    total = np.sum([part.values for part in aggregate_posterior.aggregate_kl(KEY, mean, log_scale, 4000)], axis=0)
    assert abs(np.mean(total) - closed) < 4 * np.std(total) / np.sqrt(4000)


@pytest.mark.slow
def test_the_minibatch_formula_agrees_where_the_batch_is_the_data():
    mean, log_scale = RNG.normal(size=(40, 3)).astype(np.float32), RNG.uniform(-2, 0, (40, 3)).astype(np.float32)
    z = mean + np.exp(log_scale) * RNG.normal(size=mean.shape).astype(np.float32)
    batch = divergences.aggregate_densities(z, mean, log_scale, 40, sampling="stratified")
    joint, marginals = aggregate_posterior.aggregate_log_density(z, mean, log_scale)
    np.testing.assert_allclose(joint, batch.joint, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(marginals.sum(1), batch.marginals, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("mean", "log_scale", "samples", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), 10, "expected one shape"),
        (np.zeros(3), np.zeros(3), 10, "expected one shape"),
        (np.zeros((0, 2)), np.zeros((0, 2)), 10, "expected one shape"),
        (np.zeros((3, 2)), np.zeros((3, 2)), 1, "at least 2 samples"),
        (np.full((3, 2), np.nan), np.zeros((3, 2)), 10, "NaN or infinity"),
    ],
)
def test_invalid_arguments_are_refused(mean, log_scale, samples, message):
    with pytest.raises(ValueError, match=message):
        aggregate_posterior.aggregate_kl(KEY, mean, log_scale, samples)
