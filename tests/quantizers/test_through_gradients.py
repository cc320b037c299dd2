"""Straight-through and rotation gradients against explicit Jacobians; which loss reaches what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import quantizers as vq


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def rotation_and_scale(z, code):
    """|c|/|z| times the rotation in the plane of z and c, from an orthonormal basis of that plane."""
    source, target = z / np.linalg.norm(z), code / np.linalg.norm(code)
    cosine = source @ target
    other = target - cosine * source
    sine = np.linalg.norm(other)
    basis = np.stack([source, other / sine], axis=1)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.eye(len(z)) + basis @ (turn - np.eye(2)) @ basis.T
    return np.linalg.norm(code) / np.linalg.norm(z) * matrix


@pytest.mark.parametrize("estimator", [vq.straight_through, vq.rotation_trick])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_value_is_exactly_the_code(estimator, dtype):
    z, codes = jnp.asarray(draw(100, 5) * 1e4, dtype), jnp.asarray(draw(100, 5, seed=1) / 3, dtype)
    result = jax.jit(estimator)(z, codes)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, codes)


def test_straight_through_gradient_is_exactly_the_identity():
    z, codes, cotangent = (jnp.asarray(draw(4, 5, seed=seed), jnp.float32) for seed in range(3))
    _, pullback = jax.vjp(vq.straight_through, z, codes)
    to_z, to_codes = pullback(cotangent)
    np.testing.assert_array_equal(to_z, cotangent)
    np.testing.assert_array_equal(to_codes, 0)


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 3, 16])
def test_rotation_jacobian_is_the_matrix(d):
    with jax.enable_x64(True):
        z, codes = draw(20, d), 3 * draw(20, d, seed=1)
        jacobian = jax.vmap(jax.jacobian(vq.rotation_trick, argnums=(0, 1)))(z, codes)
        expected = [rotation_and_scale(*pair) for pair in zip(z, codes, strict=True)]
        np.testing.assert_allclose(jacobian[0], expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(jacobian[1], 0)
        np.testing.assert_allclose(np.einsum("nij,nj->ni", jacobian[0], z), codes, rtol=1e-12, atol=1e-12)


def test_rotation_where_there_is_none():
    """Zero: straight through. Opposite: the reflection. Equal: the identity. Zero code: nothing."""
    z = draw(3)
    direction = z / np.linalg.norm(z)
    cases = [
        (np.zeros(3), z, np.eye(3)),
        (1e-9 * z, z, np.eye(3)),
        (z, -2 * z, 2 * (np.eye(3) - 2 * np.outer(direction, direction))),
        (z, z, np.eye(3)),
        (z, np.zeros(3), np.zeros((3, 3))),
        (np.zeros(3), np.zeros(3), np.eye(3)),
    ]
    for vector, code, expected in cases:
        vector, code = jnp.asarray(vector, jnp.float32), jnp.asarray(code, jnp.float32)
        value, jacobian = vq.rotation_trick(vector, code), jax.jacobian(vq.rotation_trick)(vector, code)
        np.testing.assert_array_equal(value, code)
        np.testing.assert_allclose(jacobian, expected, atol=2e-6)


def test_nearly_opposite_vectors_keep_their_gradients_length():
    """Rounding noise must not become a direction: |R g| = |g| all the way to the opposite."""
    z, aside, cotangent = (jnp.asarray(draw(3, seed=seed), jnp.float32) for seed in range(3))
    for distance in (*np.geomspace(1e-9, 1e-1, 60), 0.0):
        code = -z + jnp.float32(distance) * aside
        passed = jax.vjp(lambda z, code=code: vq.rotation_trick(z, code), z)[1](cotangent)[0]
        scale = jnp.linalg.norm(code) / jnp.linalg.norm(z)
        np.testing.assert_allclose(jnp.linalg.norm(passed), scale * jnp.linalg.norm(cotangent), rtol=0.03)


def test_each_loss_reaches_its_side_only():
    z, codes = draw(4, 5), draw(4, 5, seed=1)
    distance = np.square(z - codes).sum(-1)
    for loss, side in ((vq.commitment_loss, 0), (vq.codebook_loss, 1)):
        value, pullback = jax.vjp(loss, jnp.asarray(z, jnp.float32), jnp.asarray(codes, jnp.float32))
        np.testing.assert_allclose(value, distance, rtol=1e-5)
        gradients = pullback(jnp.ones(4))
        np.testing.assert_allclose(gradients[side], 2 * (z - codes) * (1, -1)[side], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(gradients[1 - side], 0)
