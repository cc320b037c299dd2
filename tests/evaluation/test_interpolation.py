"""Traversal values, decoded traversals and interpolation against written-out loops and exact geometry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.evaluation.traversals import interpolate, latent_traversals, traversal_values


def recording(calls):
    """A decoder that returns its input as 1x1 images with d channels, and keeps what it was called with."""

    def decode(z):
        calls.append(z)
        return np.asarray(z)[:, None, None, :]

    return decode


@pytest.mark.parametrize(("num", "span"), [(2, 3.0), (7, 1.5), (11, 3.0)])
def test_traversal_values_are_symmetric_and_evenly_spaced(num, span):
    values = traversal_values(num, span)
    assert values.dtype == np.float32 and values[-1] == span
    np.testing.assert_allclose(values, -values[::-1], atol=1e-6)
    np.testing.assert_allclose(np.diff(values), 2.0 * span / (num - 1), rtol=1e-5)


def test_traversals_move_one_latent_at_a_time():
    base, order, values = np.array([0.1, 0.2, 0.3, 0.4]), [2, 0, 3], [-1.0, 5.0]
    calls = []
    images = latent_traversals(recording(calls), base, order, values)
    assert images.shape == (3, 2, 1, 1, 4) and len(calls) == 1 and calls[0].dtype == np.float32
    for row, latent in enumerate(order):
        for column, value in enumerate(values):
            expected = base.copy()
            expected[latent] = value
            np.testing.assert_allclose(images[row, column, 0, 0], expected, rtol=1e-6)


def test_a_jitted_decoder_is_taken_as_it_is():
    decode = jax.jit(lambda z: jax.nn.sigmoid(z @ jnp.ones((3, 16))).reshape(-1, 4, 4, 1))
    images = latent_traversals(decode, jnp.zeros(3), jnp.array([1, 0, 2]), jnp.array([-1.0, 0.0, 1.0]))
    assert isinstance(images, np.ndarray) and images.shape == (3, 3, 4, 4, 1)
    np.testing.assert_allclose(images[:, 1], 0.5)


def test_linear_interpolation_is_a_straight_line():
    z0, z1 = np.array([1.0, -2.0]), np.array([3.0, 4.0])
    z = interpolate(lambda z: z, z0, z1, num=5)
    np.testing.assert_allclose(z, z0 + np.linspace(0, 1, 5)[:, None] * (z1 - z0), rtol=1e-6)


def test_spherical_interpolation_keeps_the_norm_and_turns_at_constant_speed():
    z0, z1 = np.random.default_rng(0).normal(size=(2, 3, 16))
    z1 *= np.linalg.norm(z0, axis=1, keepdims=True) / np.linalg.norm(z1, axis=1, keepdims=True)
    z = interpolate(lambda z: z, z0, z1, num=7, spherical=True)
    assert z.shape == (3, 7, 16)
    norms = np.linalg.norm(z, axis=-1)
    np.testing.assert_allclose(norms, np.linalg.norm(z0, axis=1)[:, None] * np.ones(7), rtol=1e-6)
    np.testing.assert_allclose(z[:, 0], z0, rtol=1e-5)
    np.testing.assert_allclose(z[:, -1], z1, rtol=1e-5)
    angle = np.arccos(np.sum(z0 * z1, axis=-1) / norms[:, 0] ** 2)
    steps = np.arccos(np.sum(z[:, 1:] * z[:, :-1], axis=-1) / norms[:, :1] ** 2)
    np.testing.assert_allclose(steps, np.repeat(angle[:, None] / 6, 6, axis=1), rtol=1e-4)
    for row in range(3):
        np.testing.assert_array_equal(z[row], interpolate(lambda z: z, z0[row], z1[row], num=7, spherical=True))


def test_spherical_interpolation_between_different_norms_equals_the_formula():
    z0, z1, t = np.array([3.0, 0.0]), np.array([0.5, 0.5]), 0.25
    angle = np.pi / 4
    expected = (np.sin((1 - t) * angle) * z0 + np.sin(t * angle) * z1) / np.sin(angle)
    np.testing.assert_allclose(interpolate(lambda z: z, z0, z1, num=5, spherical=True)[1], expected, rtol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-4])
def test_spherical_interpolation_becomes_linear_for_small_angles(angle):
    z0, z1 = np.array([1.0, 0.0]), 2.0 * np.array([np.cos(angle), np.sin(angle)])
    bent, straight = (interpolate(lambda z: z, z0, z1, num=9, spherical=spherical) for spherical in (True, False))
    np.testing.assert_allclose(bent, straight, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: traversal_values(1), "num >= 2"),
        (lambda: traversal_values(5, 0.0), "span > 0"),
        (lambda: latent_traversals(lambda z: z, np.zeros((1, 2)), [0], [0.0]), "pass one example"),
        (lambda: latent_traversals(lambda z: z, np.zeros(2), [], [0.0]), "none empty"),
        (lambda: latent_traversals(lambda z: z, np.zeros(2), [2], [0.0]), "integers from 0 to 1"),
        (lambda: latent_traversals(lambda z: z, np.zeros(2), [-1], [0.0]), "integers from 0 to 1"),
        (lambda: latent_traversals(lambda z: z, np.zeros(2), [0.0], [0.0]), "integers from 0 to 1"),
        (lambda: latent_traversals(lambda z: z[:1], np.zeros(2), [0, 1], [0.0]), "return the mean of p"),
        (lambda: interpolate(lambda z: z, np.zeros(2), np.zeros(3)), "expected the same"),
        (lambda: interpolate(lambda z: z, np.zeros(2), np.zeros(2), num=1), "at least 2"),
        (lambda: interpolate(lambda z: z, np.zeros(2), np.ones(2), spherical=True), "has no direction"),
        (lambda: interpolate(lambda z: z, np.ones(2), -np.ones(2), spherical=True), "opposite directions"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
