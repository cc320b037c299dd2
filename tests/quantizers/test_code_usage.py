"""Perplexity and usage from indices."""

import jax
import numpy as np
import pytest

from vaex import quantizers as vq


@pytest.mark.parametrize("k", [1, 7, 512])
def test_perplexity_of_uniform_use_and_of_a_single_code(k):
    uniform, single = np.arange(3 * k).reshape(3, k) % k, np.full((4, 2), k - 1)
    np.testing.assert_allclose(vq.perplexity(uniform, k), k, rtol=1e-5)
    assert vq.code_usage(uniform, k) == 1
    assert vq.perplexity(single, k) == 1
    np.testing.assert_allclose(vq.code_usage(single, k), 1 / k, rtol=1e-6)


def test_against_numpy_with_a_mask():
    generator = np.random.default_rng(0)
    indices, mask = generator.integers(20, size=(8, 5)) // 2 * 2, generator.integers(2, size=(8, 5))
    p = np.bincount(indices[mask > 0], minlength=20) / mask.sum()
    result = jax.jit(lambda i, m: (vq.perplexity(i, 20, mask=m), vq.code_usage(i, 20, mask=m)))(indices, mask)
    np.testing.assert_allclose(result[0], np.exp(-np.sum(p[p > 0] * np.log(p[p > 0]))), rtol=1e-5)
    np.testing.assert_allclose(result[1], np.mean(p > 0), rtol=1e-6)


def test_nothing_counted_and_indices_out_of_range():
    assert vq.perplexity(np.zeros((3, 0), np.int32), 4) == 1
    assert vq.code_usage(np.arange(4), 4, mask=np.zeros(4)) == 0
    outside = np.array([-1, 4, 100, 0, 1])
    np.testing.assert_allclose(vq.perplexity(outside, 4), 2, rtol=1e-6)
    assert vq.code_usage(outside, 4) == 0.5


def test_one_perplexity_per_codebook():
    indices = np.stack([np.arange(8), np.arange(8) // 2], -1)
    each = jax.vmap(lambda i: vq.perplexity(i, 8), in_axes=-1)(indices)
    np.testing.assert_allclose(each, [8, 4], rtol=1e-5)
