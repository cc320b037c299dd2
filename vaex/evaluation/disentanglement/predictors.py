"""Scores from predictors of the factors: SAP, DCI and explicitness, fitted by scikit-learn on one half and tested on the other."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaex.evaluation.disentanglement.inputs import check, split, top_gap

TREES, DEPTH = 50, 12  # of a forest
BOOSTED_TREES = 100  # of each class
LASSO = 0.02  # weight of the penalty, for codes and factors of unit variance
Predictor = Literal["forest", "boosted_trees", "lasso"]


class SeparatedAttributes(NamedTuple):
    """``score``: mean over factors; ``per_factor`` [f]; ``accuracies`` [d, f]. See ``separated_attribute_predictability``."""

    score: float
    per_factor: np.ndarray
    accuracies: np.ndarray


def separated_attribute_predictability(
    codes: ArrayLike, factors: ArrayLike, *, regularisation: float = 0.01, seed: int = 0
) -> SeparatedAttributes:
    """Separated attribute predictability (SAP): how much better the best single latent predicts a factor than the second best.

    Of each latent alone a linear support vector machine predicts each factor, its classes balanced by weights; the score is the
    difference of the two highest accuracies on the half that it was not fitted on.

    Args:
      codes: [n, d].
      factors: [n, f], integers.
      regularisation: of the support vector machine, C.
      seed: of the halves.
    Returns: the score in [0, 1] with its parts.
    Raises: ValueError for shapes that disagree, codes that are not finite, factors that are no integers or never vary.
    Example:
      >>> grid = np.stack(np.meshgrid([0, 1], [0, 1]), -1).reshape(-1, 2).repeat(50, axis=0)
      >>> print(round(separated_attribute_predictability(grid, grid, regularisation=1.0).score, 1))
      0.5

    References: Kumar et al. 2018, section 3; support vector machines as in Locatello et al. 2019, appendix.
    """
    from sklearn.svm import LinearSVC

    name = "separated_attribute_predictability"
    checked, values = check(name, codes, factors)
    fitted, tested = _halves(name, values, seed)
    accuracies = np.zeros((checked.shape[1], values.shape[1]))
    for latent in range(checked.shape[1]):
        for factor in range(values.shape[1]):
            machine = LinearSVC(C=regularisation, class_weight="balanced", random_state=0)
            machine.fit(checked[fitted, latent : latent + 1], values[fitted, factor])
            predicted = machine.predict(checked[tested, latent : latent + 1])
            accuracies[latent, factor] = np.mean(predicted == values[tested, factor])
    per_factor = top_gap(accuracies)
    return SeparatedAttributes(float(per_factor.mean()), per_factor, accuracies)


class DCI(NamedTuple):
    """``disentanglement`` and ``completeness`` in [0, 1]; ``informativeness``, accuracy of the predictors on the other half
    (of a lasso its R²), mean over factors; ``importance`` [d, f]. See ``dci``."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray


def dci(codes: ArrayLike, factors: ArrayLike, *, predictor: Predictor = "forest", seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness, from how important each latent is to a predictor of each factor.

    ``forest``: 50 trees of depth 12 at most, each of resampled examples, every split among all latents; ``boosted_trees``: 100 for
    each class, as in Locatello et al. 2019, which takes hours where factors have many values; both weigh by the decrease of
    impurity. ``lasso``: absolute coefficients for the factor's number, codes and factors standardised.

    Args:
      codes: [n, d].
      factors: [n, f], integers.
      predictor: which.
      seed: of the halves and of the trees.
    Raises: ValueError for shapes that disagree, codes that are not finite, factors that are no integers or never vary.
    Example:
      >>> grid = np.stack(np.meshgrid([0, 1], [0, 1]), -1).reshape(-1, 2).repeat(50, axis=0)
      >>> scores = dci(grid, grid)
      >>> print(round(scores.disentanglement, 2), round(scores.completeness, 2), scores.informativeness)
      1.0 1.0 1.0

    References: Eastwood & Williams 2018, section 2.
    """
    checked, values = check("dci", codes, factors)
    fitted, tested = _halves("dci", values, seed)
    importance, quality = np.zeros((checked.shape[1], values.shape[1])), np.zeros(values.shape[1])
    spread = checked.std(axis=0)
    standard = (checked - checked.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    for factor in range(values.shape[1]):
        target = values[:, factor]
        if predictor == "lasso":
            target = (target - target.mean()) / target.std()
        machine = _predictor(predictor, seed)
        machine.fit(standard[fitted], target[fitted])
        weights = np.abs(machine.coef_) if predictor == "lasso" else machine.feature_importances_
        importance[:, factor], quality[factor] = weights, machine.score(standard[tested], target[tested])
    disentanglement, completeness = importance_scores(importance)
    return DCI(disentanglement, completeness, float(quality.mean()), importance)


def importance_scores(importance: ArrayLike) -> tuple[float, float]:
    r"""Disentanglement and completeness of a matrix of importances.

    Disentanglement is :math:`\sum_j \rho_j (1 - H_f(P_{j\cdot}))`, where P normalises over factors, the entropy H is to the base of
    their number and :math:`\rho_j` is the share of latent j in all importance; completeness is
    :math:`\sum_k \rho_k (1 - H_d(P_{\cdot k}))` over the factors alike.

    Args:
      importance: [d, f], at least 0.
    Raises: ValueError unless it is [d, f], finite, at least 0 and not 0 throughout.
    Example:
      >>> print(*(round(score, 3) for score in importance_scores([[1, 0], [1, 0], [0, 2]])))
      1.0 0.685

    References: Eastwood & Williams 2018, section 2.
    """
    weights = np.asarray(importance, np.float64)
    if weights.ndim != 2 or not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError(
            f"importance_scores: importance has shape {weights.shape}, expected finite [d, f] of at least 0, not 0 throughout"
        )
    return _one_to_one(weights), _one_to_one(weights.T)


class Explicitness(NamedTuple):
    """``score``: mean over the values of all factors, of ``per_factor`` [f] means. See ``explicitness``."""

    score: float
    per_factor: np.ndarray


def explicitness(codes: ArrayLike, factors: ArrayLike, *, seed: int = 0) -> Explicitness:
    """Explicitness: whether a linear classifier of all latents tells each value of a factor from the others.

    Logistic regression of standardised codes, one value against the rest; the area under its ROC curve on the other half, scaled
    so that chance is 0 and certainty 1. Values that the second half lacks are left out.

    Args, Raises: as for ``dci``.
    Example:
      >>> grid = np.stack(np.meshgrid([0, 1], [0, 1]), -1).reshape(-1, 2).repeat(50, axis=0)
      >>> explicitness(grid, grid).score
      1.0

    References: Ridgeway & Mozer 2018, section 3.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    checked, values = check("explicitness", codes, factors)
    fitted, tested = _halves("explicitness", values, seed)
    spread = checked[fitted].std(axis=0)
    standard = (checked - checked[fitted].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    areas = []
    for factor in range(values.shape[1]):
        machine = LogisticRegression(max_iter=1000).fit(standard[fitted], values[fitted, factor])
        scores = machine.predict_proba(standard[tested])
        truth = values[tested, factor]
        areas.append(
            [
                2.0 * roc_auc_score(truth == value, scores[:, column]) - 1.0
                for column, value in enumerate(machine.classes_)
                if 0 < np.sum(truth == value) < len(truth)
            ]
        )
    per_factor = np.array([float(np.mean(of_factor)) for of_factor in areas])
    return Explicitness(float(np.mean(np.concatenate(areas))), per_factor)


def _halves(name: str, values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    fitted, tested = split(len(values), seed)
    if not len(tested) or any(len(np.unique(column)) < 2 for column in values[fitted].T):
        raise ValueError(f"{name}: half of {len(values)} examples hold a single value of a factor; give more examples")
    return fitted, tested


def _predictor(name: Predictor, seed: int) -> Any:
    if name == "forest":
        from sklearn.ensemble import RandomForestClassifier

        every_latent: Any = None  # a value of max_features that scikit-learn's annotation lacks
        return RandomForestClassifier(TREES, max_depth=DEPTH, max_features=every_latent, random_state=seed)
    if name == "boosted_trees":
        from sklearn.ensemble import GradientBoostingClassifier

        return GradientBoostingClassifier(n_estimators=BOOSTED_TREES, random_state=seed)
    if name == "lasso":
        from sklearn.linear_model import Lasso

        return Lasso(LASSO)
    raise ValueError(f"dci: predictor={name!r}, expected 'forest', 'boosted_trees' or 'lasso'")


def _one_to_one(weights: np.ndarray) -> float:
    """Mean over rows, weighted by their sums, of 1 - the entropy of their shares to the base of the number of columns."""
    totals = weights.sum(axis=1, keepdims=True)
    shares = np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)
    logs = np.log(np.where(shares > 0, shares, 1.0)) / np.log(max(weights.shape[1], 2))
    return float(np.sum((1.0 + np.sum(shares * logs, axis=1)) * totals[:, 0]) / totals.sum())
