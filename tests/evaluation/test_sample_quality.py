"""Distances between sets of examples, against closed forms and loops over pairs."""

import numpy as np
import pytest

from vaex.evaluation import sample_quality as quality

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(60, 3)), 0.5 + RNG.normal(size=(50, 3)) @ np.array([[1.0, 0.3, 0], [0, 2.0, 0], [0, 0, 0.5]])


def test_frechet_distance_is_that_of_the_moments():
    from scipy.linalg import sqrtm

    first, second = np.cov(A.T), np.cov(B.T)
    cross = sqrtm(first @ second).real
    expected = np.sum((A.mean(0) - B.mean(0)) ** 2) + np.trace(first + second - 2 * cross)
    assert quality.frechet_distance(A, B) == pytest.approx(expected, rel=1e-9)
    assert quality.frechet_distance(A, A) == pytest.approx(0.0, abs=1e-9)
    assert quality.frechet_distance(A[:, :1], 3 * A[:, :1]) == pytest.approx(
        (2 * A[:, 0].mean()) ** 2 + 4 * A[:, 0].var(ddof=1)
    )
    repeated = np.concatenate([A, A], axis=1)  # a covariance that is singular
    assert quality.frechet_distance(repeated, repeated + 1.0) == pytest.approx(6.0, abs=1e-6)


def test_kernel_distance_is_the_unbiased_mean_over_pairs():
    def kernel(x, y):
        return (x @ y / 3 + 1) ** 3

    own = [np.mean([kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (A, B)]
    expected = sum(own) - 2 * np.mean([kernel(x, y) for x in A for y in B])
    assert quality.kernel_distance(A, B) == pytest.approx(expected, rel=1e-9)


def test_manifold_scores_are_those_of_loops_over_pairs():
    k = 4

    def radius(points, index):
        return np.sort(np.linalg.norm(points - points[index], axis=1))[k]

    real, fake = A, B
    inside = np.array([[np.linalg.norm(f - r) <= radius(real, i) for i, r in enumerate(real)] for f in fake])
    reached = [any(np.linalg.norm(r - f) <= radius(fake, j) for j, f in enumerate(fake)) for r in real]
    expected = (inside.any(1).mean(), np.mean(reached), inside.sum(1).mean() / k, inside.any(0).mean())
    assert quality.manifold_scores(fake, real, k=k) == pytest.approx(expected)
    assert quality.manifold_scores(fake, real, k=1) != quality.manifold_scores(fake, real, k=k)


def test_sets_of_one_distribution_are_not_told_apart():
    same = quality.nearest_neighbour_accuracy(*RNG.normal(size=(2, 1500, 2)))
    assert same == pytest.approx(0.5, abs=0.04)
    assert quality.nearest_neighbour_accuracy(A, A + 100) == 1.0
    assert quality.nearest_neighbour_accuracy(A, A + 1e-3) == 0.0  # copies
    scores = quality.manifold_scores(*RNG.normal(size=(2, 2000, 2)))
    assert scores.density == pytest.approx(1.0, abs=0.1) and min(scores.precision, scores.recall, scores.coverage) > 0.9


def test_blocks_change_nothing(monkeypatch):
    names = ("kernel_distance", "manifold_scores", "nearest_neighbour_accuracy")
    before = [getattr(quality, name)(A[:50], B) for name in names]
    monkeypatch.setattr(quality, "BLOCK", 7)
    for name, expected in zip(names, before, strict=True):
        np.testing.assert_allclose(getattr(quality, name)(A[:50], B), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["frechet_distance", "kernel_distance", "manifold_scores", "nearest_neighbour_accuracy"]
)
def test_invalid_input_is_refused(name):
    function = getattr(quality, name)
    with pytest.raises(ValueError, match=rf"{name}: got features of shapes \(60, 3\) and \(50, 2\)"):
        function(A, B[:, :2])
    with pytest.raises(ValueError, match=f"{name}: features hold NaN"):
        function(A, np.full((60, 3), np.nan))


def test_other_arguments_are_checked():
    with pytest.raises(ValueError, match="k is 50, expected 1 to 49"):
        quality.manifold_scores(A, B, k=50)
    with pytest.raises(ValueError, match="60 and 50 points, expected equal numbers"):
        quality.nearest_neighbour_accuracy(A, B)


def test_a_classifier_tells_sets_apart_by_what_moments_do_not_show():
    ring = RNG.normal(size=(1500, 2))
    ring *= np.sqrt(2.0) / np.linalg.norm(ring, axis=1, keepdims=True)  # mean and covariance of a standard normal
    normal = RNG.normal(size=(2, 1500, 2))
    apart, same = quality.classifier_test(ring, normal[0]), quality.classifier_test(*normal)
    assert apart.accuracy > 0.57 and apart.p_value < 1e-6
    assert abs(same.accuracy - 0.5) < 4 * 0.5 / np.sqrt(1500) and same.p_value > 1e-4
    assert quality.classifier_test(*normal) == same and quality.classifier_test(*normal, seed=1) != same
    with pytest.raises(ValueError, match="equal numbers"):
        quality.classifier_test(A, B)


def test_the_bootstrap_error_is_that_of_repeated_draws():
    def difference(a, b):
        return float(np.mean(a) - np.mean(b))

    a, b = RNG.normal(size=(400, 1)), 3.0 * RNG.normal(size=(400, 1))
    error = quality.bootstrap_error(difference, a, b, resamples=400)
    assert error == pytest.approx(np.sqrt(a.var() / 400 + b.var() / 400), rel=0.15)
    assert quality.bootstrap_error(difference, a, b, seed=1) != quality.bootstrap_error(difference, a, b)
    with pytest.raises(ValueError, match="resamples is 1"):
        quality.bootstrap_error(difference, a, b, resamples=1)
