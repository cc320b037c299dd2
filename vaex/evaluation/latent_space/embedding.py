"""Codes in the plane, to look at."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from vaex.errors import MissingPackageError

Method = Literal["pca", "tsne", "umap"]


class Embedding(NamedTuple):
    """``points`` [n, 2], and ``described``, how they were made, in words."""

    points: np.ndarray
    described: str


def embed(codes: ArrayLike, method: Method = "pca", *, seed: int = 0) -> Embedding:
    """Map codes to the plane: principal components, t-SNE at perplexity 30 from these, or UMAP at 15 neighbours.

    Args:
      codes: [n, d], n > 2.
      method: "pca", "tsne" (both by scikit-learn) or "umap" (by umap-learn, extra ``umap``).
      seed: of t-SNE and UMAP.
    Raises: ValueError unless codes are finite [n, d], n > 2; for another method. MissingPackageError without umap-learn.
    Example:
      >>> embed([[0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 5.0, 0.0]]).described
      'first two principal components, 100.0% of the variance'

    References: van der Maaten & Hinton 2008 (t-SNE); McInnes, Healy & Melville 2018 (UMAP).
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
    if method == "umap":
        if importlib.util.find_spec("umap") is None:
            raise MissingPackageError(
                'embed: umap needs umap-learn, not installed here; run: pip install "vaex-jax[umap]"'
            )
        umap: Any = importlib.import_module("umap")
        neighbours = min(15, len(values) - 1)
        fitted = umap.UMAP(n_components=2, n_neighbors=neighbours, random_state=seed, n_jobs=1)
        return Embedding(np.asarray(fitted.fit_transform(values), np.float64), f"UMAP, {neighbours} neighbours")
    raise ValueError(f"embed: method={method!r}, expected one of {', '.join(get_args(Method))}")
