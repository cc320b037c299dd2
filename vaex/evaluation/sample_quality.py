"""Distances between two sets of examples in a feature space, such as samples of a model and examples of a split.

Arrays are features [n, d] of any function: pixels, principal components, a classifier's hidden layer. A Fréchet distance is the FID
only in the features of one particular Inception network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

BLOCK = 1000  # rows whose distances to all others are computed at a time


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    r"""Squared Fréchet (2-Wasserstein) distance of the Gaussians with the moments of two sets.

    :math:`\|\mu_a-\mu_b\|^2 + \mathrm{tr}(\Sigma_a + \Sigma_b - 2(\Sigma_a^{1/2}\Sigma_b\Sigma_a^{1/2})^{1/2})`, covariances
    divided by n - 1. It is biased upwards for few examples: compare at equal n.

    Args:
      a, b: features [n, d] and [m, d], n, m >= 2.
    Returns: the distance, in squared units of the features.
    Raises: ValueError for shapes that disagree or values that are not finite.
    Example:
      >>> x = np.random.default_rng(0).normal(size=(100, 3))
      >>> print(round(frechet_distance(x, 2.0 + x), 6))
      12.0

    References: Heusel et al. 2017, eq. 6.
    """
    a, b = _checked("frechet_distance", a, b)
    first, second = _covariance(a), _covariance(b)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ second @ root)
    trace = np.trace(first) + np.trace(second) - 2.0 * np.sum(np.sqrt(np.maximum(cross, 0.0)))
    return float(np.sum(np.square(a.mean(axis=0) - b.mean(axis=0))) + max(trace, 0.0))


def kernel_distance(a: ArrayLike, b: ArrayLike) -> float:
    r"""Unbiased squared maximum mean discrepancy under the kernel :math:`(x^\top y/d + 1)^3`; may be below 0.

    Args, Raises: as for ``frechet_distance``.
    Example:
      >>> x = np.random.default_rng(0).normal(size=(200, 2))
      >>> kernel_distance(x[:100], x[100:]) < 0.1 < kernel_distance(x[:100], x[100:] + 1.0)
      True

    References: Binkowski et al. 2018, section 4.
    """
    a, b = _checked("kernel_distance", a, b)
    return _mean_kernel(a, a, same=True) + _mean_kernel(b, b, same=True) - 2.0 * _mean_kernel(a, b, same=False)


class Manifolds(NamedTuple):
    """``precision`` and ``recall``, ``density`` and ``coverage`` of samples; see ``manifold_scores``."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(samples: ArrayLike, examples: ArrayLike, *, k: int = 5) -> Manifolds:
    """How far samples lie among examples and reach them, by balls around each point up to its k-th nearest of the same set.

    Precision: share of samples inside a ball of an example. Recall: share of examples inside a ball of a sample. Density: how many
    balls of examples hold a sample, on average, divided by k; 1 where both are of one distribution. Coverage: share of examples
    whose ball holds a sample.

    Args:
      samples, examples: features [n, d] and [m, d].
      k: neighbours; 3 in the paper on precision and recall, 5 in that on density and coverage.
    Raises: ValueError for shapes that disagree, values that are not finite, or k outside 1..min(n, m) - 1.
    Example:
      >>> x = np.arange(8.0)[:, None]
      >>> manifold_scores(x[:4], x, k=2)
      Manifolds(precision=1.0, recall=0.75, density=1.5, coverage=0.625)

    References: Kynkäänniemi et al. 2019, section 2; Naeem et al. 2020, section 3.
    """
    samples, examples = _checked("manifold_scores", samples, examples)
    if not 1 <= k < min(len(samples), len(examples)):
        raise ValueError(
            f"manifold_scores: k is {k}, expected 1 to {min(len(samples), len(examples)) - 1}, one less than the smaller set"
        )
    around_examples, around_samples = _radii(examples, k), _radii(samples, k)
    within, reached, covered = [], [], []
    for squares in _blocks(samples, examples):
        within.append((squares <= around_examples).sum(axis=1))
    for squares in _blocks(examples, samples):
        reached.append((squares <= around_samples).any(axis=1))
    for start, squares in zip(range(0, len(examples), BLOCK), _blocks(examples, samples), strict=True):
        covered.append(squares.min(axis=1) <= around_examples[start : start + BLOCK])
    counts = np.concatenate(within)
    return Manifolds(
        float(np.mean(counts > 0)),
        float(np.mean(np.concatenate(reached))),
        float(np.mean(counts) / k),
        float(np.mean(np.concatenate(covered))),
    )


def nearest_neighbour_accuracy(a: ArrayLike, b: ArrayLike) -> float:
    """Share of points whose nearest neighbour among all others is of their own set: 0.5 where both are of one distribution.

    A classifier two-sample test: near 1, the sets are told apart; well below 0.5, one holds copies of the other.

    Args:
      a, b: features [n, d] each; of one size, as chance is a half only then.
    Raises: ValueError for shapes that disagree or values that are not finite.
    Example:
      >>> nearest_neighbour_accuracy([[0.0], [0.1], [0.2]], [[9.0], [9.1], [9.2]])
      1.0

    References: Lopez-Paz & Oquab 2017, section 3; Xu et al. 2018, section 2.
    """
    a, b = _checked("nearest_neighbour_accuracy", a, b)
    if len(a) != len(b):
        raise ValueError(
            f"nearest_neighbour_accuracy: the sets hold {len(a)} and {len(b)} points, expected equal numbers"
        )
    points, labels = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    nearest = []
    for start, squares in zip(range(0, len(points), BLOCK), _blocks(points, points), strict=True):
        rows = np.arange(len(squares))
        squares[rows, start + rows] = np.inf
        nearest.append(np.argmin(squares, axis=1))
    return float(np.mean(labels[np.concatenate(nearest)] == labels))


class ClassifierTest(NamedTuple):
    """``accuracy`` on the held-out half, and ``p_value``, of so high an accuracy where both sets are of one distribution."""

    accuracy: float
    p_value: float


def classifier_test(a: ArrayLike, b: ArrayLike, *, seed: int = 0) -> ClassifierTest:
    """Classifier two-sample test: how well a perceptron tells the sets apart, 0.5 where both are of one distribution.

    64 hidden units on features of mean 0 and variance 1, trained on half of both sets for 50 passes; the p-value is
    that of the normal approximation to the binomial.

    Args:
      a, b: features [n, d] each; of one size.
      seed: of halves and network.
    Raises: ValueError for shapes that disagree, values that are not finite, or fewer than 20 points.
    Example:
      >>> x = np.random.default_rng(0).normal(size=(400, 2))
      >>> classifier_test(x[:200], x[200:] + [3.0, 0.0]).p_value < 1e-6
      True

    References: Lopez-Paz & Oquab 2017, section 3.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    a, b = _checked("classifier_test", a, b)
    if len(a) != len(b) or len(a) < 20:
        raise ValueError(
            f"classifier_test: the sets hold {len(a)} and {len(b)} points, expected equal numbers of at least 20"
        )
    points, labels = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    order = np.random.default_rng(seed).permutation(len(points))
    fitted, tested = order[: len(order) // 2], order[len(order) // 2 :]
    spread = points[fitted].std(axis=0)
    standard = (points - points[fitted].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    network = MLPClassifier((64,), max_iter=50, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # so many passes are what is asked for
        network.fit(standard[fitted], labels[fitted])
    accuracy = float(network.score(standard[tested], labels[tested]))
    return ClassifierTest(accuracy, 0.5 * math.erfc((accuracy - 0.5) * math.sqrt(2 * len(tested))))


def bootstrap_error(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    a: ArrayLike,
    b: ArrayLike,
    *,
    resamples: int = 50,
    seed: int = 0,
) -> float:
    """Standard error of a statistic of two sets: its deviation over resamples of both, drawn with replacement.

    Not for statistics of nearest neighbours: a point that is drawn twice is its own nearest neighbour.

    Args:
      statistic: of features [n, d] and [m, d], such as ``frechet_distance``.
      a, b: the sets.
      resamples: how many, at least 2.
      seed: of the draws.
    Raises: ValueError for shapes that disagree, values that are not finite, or fewer than 2 resamples.
    Example:
      >>> x = np.random.default_rng(0).normal(size=(400, 1))
      >>> error = bootstrap_error(lambda a, b: a.mean() - b.mean(), x, x)  # about sqrt(2 / 400)
      >>> 0.05 < error < 0.1
      True

    References: Efron & Tibshirani 1993, chapter 6.
    """
    a, b = _checked("bootstrap_error", a, b)
    if resamples < 2:
        raise ValueError(f"bootstrap_error: resamples is {resamples}, expected at least 2")
    rng = np.random.default_rng(seed)
    values = [
        statistic(a[rng.integers(0, len(a), len(a))], b[rng.integers(0, len(b), len(b))]) for _ in range(resamples)
    ]
    return float(np.std(values, ddof=1))


def _checked(name: str, a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(
            f"{name}: got features of shapes {first.shape} and {second.shape}, expected [n, d] and [m, d] with n, m >= 2; flatten "
            "examples first"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError(f"{name}: features hold NaN or infinity; look at the decoder or the feature function first")
    return first, second


def _covariance(points: np.ndarray) -> np.ndarray:
    """Return [d, d], divided by n - 1."""
    return np.atleast_2d(np.cov(points, rowvar=False))


def _mean_kernel(a: np.ndarray, b: np.ndarray, *, same: bool) -> float:
    """Mean of the kernel over pairs; over pairs of different points where both are the same set."""
    total = sum(float(np.sum((a[at : at + BLOCK] @ b.T / a.shape[1] + 1.0) ** 3)) for at in range(0, len(a), BLOCK))
    if not same:
        return total / (len(a) * len(b))
    diagonal = float(np.sum((np.sum(a * a, axis=1) / a.shape[1] + 1.0) ** 3))
    return (total - diagonal) / (len(a) * (len(a) - 1))


def _blocks(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """Squared distances [up to BLOCK, m] of consecutive rows of a to all of b."""
    norms = np.sum(b * b, axis=1)
    for at in range(0, len(a), BLOCK):
        rows = a[at : at + BLOCK]
        yield np.maximum(np.sum(rows * rows, axis=1)[:, None] + norms - 2.0 * rows @ b.T, 0.0)


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each point to its k-th nearest other point."""
    return np.concatenate([np.partition(squares, k, axis=1)[:, k] for squares in _blocks(points, points)])
