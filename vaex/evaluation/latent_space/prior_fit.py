"""Aggregate posterior beside a standard normal prior, latent by latent."""

from __future__ import annotations

import statistics
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class PriorFit(NamedTuple):
    """Marginals of the aggregate posterior: ``mean`` and ``deviation`` [d], and ``distance`` [d] to the standard normal.

    ``correlation``: largest absolute correlation of two latents, 0 for a single one.
    """

    mean: np.ndarray
    deviation: np.ndarray
    distance: np.ndarray
    correlation: float


def prior_fit(draws: ArrayLike) -> PriorFit:
    """Compare draws of the aggregate posterior with a standard normal prior.

    ``distance`` is the 1-Wasserstein distance of a latent's draws to the normal's quantiles, in deviations of the prior:
    about 0.8/sqrt(n) by chance, 0.8 where the latent is a point at 0.

    Args:
      draws: [n, d], a draw from the posterior of each example.
    Raises: ValueError unless draws are finite [n, d], n >= 2.
    Example:
      >>> fit = prior_fit(np.random.default_rng(0).normal(size=(4000, 1)) * [1.0, 3.0])
      >>> print(fit.deviation.round(1), fit.distance.round(1), round(fit.correlation, 1))
      [1. 3.] [0.  1.6] 1.0
    """
    z = np.asarray(draws, np.float64)
    if z.ndim != 2 or len(z) < 2 or not np.isfinite(z).all():
        raise ValueError(f"prior_fit: draws has shape {z.shape}, expected finite [n, d] with n >= 2")
    normal = statistics.NormalDist()
    quantiles = np.array([normal.inv_cdf((i + 0.5) / len(z)) for i in range(len(z))])
    distance = np.abs(np.sort(z, axis=0) - quantiles[:, None]).mean(axis=0)
    spread = z.std(axis=0)
    standard = (z - z.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    products = np.abs(standard.T @ standard / len(z)) - np.eye(z.shape[1])
    correlation = float(np.max(np.where(np.eye(z.shape[1], dtype=bool), 0.0, products)))
    return PriorFit(z.mean(axis=0), spread, distance, correlation)
