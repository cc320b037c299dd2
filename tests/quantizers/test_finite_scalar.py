"""Levels reached, indices in bijection with codes, the gradient of tanh; against the formula in NumPy."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import quantizers as vq

LEVELS = [(5,), (2,), (2, 3), (8, 5, 5), (4, 4, 3, 2), (7, 6)]


def bounded(z, count):
    half = (count - 1) * (1 - 1e-3) / 2
    offset = np.where(count % 2 == 0, 0.5, 0.0)
    return half, half * np.tanh(z + np.tan(offset / half)) - offset


@pytest.mark.slow
@pytest.mark.parametrize("levels", LEVELS)
def test_values_and_gradients_are_the_formulas(levels):
    z = 2 * np.random.default_rng(0).standard_normal((200, len(levels)))
    count = np.array(levels)
    half, expected = bounded(z, count)
    with jax.enable_x64(True):
        value, gradient = jax.vjp(lambda z: vq.finite_scalar_quantize(z, levels=levels).codes, jnp.asarray(z))
        np.testing.assert_allclose(value, np.round(expected) / (count // 2), atol=1e-12)
        slope = half * (1 - np.square((expected + np.where(count % 2 == 0, 0.5, 0.0)) / half)) / (count // 2)
        np.testing.assert_allclose(gradient(jnp.ones_like(value))[0], slope, rtol=1e-9)


@pytest.mark.parametrize("levels", [*LEVELS, (600,), (1500, 3)])
def test_all_codes_are_reached(levels):
    """From a fine grid along each dimension: every level, and none besides."""
    z = np.concatenate([np.linspace(-9, 9, 40_001), [-1e4, 1e4]]).astype(np.float32)
    for i, level in enumerate(levels):
        at = np.zeros((len(z), len(levels)), np.float32)
        at[:, i] = z
        values = np.unique(np.asarray(jax.jit(lambda z: vq.finite_scalar_quantize(z, levels=levels).codes)(at))[:, i])
        np.testing.assert_allclose(values, (np.arange(level) - level // 2) / (level // 2), rtol=1e-6)
        assert values.min() == -1 and values.max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("levels", LEVELS)
def test_indices_are_in_bijection_with_codes(levels):
    number = math.prod(levels)
    codes = np.asarray(vq.finite_scalar_lookup(np.arange(number), levels=levels))
    grids = [(np.arange(level) - level // 2) / np.float32(level // 2) for level in levels]
    expected = np.array(list(itertools.product(*grids[::-1])), np.float32)[:, ::-1]  # the first counts fastest
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(vq.finite_scalar_indices(codes, levels=levels), np.arange(number))
    for dtype in (jnp.bfloat16, jnp.float16):
        narrow = vq.finite_scalar_lookup(np.arange(number), levels=levels, dtype=dtype)
        assert narrow.dtype == dtype
        np.testing.assert_array_equal(vq.finite_scalar_indices(narrow, levels=levels), np.arange(number))
    assert np.isnan(vq.finite_scalar_lookup(np.array([-1, number]), levels=levels)).all()


def test_quantizing_agrees_with_its_indices():
    z = 3 * np.random.default_rng(1).standard_normal((4, 50, 3)).astype(np.float32)
    result = vq.finite_scalar_quantize(z, levels=(8, 5, 5))
    assert result.indices.dtype == jnp.int32 and result.indices.shape == result.commitment_loss.shape == (4, 50)
    np.testing.assert_array_equal(vq.finite_scalar_lookup(result.indices, levels=(8, 5, 5)), result.codes)
    large = (65_536, 32_767)
    np.testing.assert_array_equal(
        vq.finite_scalar_indices(vq.finite_scalar_lookup(np.array([2**31 - 2**16 - 1]), levels=large), levels=large),
        2**31 - 2**16 - 1,
    )
