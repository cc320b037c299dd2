"""Codes in the plane, to look at."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Embedding(NamedTuple):
    """``points`` [n, 2], and ``described``, how they were made, in words."""

    points: np.ndarray
    described: str


def embed(codes: ArrayLike, method: Literal["pca", "tsne"] = "pca", *, seed: int = 0) -> Embedding:
    """Map codes to the plane by scikit-learn: principal components, or t-SNE at perplexity 30 from these.

    Args:
      codes: [n, d], n > 2.
      method: "pca" or "tsne".
      seed: of t-SNE.
    Raises: ValueError unless codes are finite [n, d], n > 2; for another method.
    Example:
      >>> embed([[0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 5.0, 0.0]]).described
      'first two principal components, 100.0% of the variance'

    References: van der Maaten & Hinton 2008 (t-SNE).
    """
    values = np.asarray(codes, np.float64)
    if values.ndim != 2 or len(values) < 3 or not np.isfinite(values).all():
        raise ValueError(f"embed: codes has shape {values.shape}, expected finite [n, d] with n > 2")
    if method == "pca":
        from sklearn.decomposition import PCA

        fitted = PCA(min(2, values.shape[1]), svd_solver="full").fit(values)
        points = fitted.transform(values)
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
        return Embedding(
            points, f"first two principal components, {fitted.explained_variance_ratio_.sum():.1%} of the variance"
        )
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(values) - 1) / 3)
        points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(values)
        return Embedding(np.asarray(points, np.float64), f"t-SNE, perplexity {perplexity:g}")
    raise ValueError(f"embed: method={method!r}, expected 'pca' or 'tsne'")
