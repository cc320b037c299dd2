"""Streaming importance bound: equal to the plain one, exact on a model whose log p(x) is known, constant in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vaex.bounds import importance_bound
from vaex.evaluation import likelihood

D, N = 3, 5  # latents, observed values
RNG = np.random.default_rng(0)
W, B, S = RNG.normal(size=(N, D)), RNG.normal(size=N), 0.7  # x = W z + b + s * noise: probabilistic PCA
X = RNG.normal(size=(4, N)) @ np.linalg.cholesky(W @ W.T + S**2 * np.eye(N)).T + B
EXACT = scipy.stats.multivariate_normal(B, W @ W.T + S**2 * np.eye(N)).logpdf(X)


def log_weights(key, variables, hparams, batch, num_samples):
    """log p(x, z) - log q(z|x) with q the exact posterior widened by ``variables``."""
    precision = W.T @ W / S**2 + np.eye(D)
    mean = (batch["x"] - B) @ W / S**2 @ np.linalg.inv(precision)
    tril = variables * np.linalg.cholesky(np.linalg.inv(precision))
    noise = jax.random.normal(key, (num_samples, len(batch["x"]), D))
    z = mean + noise @ tril.T
    normal = jax.scipy.stats.norm.logpdf
    log_joint = normal(z).sum(-1) + normal(batch["x"], z @ W.T + B, S).sum(-1)
    return log_joint - (normal(noise).sum(-1) - jnp.log(jnp.diag(tril)).sum())


def test_exact_at_the_exact_posterior():
    bound = likelihood.log_likelihood(log_weights, num_samples=3)(
        jax.random.key(0), jnp.float32(1.0), None, {"x": jnp.asarray(X)}
    )
    np.testing.assert_allclose(bound, EXACT, atol=1e-4)


@pytest.mark.slow
def test_below_the_truth_and_tighter_with_more_samples():
    batch = {"x": jnp.asarray(np.repeat(X[:1], 300, axis=0))}
    means, errors = [], []
    for k in (1, 10, 1000):
        estimate = likelihood.estimate(
            likelihood.log_likelihood(log_weights, num_samples=k)(jax.random.key(1), jnp.float32(1.5), None, batch)
        )
        means.append(estimate.mean)
        errors.append(estimate.standard_error)
    assert means[0] < means[1] < means[2] < EXACT[0] + 4 * errors[2]
    assert EXACT[0] - means[0] > 5 * errors[0] and abs(EXACT[0] - means[2]) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("total", "chunk"), [(1, 1), (7, 3), (12, 4), (5, 500)])
def test_streaming_equals_the_plain_bound_of_the_same_samples(total, chunk):
    key = jax.random.key(2)

    def draw(key, k):
        return 3.0 * jax.random.normal(key, (k, 6))

    size = min(total, chunk)
    drawn = jnp.concatenate([draw(jax.random.fold_in(key, i), size) for i in range(-(-total // size))])[:total]
    bound = likelihood.streaming_importance_bound(draw, key, total, samples_per_chunk=chunk)
    np.testing.assert_allclose(bound, importance_bound(drawn), rtol=1e-5, atol=1e-5)


def test_weights_of_zero_give_no_nan():
    bound = likelihood.streaming_importance_bound(
        lambda key, k: jnp.full((k, 2), -jnp.inf), jax.random.key(0), 10, samples_per_chunk=3
    )
    assert np.all(np.isneginf(bound))


def test_memory_does_not_grow_with_the_samples():
    def temporary(samples: int) -> int:
        bound = likelihood.log_likelihood(log_weights, num_samples=samples)
        compiled = bound.lower(jax.random.key(0), jnp.float32(1.0), None, {"x": jnp.asarray(X, jnp.float32)}).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(50_000) == temporary(5_000)


@pytest.mark.parametrize(("samples", "chunk"), [(0, 1), (1, 0)])
def test_no_samples_are_refused(samples, chunk):
    with pytest.raises(ValueError, match="expected >= 1"):
        likelihood.streaming_importance_bound(
            lambda key, k: jnp.zeros(k), jax.random.key(0), samples, samples_per_chunk=chunk
        )


def test_estimate_is_mean_and_standard_error():
    values = RNG.normal(size=50)
    estimate = likelihood.estimate(values)
    np.testing.assert_allclose(estimate[:2], (values.mean(), scipy.stats.sem(values)))
    assert np.isnan(likelihood.estimate(values[:1]).standard_error)


def test_a_statistic_of_batches_is_weighted_by_their_sizes():
    """Three batches of 2, 2 and 1 of five numbers: the mean is theirs, the error that of three values."""
    numbers = np.array([1.0, 3.0, 5.0, 7.0, 20.0])
    means, sizes = np.array([2.0, 6.0, 20.0]), np.array([2, 2, 1])
    estimate = likelihood.estimate_over_batches(means, sizes)
    assert estimate.mean == pytest.approx(numbers.mean()) and estimate.standard_error == pytest.approx(
        scipy.stats.sem(means)
    )
    assert np.isnan(likelihood.estimate_over_batches(means[:1], sizes[:1]).standard_error)


@pytest.mark.slow
def test_the_bound_of_an_example_follows_its_key_alone():
    bound = likelihood.log_likelihood(log_weights, num_samples=5, samples_per_chunk=2)
    keys, scale = jax.random.split(jax.random.key(3), len(X)), jnp.float32(1.5)
    together = bound(keys, scale, None, {"x": jnp.asarray(X)})
    for rows in (np.array([2]), np.array([3, 0])):
        np.testing.assert_allclose(
            bound(keys[rows], scale, None, {"x": jnp.asarray(X[rows])}), together[rows], rtol=1e-6
        )
    np.testing.assert_array_equal(bound(jax.random.key(3), scale, None, {"x": jnp.asarray(X)}), together)


def test_bits_per_dimension():
    uniform = -12 * np.log(256)
    assert likelihood.bits_per_dimension(uniform, 12, levels=256, density=False) == pytest.approx(8.0)
    # a density of 1 on the unit cube is uniform over 8-bit values, too
    assert likelihood.bits_per_dimension(0.0, 12, levels=256, density=True) == pytest.approx(8.0)
