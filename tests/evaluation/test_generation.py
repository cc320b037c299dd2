"""Manifold, compared with the normal's quantiles; label agreement, compared with a written-out nearest-neighbour vote."""

import numpy as np
import pytest
import scipy.stats
from sklearn.datasets import load_digits

from vaex.evaluation.generation import knn_label_agreement, manifold, manifold_latents


@pytest.mark.parametrize("num", [1, 2, 9, 20])
def test_manifold_latents_are_the_middle_quantiles_of_the_prior(num):
    z = manifold_latents(num)
    assert z.shape == (num, num, 2) and z.dtype == np.float32
    quantiles = scipy.stats.norm.ppf((np.arange(num) + 0.5) / num)
    np.testing.assert_allclose(z[0, :, 0], quantiles, atol=1e-6)
    np.testing.assert_allclose(z[:, 0, 1], quantiles[::-1], atol=1e-6)
    assert (z[:, :, 0] == z[:1, :, 0]).all() and (z[:, :, 1] == z[:, :1, 1]).all()


def test_manifold_decodes_every_point_in_its_place():
    images = manifold(lambda z: np.stack([2.0 * z, z**2], axis=1), num=3)
    z = manifold_latents(3)
    assert images.shape == (3, 3, 2, 2)
    for row in range(3):
        for column in range(3):
            np.testing.assert_allclose(images[row, column], [2.0 * z[row, column], z[row, column] ** 2])


def vote(train_x, train_y, x, k):
    """Return the most frequent label among the k nearest, the smallest in a tie."""
    distances = ((x[:, None] - train_x[None]) ** 2).sum(axis=-1)
    return np.array([np.bincount(train_y[np.argsort(row)[:k]]).argmax() for row in distances])


@pytest.mark.parametrize("k", [1, 4, 5])
def test_agreement_equals_a_vote_of_the_nearest(k):
    rng = np.random.default_rng(k)
    train_y, y = rng.integers(0, 3, 200), rng.integers(0, 3, 80)
    train_x, originals, reconstructions = (rng.normal(size=(len(c), 6)) + c[:, None] for c in (train_y, y, y))
    result = knn_label_agreement(
        train_x.reshape(-1, 2, 3, 1), train_y, reconstructions.reshape(-1, 2, 3, 1), y, k,
        originals=originals.reshape(-1, 2, 3, 1),
    )  # fmt: skip
    assert result.agreement == np.mean(vote(train_x, train_y, reconstructions, k) == y)
    assert result.accuracy == np.mean(vote(train_x, train_y, originals, k) == y)
    assert 0.5 < result.agreement < 1.0 and result.agreement != result.accuracy


def test_agreement_on_real_digits():
    digits = load_digits()
    x, y = digits.images / 16.0, digits.target
    train, test = slice(0, 1200), slice(1200, None)
    perfect = knn_label_agreement(x[train], y[train], x[test], y[test], originals=x[test])
    assert perfect.agreement == perfect.accuracy and perfect.accuracy > 0.93
    # Images of other digits: only about one in ten keeps its label, within 5 standard errors.
    shuffled = np.random.default_rng(0).permutation(x[test])
    n = len(shuffled)
    result = knn_label_agreement(x[train], y[train], shuffled, y[test])
    assert abs(result.agreement - 0.1) < 5.0 * np.sqrt(0.1 * 0.9 / n) and result.accuracy is None


x, y = np.zeros((4, 2)), np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: manifold(lambda z: z, 0), "at least 1"),
        (lambda: knn_label_agreement(x, y[:3], x, y), r"train images and labels have shapes \(4, 2\), \(3,\)"),
        (lambda: knn_label_agreement(x, y, x[:0], y[:0]), "n > 0"),
        (lambda: knn_label_agreement(x, y, np.zeros((4, 3)), y), "3 values each, expected 2"),
        (lambda: knn_label_agreement(x, y, x, y, k=5), "expected 1 to 4"),
        (lambda: knn_label_agreement(x, y, x, y, k=0), "expected 1 to 4"),
        (lambda: knn_label_agreement(x, y - 1, x, y, k=1), "leave unlabelled examples out"),
        (lambda: knn_label_agreement(x, y, x, y.astype(float), k=1), "expected integers"),
        (lambda: knn_label_agreement(x, y, x + np.nan, y, k=1), "reconstructions images hold NaN"),
        (lambda: knn_label_agreement(x, y, x, y, k=1, originals=x[:2]), "originals images and labels"),
        (lambda: knn_label_agreement(x, y, x, y, k=1, originals=np.zeros((4, 3))), "3 values each, expected 2"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
