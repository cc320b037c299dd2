"""Hyperbolic latents: gyroplane distances against hyperbolic geometry in float64, weights against the densities, the flat limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.fresh import BATCH, KEY, Fresh

from vaex.distributions import PoincareNormal
from vaex.distributions.poincare import to_poincare_ball
from vaex.models.priors import _hyperbolic as hyperbolic
from vaex.models.priors import poincare_vae


def distance(x, y, c):
    """Distance on the ball of curvature -c, by the formula of the disk model, float64."""
    gap = (1 - c * np.sum(x * x, -1)) * (1 - c * np.sum(y * y, -1))
    return np.arccosh(1 + 2 * c * np.sum((x - y) ** 2, -1) / gap) / np.sqrt(c)


def mobius_add(x, y, c):
    xy, xx, yy = np.sum(x * y, -1, keepdims=True), np.sum(x * x, -1, keepdims=True), np.sum(y * y, -1, keepdims=True)
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c * c * xx * yy)


@pytest.mark.parametrize("c", [0.5, 2.0])
def test_gyroplane_distances_are_the_least_distances_to_points_of_the_plane(c):
    rng = np.random.default_rng(0)
    point, normal = 0.4 * rng.normal(size=2), rng.normal(size=2)
    z = 0.5 * rng.uniform(-1, 1, (6, 2)) / np.sqrt(c)
    size = np.linalg.norm(point)
    p = np.tanh(np.sqrt(c) * size) * point / (np.sqrt(c) * size)
    # the gyroplane: p added to the vectors orthogonal to the normal
    along = np.array([-normal[1], normal[0]]) / np.linalg.norm(normal)
    line = np.tanh(np.linspace(-6, 6, 200_001))[:, None] * along / np.sqrt(c)
    plane = mobius_add(p[None], line, c)
    least = np.array([distance(row[None], plane, c).min() for row in z])
    side = np.sign(np.sum(mobius_add(-p[None], z, c) * normal, -1))
    actual = hyperbolic.gyroplane_distances(jnp.asarray(point[None]), jnp.asarray(normal[None]), jnp.asarray(z), c)
    np.testing.assert_allclose(actual[:, 0], 2 * np.linalg.norm(normal) * side * least, rtol=1e-4)


def test_gyroplanes_are_affine_where_the_space_is_flat():
    rng = np.random.default_rng(1)
    points, normals, z = (jnp.asarray(rng.normal(size=(4, 3)), jnp.float32) for _ in range(3))
    actual = hyperbolic.gyroplane_distances(points, normals, z, 1e-6)
    np.testing.assert_allclose(actual, 4 * jnp.sum((z[:, None] - points) * normals, -1), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_points_beyond_the_boundary_are_decoded_like_the_one_within_it():
    z = jnp.array([[0.1, 0.2], [3.0, 4.0], [0.6, 0.8]])
    inside = hyperbolic.within_ball(z, 0.25)
    np.testing.assert_array_equal(inside[::2], z[::2])
    np.testing.assert_allclose(inside[1], [1.2, 1.6], rtol=1e-4)
    assert 0.25 * jnp.sum(inside[1] ** 2) < 1
    gradient = jax.grad(
        lambda z: jnp.sum(hyperbolic.gyroplane_distances(z[:1], z[:1], hyperbolic.within_ball(z, 0.25), 0.25))
    )
    assert np.isfinite(gradient(z)).all()


@pytest.mark.slow
def test_posteriors_stay_where_float32_holds_their_densities():
    """An encoder's outputs of any size have a KL divergence near that of float64."""
    x = jnp.array([[0.3, -0.4], [1.5, 1.2], [30.0, 40.0], [-1e4, 0.0]])
    bounded = hyperbolic.reachable(x, 1.0)
    np.testing.assert_allclose(bounded[:2], x[:2], rtol=1e-6)
    assert np.all(np.linalg.norm(bounded, axis=-1) < 4.0 + 1e-5)
    wide = hyperbolic.at_most_wide(jnp.array([-3.0, 0.0, 7.0]), 1.0)
    np.testing.assert_allclose(wide, [-3.0, 0.0, np.log(1.5)], atol=1e-4)
    noise = jax.random.key(0)

    def kl(dtype):
        q = PoincareNormal(to_poincare_ball(bounded.astype(dtype), 1.0), log_scale=jnp.full((4, 2), -2.0, dtype))
        z = q.sample(noise, (200,))
        return jnp.mean(q.log_prob(z) - PoincareNormal(jnp.zeros(2, dtype), 1.0).log_prob(z), axis=0)

    single = np.asarray(kl(jnp.float32))
    with jax.enable_x64(True):
        double = np.asarray(kl(jnp.float64))
    np.testing.assert_allclose(single, double, atol=1.0)


@pytest.mark.slow
def test_log_weights_and_kl_are_those_of_the_wrapped_normals():
    fresh = Fresh(poincare_vae, poincare_vae.HParams(curvature=0.7, prior_scale=1.3), num_samples=500).jitter()
    q = fresh.encode()
    assert np.all(0.7 * np.sum(np.square(q.mean), -1) < 1) and q.variance.shape == q.mean.shape == (BATCH, 2)
    z = q.sample(KEY, (500,))
    prior = PoincareNormal(jnp.zeros(2), jnp.full(2, 1.3), curvature=0.7)
    ratio = q.log_prob(z) - prior.log_prob(z)
    np.testing.assert_allclose(fresh.log_weights(500), fresh.log_px(z) - ratio, atol=2e-3)
    np.testing.assert_allclose(fresh.outcome().metrics["kl"], np.mean(ratio, 0), rtol=1e-3)
    spread = np.var(q.sample(jax.random.key(4), (20_000,)), axis=0)
    np.testing.assert_allclose(q.variance, spread, rtol=0.8)


@pytest.mark.slow
def test_the_disk_holds_images_within_its_boundary():
    images = np.asarray(Fresh(poincare_vae, poincare_vae.HParams(curvature=4.0)).figure("disk").images)
    assert images.shape == (15, 15, 4, 4, 1)
    empty = np.isnan(images).all(axis=(2, 3, 4))
    assert empty[0, 0] and empty[7, 0] and not empty[7, 7] and not np.isnan(images[~empty]).any()
    assert "disk" not in Fresh(poincare_vae, latent_dim=3).recipe.figures
