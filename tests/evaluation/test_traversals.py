"""Paths through codes of several kinds of latents: where they start, what they move and what is drawn of them."""

import numpy as np
import pytest

from vaex.core import Latents
from vaex.evaluation.latents import latent_variables, location_and_scale
from vaex.evaluation.traversals import DEGREES, MOST_PATHS, decode_paths, great_circles, traversal_paths

MIXED = (Latents("normal", 2), Latents("categorical", 3), Latents("categorical", 2))
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 5))
PROBABILITIES = np.concatenate(
    [np.exp(g) / np.exp(g).sum(-1, keepdims=True) for g in (LOGITS[:, :3], LOGITS[:, 3:])], axis=-1
)
MEAN = np.concatenate([RNG.normal(size=(50, 2)), PROBABILITIES], axis=-1)
VARIANCE = np.concatenate([np.full((50, 2), 0.3), PROBABILITIES * (1 - PROBABILITIES)], axis=-1)


def test_traversals_go_through_numbers_and_classes():
    paths = traversal_paths(latent_variables(MIXED, 7), MEAN, VARIANCE, kl=[0.1, 2.0, 1.0, 0.5])
    assert paths.names == ("z1", "c0", "c1", "z0") and paths.columns == ()
    np.testing.assert_array_equal(paths.kl, [2.0, 1.0, 0.5, 0.1])
    assert paths.codes.shape == (4, 11, 7)
    z1, c0, c1, _ = paths.codes
    np.testing.assert_allclose(z1[:, 1], np.linspace(-3, 3, 11), atol=1e-6)
    np.testing.assert_array_equal(np.delete(z1, 1, axis=1), np.tile(np.float32(np.delete(MEAN[0], 1)), (11, 1)))
    np.testing.assert_array_equal(c0[:3, 2:5], np.eye(3))
    assert np.isnan(c0[3:]).all() and np.isnan(c1[2:]).all()
    np.testing.assert_array_equal(c1[:2, :5], np.tile(np.float32(MEAN[0, :5]), (2, 1)))


def test_traversals_leave_out_the_least_informative_beyond_the_limit():
    paths = traversal_paths(latent_variables(MIXED, 7), MEAN, VARIANCE, kl=[0.1, 2.0, 1.0, 0.5], limit=3)
    assert paths.names == ("z1", "c0", "c1") and paths.codes.shape == (3, 11, 7)
    np.testing.assert_array_equal(paths.kl, [2.0, 1.0, 0.5])


def test_traversals_of_a_learned_prior_span_the_codes():
    variables = latent_variables((Latents("free", 2),), 2)
    mean, variance = 5.0 + 10.0 * RNG.normal(size=(4000, 2)), np.full((4000, 2), 44.0)
    paths = traversal_paths(variables, mean * [1.0, 0.1], variance)
    assert paths.names == ("z0", "z1") and paths.kl is None and paths.columns[0] == "−3"
    np.testing.assert_allclose(paths.codes[0, :, 0], 5.0 + 12.0 * np.linspace(-3, 3, 11), atol=1.5)
    np.testing.assert_allclose(location_and_scale(variables[0], mean, variance), (5.0, 12.0), atol=0.4)
    assert location_and_scale(latent_variables((), 2)[0], mean, variance) == (0.0, 1.0)


@pytest.mark.parametrize("d", [2, 3, 6])
def test_great_circles_stay_on_the_sphere_and_start_along_the_widest_direction(d):
    codes = RNG.normal(size=(60, d)) * np.geomspace(1.0, 0.3, d) + 2.0 * np.eye(d)[-1]
    circles = great_circles(codes)
    assert circles.shape == (d - 1, len(DEGREES), d)
    np.testing.assert_allclose(np.linalg.norm(circles, axis=-1), 1.0)
    start = codes[0] / np.linalg.norm(codes[0])
    np.testing.assert_allclose(circles[:, 0], np.tile(start, (d - 1, 1)), atol=1e-12)
    np.testing.assert_allclose(circles[:, 6], -circles[:, 0], atol=1e-12)  # 180 degrees
    quarter = circles[:, 3]
    np.testing.assert_allclose(quarter @ quarter.T, np.eye(d - 1), atol=1e-12)
    directions = codes / np.linalg.norm(codes, axis=-1, keepdims=True)
    spread = np.square((directions - (directions @ start)[:, None] * start) @ quarter.T).sum(0)
    assert np.all(np.diff(spread) <= 1e-9)
    paths = traversal_paths(latent_variables((Latents("sphere", d),), d), codes, np.ones_like(codes))
    np.testing.assert_allclose(paths.codes, circles, atol=1e-6)
    assert paths.columns[:2] == ("0°", "30°") and paths.names[0] == "circle 0"


def test_decoding_leaves_out_what_is_not_there():
    calls = []

    def decode(z):
        calls.append(z)
        return z[:, :2, None, None]

    codes = traversal_paths(latent_variables(MIXED, 7), MEAN, VARIANCE, kl=[1.0, 1.0, 1.0, 1.0]).codes
    images = decode_paths(decode, codes)
    assert [z.shape for z in calls] == [(11 + 11 + 3 + 2, 7)] and images.shape == (4, 11, 2, 1, 1)
    np.testing.assert_array_equal(images[..., 0, 0], codes[..., :2])


def test_of_many_latents_the_most_informative_are_moved():
    count = MOST_PATHS + 5
    variables = latent_variables((Latents("free", count),), count)
    paths = traversal_paths(variables, np.arange(2 * count, dtype=float).reshape(2, count) ** 2, np.ones((2, count)))
    assert paths.names == tuple(f"z{index}" for index in reversed(range(5, count)))
