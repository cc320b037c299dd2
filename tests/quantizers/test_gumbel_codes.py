"""Relaxed draws: their distribution, their limit, and the straight-through gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import quantizers as vq

K, D, RUNS = 5, 3, 4000


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


LOGITS, CODEBOOK = draw(K), draw(K, D, seed=1)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 10.0])
def test_indices_are_draws_from_the_softmax(temperature):
    """Within 4 standard errors, at any temperature; hard codes are those of the indices."""

    @jax.jit
    def program(keys, temperature):
        return jax.vmap(lambda key: vq.gumbel_quantize(key, CODEBOOK, LOGITS, temperature=temperature, hard=True))(keys)

    result = program(jax.random.split(jax.random.key(0), RUNS), temperature)
    p = np.asarray(jax.nn.softmax(LOGITS))
    share = np.bincount(result.indices, minlength=K) / RUNS
    assert np.all(np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / RUNS))
    np.testing.assert_allclose(result.codes, CODEBOOK[result.indices], rtol=1e-6)


def test_codes_are_the_mixture_that_the_noise_gives():
    """Against the softmax in NumPy; one batch draws for each element by itself."""
    key, logits = jax.random.key(1), draw(6, K)
    noise = np.asarray(jax.random.gumbel(key, (6, K)), np.float64)
    for temperature in (0.3, 2.0):
        scores = (logits + noise) / temperature
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        result = vq.gumbel_quantize(key, CODEBOOK, logits, temperature=temperature)
        np.testing.assert_allclose(result.codes, weights @ CODEBOOK, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(result.indices, weights.argmax(-1))


def test_low_temperature_is_the_argmax():
    soft = vq.gumbel_quantize(jax.random.key(0), CODEBOOK, draw(50, K), temperature=1e-4)
    np.testing.assert_allclose(soft.codes, CODEBOOK[soft.indices], atol=1e-5)
    sure = 1e4 * np.eye(K, dtype=np.float32)
    np.testing.assert_array_equal(vq.gumbel_quantize(jax.random.key(0), CODEBOOK, sure).indices, np.arange(K))


def test_hard_has_the_gradient_of_the_mixture():
    key, logits, weights = jax.random.key(2), draw(6, K), draw(6, D, seed=3)

    def loss(logits, codebook, temperature, hard):
        codes = vq.gumbel_quantize(key, codebook, logits, temperature=temperature, hard=hard).codes
        return (codes * weights).sum()

    hard = jax.grad(loss, (0, 1, 2))(logits, CODEBOOK, 0.7, True)
    soft = jax.grad(loss, (0, 1, 2))(logits, CODEBOOK, 0.7, False)
    np.testing.assert_allclose(hard[0], soft[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(hard[2], soft[2], rtol=1e-4)
    assert np.abs(soft[0]).max() > 0.01
    indices = vq.gumbel_quantize(key, CODEBOOK, logits).indices
    shown = jax.grad(lambda codebook: (vq.lookup(codebook, indices) * weights).sum())(CODEBOOK)
    np.testing.assert_allclose(hard[1], shown, rtol=1e-5, atol=1e-6)
    step = 1e-2
    slope = (loss(logits, CODEBOOK, 0.7 + step, False) - loss(logits, CODEBOOK, 0.7 - step, False)) / (2 * step)
    np.testing.assert_allclose(soft[2], slope, rtol=2e-2)
    assert jnp.isfinite(slope)
