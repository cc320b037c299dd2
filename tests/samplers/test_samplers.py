"""Samplers of codes: moments that must be met, shapes that must be followed, pure fits, and what is refused."""

import jax
import numpy as np
import pytest

from vaex import samplers
from vaex.errors import UserError
from vaex.evaluation import sample_quality

RNG = np.random.default_rng(0)
COVARIANCE = np.array([[4.0, 1.8], [1.8, 1.0]])
GAUSSIAN = RNG.multivariate_normal([5.0, -1.0], COVARIANCE, size=4000)
ANGLE = RNG.uniform(0, 2 * np.pi, 3000)
RING = 3.0 * np.stack([np.cos(ANGLE), np.sin(ANGLE)], axis=-1) + 0.1 * RNG.normal(size=(3000, 2))
KEY = jax.random.key(1)


def drawn(kind, codes, n=2000):
    return np.asarray(samplers.draw(samplers.fit(kind, codes), KEY, n), np.float64)


@pytest.mark.parametrize("kind", ["gaussian", "full_gaussian", "gmm:2"])
def test_gaussians_have_the_moments_of_the_codes(kind):
    z = drawn(kind, GAUSSIAN, 20_000)
    expected = np.diag(np.diag(COVARIANCE)) if kind == "gaussian" else COVARIANCE
    np.testing.assert_allclose(z.mean(axis=0), [5.0, -1.0], atol=4 * 2 / np.sqrt(4000))
    np.testing.assert_allclose(np.cov(z.T), expected, atol=0.3)


def test_neighbours_lie_between_codes_and_on_no_others():
    corners = np.repeat([[0.0, 0.0], [1.0, 0.0], [50.0, 50.0], [50.0, 51.0]], 2, axis=0)
    z = drawn("knn:3", corners)
    near, far = z[z[:, 0] < 2], z[z[:, 0] > 2]
    assert np.all(near[:, 1] == 0) and np.all(far[:, 0] == 50) and 0.4 < len(near) / len(z) < 0.6
    assert near[:, 0].min() >= 0 and near[:, 0].max() <= 1 and np.ptp(near[:, 0]) > 0.9


def test_the_hypersphere_keeps_norms_and_turns_directions():
    z = drawn("hypersphere", np.array([[2.0, 0.0, 0.0]] * 5 + [[0.0, 3.0, 0.0]] * 5))
    norms = np.linalg.norm(z, axis=-1)
    assert set(norms.round(4)) == {2.0, 3.0}
    np.testing.assert_allclose((z / norms[:, None]).mean(axis=0), 0.0, atol=4 / np.sqrt(3 * 2000))


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("kind", ["gmm:20", "flow", "knn", "second_stage:8"])
def test_a_ring_is_followed_where_a_gaussian_fills_it(kind):
    examples = RING[2000:]
    precision = sample_quality.manifold_scores(drawn(kind, RING[:2000], 1000), examples).precision
    filled = sample_quality.manifold_scores(drawn("full_gaussian", RING[:2000], 1000), examples).precision
    assert filled < 0.2 and precision > (0.25 if kind.startswith("second_stage") else 0.7)


@pytest.mark.parametrize(
    "kind",
    [
        *("gaussian", "gmm:2", "knn", "hypersphere"),
        *(pytest.param(kind, marks=[pytest.mark.slow, pytest.mark.optimised]) for kind in ("flow:2", "second_stage")),
    ],
)
def test_fits_are_pure_functions_of_their_arguments(kind):
    first, second = (samplers.fit(kind, GAUSSIAN[:300], seed=3) for _ in range(2))
    assert first.kind == second.kind and set(first.arrays) == set(second.arrays)
    for name in first.arrays:
        np.testing.assert_array_equal(first.arrays[name], second.arrays[name])
    draws = [np.asarray(samplers.draw(first, key, 5)) for key in (KEY, KEY, jax.random.key(2))]
    assert draws[0].shape == (5, 2) and draws[0].dtype == np.float32
    assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])
    if kind in ("gmm:2", "knn", "flow:2", "second_stage"):
        other = samplers.fit(kind, GAUSSIAN[:300], seed=4).arrays
        assert any(not np.array_equal(first.arrays[name], other[name]) for name in other)


@pytest.mark.parametrize("kind", ["gaussian", "gmm:2", "knn:2"])
def test_a_latent_that_is_the_same_for_all_stays_so(kind):
    codes = np.stack([np.full(50, 7.0), np.linspace(-1, 1, 50)], axis=-1)
    np.testing.assert_allclose(drawn(kind, codes)[:, 0], 7.0, atol=0.05)


@pytest.mark.parametrize(
    ("kind", "codes", "error", "message"),
    [
        ("gnm", GAUSSIAN, UserError, "did you mean gmm"),
        ("gmm:0", GAUSSIAN, UserError, "expected gmm or gmm:N, the number of components"),
        ("gaussian:3", GAUSSIAN, UserError, "gaussian takes no number"),
        ("gmm:50", GAUSSIAN[:20], UserError, "20 codes are too few"),
        ("knn:20", GAUSSIAN[:20], UserError, "20 codes are too few"),
        ("gaussian", GAUSSIAN[0], ValueError, r"shape \(2,\), expected finite \[n, d\]"),
        ("gaussian", np.full((5, 2), np.nan), ValueError, "expected finite"),
    ],
)
def test_what_is_refused(kind, codes, error, message):
    with pytest.raises(error, match=message):
        samplers.fit(kind, codes)
