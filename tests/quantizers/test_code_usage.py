"""Entropy and perplexity of shares; perplexity and usage from indices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vaex import quantizers as vq


@pytest.mark.slow
def test_entropy_and_perplexity_of_shares_match_scipy():
    shares = np.random.default_rng(0).dirichlet(np.full(20, 0.1), size=(3, 4)).astype(np.float32)
    shares[..., 0] = 0
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(vq.entropy(shares), stats.entropy(shares, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(vq.entropy(shares / 12, axis=None), stats.entropy(shares.ravel() / 12), rtol=1e-5)
    np.testing.assert_allclose(vq.perplexity(shares), np.exp(stats.entropy(shares, axis=-1)), rtol=1e-5)
    np.testing.assert_array_equal(vq.perplexity(jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])), [2.0, 1.0])
    assert np.all(np.isfinite(jax.grad(lambda p: jnp.sum(vq.entropy(p)))(jnp.asarray(shares))))


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 7, 512])
def test_perplexity_of_uniform_use_and_of_a_single_code(k):
    uniform, single = np.arange(3 * k).reshape(3, k) % k, np.full((4, 2), k - 1)
    np.testing.assert_allclose(vq.code_perplexity(uniform, num_codes=k), k, rtol=1e-5)
    assert vq.code_usage(uniform, num_codes=k) == 1
    assert vq.code_perplexity(single, num_codes=k) == 1
    np.testing.assert_allclose(vq.code_usage(single, num_codes=k), 1 / k, rtol=1e-6)


def test_against_numpy_with_a_mask():
    generator = np.random.default_rng(0)
    indices, mask = generator.integers(20, size=(8, 5)) // 2 * 2, generator.integers(2, size=(8, 5))
    p = np.bincount(indices[mask > 0], minlength=20) / mask.sum()
    result = jax.jit(
        lambda i, m: (vq.code_perplexity(i, num_codes=20, mask=m), vq.code_usage(i, num_codes=20, mask=m))
    )(indices, mask)
    np.testing.assert_allclose(result[0], np.exp(-np.sum(p[p > 0] * np.log(p[p > 0]))), rtol=1e-5)
    np.testing.assert_allclose(result[1], np.mean(p > 0), rtol=1e-6)


def test_nothing_counted_and_indices_out_of_range():
    assert vq.code_perplexity(np.zeros((3, 0), np.int32), num_codes=4) == 1
    assert vq.code_usage(np.arange(4), num_codes=4, mask=np.zeros(4)) == 0
    outside = np.array([-1, 4, 100, 0, 1])
    np.testing.assert_allclose(vq.code_perplexity(outside, num_codes=4), 2, rtol=1e-6)
    assert vq.code_usage(outside, num_codes=4) == 0.5


@pytest.mark.slow
def test_one_perplexity_per_codebook():
    indices = np.stack([np.arange(8), np.arange(8) // 2], -1)
    each = jax.vmap(lambda i: vq.code_perplexity(i, num_codes=8), in_axes=-1)(indices)
    np.testing.assert_allclose(each, [8, 4], rtol=1e-5)
