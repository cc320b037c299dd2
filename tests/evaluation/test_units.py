"""What codes are made of: names, KL and activity by latent, and the ways that pictures take through them."""

import numpy as np
import pytest
import scipy.stats as st

from vaex.core import Latents
from vaex.evaluation.units import (
    DEGREES,
    ROWS,
    count_active,
    decoded_ways,
    great_circles,
    kl_per_unit,
    traversals,
    units,
)
from vaex.evaluation.units import span as span_of

MIXED = (Latents("normal", 2), Latents("categorical", 3), Latents("categorical", 2))
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 5))
SHARES = np.concatenate([np.exp(g) / np.exp(g).sum(-1, keepdims=True) for g in (LOGITS[:, :3], LOGITS[:, 3:])], axis=-1)
MEAN = np.concatenate([RNG.normal(size=(50, 2)), SHARES], axis=-1)
VARIANCE = np.concatenate([np.full((50, 2), 0.3), SHARES * (1 - SHARES)], axis=-1)


def test_units_are_named_by_what_they_are():
    assert [unit.name for unit in units(MIXED, 7)] == ["z0", "z1", "c0", "c1"]
    assert [unit.name for unit in units((), 3)] == ["z0", "z1", "z2"]
    assert [unit.kind for unit in units((Latents("free", 2),), 2)] == ["free", "free"]
    assert units((Latents("sphere", 4),), 4)[0][:2] == ("sphere", "sphere")
    with pytest.raises(ValueError, match=r"blocks of \[2, 3, 2\] entries, expected 8"):
        units(MIXED, 8)


def test_kl_by_unit_is_exact_where_it_is_known():
    found = kl_per_unit(units(MIXED, 7), MEAN, VARIANCE)
    normal = 0.5 * (MEAN[:, :2] ** 2 + 0.3 - 1 - np.log(0.3)).mean(0)
    entropies = [np.mean([st.entropy(row) for row in SHARES[:, cut]]) for cut in (slice(3), slice(3, 5))]
    np.testing.assert_allclose(found, [*normal, np.log(3) - entropies[0], np.log(2) - entropies[1]])
    certain = kl_per_unit(units((Latents("categorical", 3),), 3), np.eye(3), np.zeros((3, 3)))
    np.testing.assert_allclose(certain, [np.log(3)])
    for kind in ("free", "sphere"):
        assert kl_per_unit(units((Latents("normal", 5), Latents(kind, 2)), 7), MEAN, VARIANCE) is None
    assert kl_per_unit(units((), 7), MEAN, np.zeros_like(VARIANCE)) is None  # points have no density


def test_a_categorical_variable_is_one_active_latent():
    means = np.tile([0.5, 0.1, 0.2, 0.2, 0.6, 0.5, 0.5], (50, 1))
    assert count_active(units(MIXED, 7), means) == 0
    means[::2, 1:5] = [2.0, 0.6, 0.2, 0.2]
    assert count_active(units(MIXED, 7), means) == 2
    assert count_active(units((Latents("sphere", 7),), 7), means) == 3  # coordinates: z1 and two probabilities


def test_traversals_go_through_numbers_and_classes():
    found = traversals(units(MIXED, 7), MEAN, VARIANCE, kl=[0.1, 2.0, 1.0, 0.5])
    assert found.names == ("z1", "c0", "c1", "z0") and found.columns == ()
    np.testing.assert_array_equal(found.kl, [2.0, 1.0, 0.5, 0.1])
    assert found.codes.shape == (4, 11, 7)
    z1, c0, c1, _ = found.codes
    np.testing.assert_allclose(z1[:, 1], np.linspace(-3, 3, 11), atol=1e-6)
    np.testing.assert_array_equal(np.delete(z1, 1, axis=1), np.tile(np.float32(np.delete(MEAN[0], 1)), (11, 1)))
    np.testing.assert_array_equal(c0[:3, 2:5], np.eye(3))
    assert np.isnan(c0[3:]).all() and np.isnan(c1[2:]).all()
    np.testing.assert_array_equal(c1[:2, :5], np.tile(np.float32(MEAN[0, :5]), (2, 1)))


def test_traversals_leave_out_the_least_informative_beyond_the_limit():
    found = traversals(units(MIXED, 7), MEAN, VARIANCE, kl=[0.1, 2.0, 1.0, 0.5], limit=3)
    assert found.names == ("z1", "c0", "c1") and found.codes.shape == (3, 11, 7)
    np.testing.assert_array_equal(found.kl, [2.0, 1.0, 0.5])


def test_traversals_of_a_learned_prior_span_the_codes():
    parts = units((Latents("free", 2),), 2)
    mean, variance = 5.0 + 10.0 * RNG.normal(size=(4000, 2)), np.full((4000, 2), 44.0)
    found = traversals(parts, mean * [1.0, 0.1], variance)
    assert found.names == ("z0", "z1") and found.kl is None and found.columns[0] == "−3"
    np.testing.assert_allclose(found.codes[0, :, 0], 5.0 + 12.0 * np.linspace(-3, 3, 11), atol=1.5)
    np.testing.assert_allclose(span_of(parts[0], mean, variance), (5.0, 12.0), atol=0.4)
    assert span_of(units((), 2)[0], mean, variance) == (0.0, 1.0)


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
    ways = traversals(units((Latents("sphere", d),), d), codes, np.ones_like(codes))
    np.testing.assert_allclose(ways.codes, circles, atol=1e-6)
    assert ways.columns[:2] == ("0°", "30°") and ways.names[0] == "circle 0"


def test_decoding_leaves_out_what_is_not_there():
    seen = []

    def decode(z):
        seen.append(z)
        return z[:, :2, None, None]

    codes = traversals(units(MIXED, 7), MEAN, VARIANCE, kl=[1.0, 1.0, 1.0, 1.0]).codes
    images = decoded_ways(decode, codes)
    assert [z.shape for z in seen] == [(11 + 11 + 3 + 2, 7)] and images.shape == (4, 11, 2, 1, 1)
    np.testing.assert_array_equal(images[..., 0, 0], codes[..., :2])


def test_of_many_latents_the_most_informative_are_moved():
    count = ROWS + 5
    parts = units((Latents("free", count),), count)
    found = traversals(parts, np.arange(2 * count, dtype=float).reshape(2, count) ** 2, np.ones((2, count)))
    assert found.names == tuple(f"z{index}" for index in reversed(range(5, count)))
