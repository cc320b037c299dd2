"""Resizing compared with block means and repetition, means that stay, and patches there and back."""

import jax.numpy as jnp
import numpy as np
import pytest

from vaex.nets.resize import area_weights, from_patches, resize, to_patches

X = np.random.default_rng(0).normal(size=(2, 6, 9, 3)).astype(np.float32)


def test_whole_factors_average_and_repeat():
    blocks = X.reshape(2, 3, 2, 3, 3, 3).mean((2, 4))
    np.testing.assert_allclose(resize(jnp.asarray(X), (3, 3)), blocks, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(resize(jnp.asarray(X), (12, 18)), X.repeat(2, 1).repeat(2, 2), rtol=1e-6)
    np.testing.assert_array_equal(resize(jnp.asarray(X), (6, 9)), X)


@pytest.mark.parametrize(("before", "after"), [(7, 3), (3, 7), (5, 5), (1, 4), (4, 1), (9, 8)])
def test_areas_are_shared_out(before, after):
    weights = area_weights(before, after)
    np.testing.assert_allclose(weights.sum(1), 1.0)  # constants stay
    np.testing.assert_allclose(weights.sum(0), after / before)  # and so does the mean of an image
    assert weights.min() >= 0


@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (6, 9)])
def test_patches_there_and_back(sides):
    patches = to_patches(jnp.asarray(X), sides)
    np.testing.assert_array_equal(from_patches(patches, sides), X)
    np.testing.assert_array_equal(patches[1, 0, 0], X[1, : sides[0], : sides[1]].reshape(-1))


def test_patches_that_do_not_fit_are_padded_with_zeros():
    patches = to_patches(jnp.asarray(X), (4, 4))
    assert patches.shape == (2, 2, 3, 48)
    images = np.asarray(from_patches(patches, (4, 4)))
    np.testing.assert_array_equal(images[:, :6, :9], X)
    assert np.all(images[:, 6:] == 0) and np.all(images[:, :, 9:] == 0)
