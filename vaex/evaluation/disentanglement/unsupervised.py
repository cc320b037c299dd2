"""Disentanglement without factors: models of one population that agree on single latents are ranked first (UDR)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vaex.evaluation.disentanglement.inputs import check_codes
from vaex.evaluation.latents import marginal_kl

INFORMATIVE = 0.01  # nats of KL, as in the paper


def unsupervised_disentanglement_ranking(
    means: Sequence[ArrayLike], variances: Sequence[ArrayLike] | None = None
) -> np.ndarray:
    r"""Unsupervised disentanglement ranking (UDR) of models of one kind that were trained with other seeds.

    Two models agree where each informative latent of one goes with a single latent of the other: with R the absolute rank
    correlations of their codes [d, d], they score
    :math:`\frac{1}{d_a+d_b}\big(\sum_b I_b \frac{r_b^2}{\sum_a R_{ab}} + \sum_a I_a \frac{r_a^2}{\sum_b R_{ab}}\big)`,
    where r is the largest of a column or row and I is 1 for a latent whose KL to a standard normal exceeds 0.01 nats; d counts
    these. A model's ranking is the median over the others.

    Args:
      means: of each model [n, d], posterior means of the same n examples.
      variances: of each model [n, d], of the posteriors; without them, latents that are constant are the uninformative ones.
    Returns: [models], in [0, 1].
    Raises: ValueError for fewer than 2 models, or shapes that disagree.
    Example:
      >>> code = np.random.default_rng(0).normal(size=(500, 2))
      >>> rotated = code @ np.array([[0.6, -0.8], [0.8, 0.6]])
      >>> print(unsupervised_disentanglement_ranking([code, -code[:, ::-1], rotated]).round(1))
      [0.7 0.7 0.5]

    References: Duan et al. 2020, section 4 (Spearman's correlation).
    """
    name = "unsupervised_disentanglement_ranking"
    codes = [check_codes(name, code) for code in means]
    if len(codes) < 2 or len({code.shape for code in codes}) > 1:
        raise ValueError(f"{name}: means has shapes {[code.shape for code in codes]}, expected at least 2 of one shape")
    if variances is None:
        informative = [code.std(axis=0) > 0 for code in codes]
    else:
        if len(variances) != len(codes):
            raise ValueError(f"{name}: got {len(variances)} variances for {len(codes)} models; give one for each")
        informative = [
            marginal_kl(code, variance) > INFORMATIVE for code, variance in zip(codes, variances, strict=True)
        ]
    ranks = [_standardized(_ranks(code)) for code in codes]
    scores = np.full((len(codes), len(codes)), np.nan)
    for first in range(len(codes)):
        for second in range(first):
            correlation = np.abs(ranks[first].T @ ranks[second]) / len(codes[0])
            agreement = _agreement(correlation, informative[first], informative[second])
            scores[first, second] = scores[second, first] = agreement
    return np.nanmedian(scores, axis=1)


def _ranks(codes: np.ndarray) -> np.ndarray:
    """Rank of each entry in its column [n, d], equal ones at the mean of theirs."""
    columns = []
    for column in codes.T:
        _, which, counts = np.unique(column, return_inverse=True, return_counts=True)
        columns.append((np.cumsum(counts) - 0.5 * (counts - 1))[which.ravel()])
    return np.stack(columns, axis=1)


def _standardized(ranks: np.ndarray) -> np.ndarray:
    spread = ranks.std(axis=0)
    return (ranks - ranks.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _agreement(correlation: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    """Return the score of two models of correlations [d, d], with the latents of each that are informative."""
    counted = int(rows.sum() + columns.sum())
    if not counted:
        return 0.0
    total = 0.0
    for matrix, chosen in ((correlation, columns), (correlation.T, rows)):
        sums = matrix.sum(axis=0)
        shares = np.divide(np.square(matrix.max(axis=0)), sums, out=np.zeros_like(sums), where=sums > 0)
        total += float(shares[chosen].sum())
    return total / counted
