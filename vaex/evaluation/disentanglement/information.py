"""Scores from the mutual information of single latents and factors, both discrete: codes are counted in bins of equal width."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaex.evaluation.disentanglement.inputs import BINS, check, discretize, top_gap


def mutual_information(codes: ArrayLike, factors: ArrayLike, *, bins: int = BINS) -> np.ndarray:
    r"""Mutual information of each latent, in bins, with each factor: :math:`\sum p(z,v)\log\frac{p(z,v)}{p(z)p(v)}`.

    The estimate from counts is too high by about (bins - 1)(values - 1) / 2n nats where the two are independent.

    Args:
      codes: [n, d].
      factors: [n, f], integers.
      bins: of equal width, over the range of each latent.
    Returns: [d, f], nats.
    Raises: ValueError for shapes that disagree, codes that are not finite, factors that are no integers or never vary.
    Example:
      >>> mutual_information([[0.0], [0.0], [1.0], [1.0]], [[0, 0], [0, 1], [1, 0], [1, 1]]).round(4)
      array([[0.6931, 0.    ]])
    """
    checked, values = check("mutual_information", codes, factors)
    return _information(discretize(checked, bins), values)


def entropies(factors: ArrayLike) -> np.ndarray:
    """Entropy of each factor, from counts: [n, f] -> [f], nats.

    Example:
      >>> entropies([[0, 0], [0, 1], [1, 2], [1, 3]]).round(4)
      array([0.6931, 1.3863])
    """
    values = np.asarray(factors)
    shares = [np.unique(column, return_counts=True)[1] / len(values) for column in values.T]
    return np.array([float(-np.sum(share * np.log(share))) for share in shares])


class MutualInformationGap(NamedTuple):
    """``score``: mean over factors; ``per_factor`` [f]; ``information`` [d, f] in nats. See ``mutual_information_gap``."""

    score: float
    per_factor: np.ndarray
    information: np.ndarray


def mutual_information_gap(codes: ArrayLike, factors: ArrayLike, *, bins: int = BINS) -> MutualInformationGap:
    r"""Mutual information gap (MIG): by how much the most informative latent of each factor exceeds the second.

    :math:`\frac1f\sum_k \frac{1}{H(v_k)}(I(z_{j(k)};v_k) - \max_{j\neq j(k)} I(z_j;v_k))`: 1 where one latent alone determines
    each factor, 0 where two tell the same.

    Args, Raises: as for ``mutual_information``.
    Returns: the score in [0, 1] with its parts.
    Example:
      >>> grid = np.stack(np.meshgrid([0, 1], [0, 1]), -1).reshape(-1, 2)
      >>> mutual_information_gap(grid, grid).score, mutual_information_gap(grid.repeat(2, axis=1), grid).score
      (1.0, 0.0)

    References: Chen et al. 2018, section 4.1; 20 bins as in Locatello et al. 2019.
    """
    checked, values = check("mutual_information_gap", codes, factors)
    information = _information(discretize(checked, bins), values)
    per_factor = top_gap(information) / entropies(values)
    return MutualInformationGap(float(per_factor.mean()), per_factor, information)


class Modularity(NamedTuple):
    """``score``: mean over latents; ``per_latent`` [d]. See ``modularity``."""

    score: float
    per_latent: np.ndarray


def modularity(codes: ArrayLike, factors: ArrayLike, *, bins: int = BINS) -> Modularity:
    r"""Modularity: whether each latent depends on one factor.

    :math:`1 - \frac{\sum_{k\neq k^*} I_{jk}^2}{(f - 1)\,I_{jk^*}^2}` of latent j, where k* is its most informative factor; 0 for a
    latent without information on any. Latents that are constant tell nothing and count as 0, as in Locatello et al. 2019.

    Args, Raises: as for ``mutual_information``; also ValueError for a single factor.
    Returns: the score in [0, 1] with its parts.
    Example:
      >>> grid = np.stack(np.meshgrid([0, 1], [0, 1]), -1).reshape(-1, 2)
      >>> modularity(grid, grid).score, modularity(grid.repeat(2, axis=1), grid).score
      (1.0, 1.0)

    References: Ridgeway & Mozer 2018, section 3.
    """
    checked, values = check("modularity", codes, factors)
    if values.shape[1] < 2:
        raise ValueError(
            "modularity: factors has one column, expected at least 2; one factor can't be told from another"
        )
    squares = np.square(_information(discretize(checked, bins), values))
    largest = squares.max(axis=1)
    others = squares.sum(axis=1) - largest
    scale = largest * (values.shape[1] - 1)
    per_latent = np.where(largest > 0, 1.0 - np.divide(others, scale, out=np.ones_like(scale), where=scale > 0), 0.0)
    return Modularity(float(per_latent.mean()), per_latent)


def _information(binned: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return [d, f] nats of integers [n, d] and [n, f], both numbered from 0."""
    information = np.zeros((binned.shape[1], values.shape[1]))
    for latent, code in enumerate(binned.T):
        for factor, value in enumerate(values.T):
            width = value.max() + 1
            joint = np.bincount(code * width + value, minlength=(code.max() + 1) * width).reshape(-1, width) / len(code)
            product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
            filled = joint > 0
            information[latent, factor] = np.sum(joint[filled] * np.log(joint[filled] / product[filled]))
    return np.maximum(information, 0.0)  # rounding
