"""Scores from groups of examples that share the value of one factor: those of beta-VAE and FactorVAE, and robustness (IRS)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaex.evaluation.disentanglement.inputs import check

INACTIVE = 0.05  # squared units of a standard normal prior: latents of less variance have no vote


def beta_vae_score(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    points: int = 2000,
    pairs: int = 64,
    seed: int = 0,
) -> float:
    """Accuracy of a linear classifier that tells which factor two examples share, from the differences of their codes.

    For each point a factor is drawn, then ``pairs`` pairs of examples that share its value; the mean of their |z1 - z2| is the
    input. Logistic regression is fitted on the first half of the points and tested on the second. Chance is 1 / f.

    Args:
      codes: [n, d].
      factors: [n, f >= 2], integers; the examples at hand are drawn from, so they need fill no grid.
      points: inputs of the classifier.
      pairs: averaged in one input.
      seed: of all draws.
    Returns: accuracy in [0, 1].
    Raises: ValueError for shapes that disagree, codes that are not finite, factors that are no integers, never vary or are alone.
    Example:
      >>> grid = np.stack(np.meshgrid(range(4), range(4)), -1).reshape(-1, 2)
      >>> beta_vae_score(grid, grid, points=100)
      1.0

    References: Higgins et al. 2017, section 3 and appendix A.4.
    """
    from sklearn.linear_model import LogisticRegression

    checked, values = _several("beta_vae_score", codes, factors)
    draws = np.random.default_rng(seed)
    chosen = draws.integers(values.shape[1], size=points)
    groups = _Groups(values)
    inputs = np.empty((points, checked.shape[1]))
    for index, factor in enumerate(chosen):
        first = draws.integers(len(values), size=pairs)
        second = groups.partners(draws, factor, first)
        inputs[index] = np.abs(checked[first] - checked[second]).mean(axis=0)
    half = points // 2
    machine = LogisticRegression(max_iter=1000).fit(inputs[:half], chosen[:half])
    return float(machine.score(inputs[half:], chosen[half:]))


def factor_vae_score(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    points: int = 2000,
    group: int = 64,
    inactive: float = INACTIVE,
    seed: int = 0,
) -> float:
    """Accuracy of a vote on which factor is fixed, from the latent that varies least among examples that share its value.

    For each point a factor and a value are drawn, then ``group`` examples with that value; of the variances of their codes,
    relative to those of all codes, the least names a latent. The factor most often seen with each latent in the first half of the
    points is its vote, tested on the second half.

    Args:
      codes, factors, points, seed: as for ``beta_vae_score``.
      group: examples of a point.
      inactive: variance of a latent up to which it has no vote; the default is for codes under a standard normal prior.
    Returns: accuracy in [0, 1]; 1 / f, chance, where no latent has a vote.
    Raises: as ``beta_vae_score``.
    Example:
      >>> grid = np.stack(np.meshgrid(range(4), range(4)), -1).reshape(-1, 2)
      >>> factor_vae_score(grid, grid, points=100)
      1.0

    References: Kim & Mnih 2018, section 4 and algorithm 1.
    """
    checked, values = _several("factor_vae_score", codes, factors)
    variances = checked.var(axis=0)
    active = np.flatnonzero(variances > inactive)
    if not len(active):
        return float(1.0 / values.shape[1])
    draws, groups = np.random.default_rng(seed), _Groups(values)
    chosen, latents = draws.integers(values.shape[1], size=points), np.empty(points, np.int64)
    for index, factor in enumerate(chosen):
        shown = np.repeat(draws.integers(len(values)), group)
        members = checked[groups.partners(draws, factor, shown)][:, active]
        latents[index] = np.argmin(members.var(axis=0) / variances[active])
    half = points // 2
    votes = np.zeros((len(active), values.shape[1]))
    np.add.at(votes, (latents[:half], chosen[:half]), 1.0)
    return float(np.mean(np.argmax(votes, axis=1)[latents[half:]] == chosen[half:]))


class InterventionalRobustness(NamedTuple):
    """``score``: mean over latents, weighted by how far each moves; ``per_latent`` [d]; ``robustness`` [d, f]."""

    score: float
    per_latent: np.ndarray
    robustness: np.ndarray


def interventional_robustness(
    codes: ArrayLike, factors: ArrayLike, *, quantile: float = 0.99
) -> InterventionalRobustness:
    r"""Interventional robustness (IRS): whether a latent stays while all factors but one change.

    Among the examples of one value of a factor, the ``quantile`` of a latent's distances from their mean, averaged over values and
    divided by the largest distance from the latent's mean in all examples: 1 minus that is the robustness, and the largest over
    factors counts. Latents that are constant don't count.

    Args:
      codes: [n, d].
      factors: [n, f], integers.
      quantile: in (0, 1]; 1 is the paper's maximum, 0.99 that of Locatello et al. 2019.
    Returns: the score in [0, 1] with its parts, NaN for constant latents.
    Raises: ValueError for shapes that disagree, codes that are not finite or all constant, factors that are no integers or never
      vary, or another quantile.
    Example:
      >>> grid = np.stack(np.meshgrid(range(4), range(4)), -1).reshape(-1, 2)
      >>> interventional_robustness(grid, grid).score
      1.0

    References: Suter et al. 2019, section 4.
    """
    checked, values = check("interventional_robustness", codes, factors)
    if not 0 < quantile <= 1:
        raise ValueError(f"interventional_robustness: quantile is {quantile}, expected a number above 0 and up to 1")
    farthest = np.abs(checked - checked.mean(axis=0)).max(axis=0)
    if not farthest.max() > 0:
        raise ValueError("interventional_robustness: all codes are constant; nothing can be said of their robustness")
    robustness = np.full((checked.shape[1], values.shape[1]), np.nan)
    moves = farthest > 0
    for factor, column in enumerate(values.T):
        spreads = []
        for value in range(column.max() + 1):
            members = checked[column == value]
            spreads.append(np.quantile(np.abs(members - members.mean(axis=0)), quantile, axis=0))
        robustness[moves, factor] = 1.0 - np.mean(spreads, axis=0)[moves] / farthest[moves]
    per_latent = robustness.max(axis=1)
    score = np.sum(per_latent[moves] * farthest[moves]) / farthest[moves].sum()
    return InterventionalRobustness(float(score), per_latent, robustness)


class _Groups:
    """Examples by the value of each factor."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self._order = [np.argsort(column, kind="stable") for column in values.T]
        counts = [np.bincount(column) for column in values.T]
        self._counts, self._starts = counts, [np.cumsum(count) - count for count in counts]

    def partners(self, draws: np.random.Generator, factor: int, shown: np.ndarray) -> np.ndarray:
        """Draw for each example of ``shown`` one with the same value of the factor, perhaps itself."""
        value = self._values[shown, factor]
        within = draws.integers(self._counts[factor][value])
        return self._order[factor][self._starts[factor][value] + within]


def _several(name: str, codes: ArrayLike, factors: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    checked, values = check(name, codes, factors)
    if values.shape[1] < 2:
        raise ValueError(f"{name}: factors has one column, expected at least 2; one factor can't be told from another")
    return checked, values
