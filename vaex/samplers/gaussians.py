"""Mixtures of Gaussians with full covariances, and single Gaussians as mixtures of one component."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from vaex.distributions import Mixture, MultivariateNormal

ITERATIONS = 200  # of expectation maximisation, at most; scikit-learn warns where they do not suffice
LEAST_VARIANCE = 1e-6  # of a Gaussian, relative to the mean variance of the codes


def fit_mixture(codes: np.ndarray, components: int, seed: int) -> dict[str, np.ndarray]:
    """Return "logits" [k], "means" [k, d] and "scale_trils" [k, d, d], float32, of a mixture fitted to codes [n, d].

    The codes are divided by their standard deviation for the fit, so that the least variance of a component, 1e-6, is relative.
    """
    from sklearn.mixture import GaussianMixture

    unit = float(np.std(codes, dtype=np.float64)) or 1.0
    # k-means++ alone: the sums of scikit-learn's k-means depend on which thread is first
    fitted = GaussianMixture(components, init_params="k-means++", max_iter=ITERATIONS, random_state=seed)
    fitted.fit(np.asarray(codes, np.float64) / unit)
    weights, means, covariances = map(np.asarray, (fitted.weights_, fitted.means_, fitted.covariances_))
    arrays = {
        "logits": np.log(np.maximum(weights, 1e-30)),
        "means": unit * means,
        "scale_trils": unit * np.linalg.cholesky(covariances),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def fit_gaussian(codes: np.ndarray, *, diagonal: bool) -> dict[str, np.ndarray]:
    """Return arrays as ``fit_mixture`` does, of the Gaussian with the codes' moments; covariances divided by n."""
    values = np.asarray(codes, np.float64)
    covariance = np.atleast_2d(np.cov(values, rowvar=False, ddof=0))
    least = LEAST_VARIANCE * float(np.mean(np.diag(covariance))) or LEAST_VARIANCE
    covariance = np.diag(np.diag(covariance)) if diagonal else covariance
    scale_tril = np.linalg.cholesky(covariance + least * np.eye(len(covariance)))
    arrays = {"logits": np.zeros(1), "means": values.mean(axis=0)[None], "scale_trils": scale_tril[None]}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def draw_mixture(arrays: Mapping[str, np.ndarray], key: jax.Array, n: int) -> jax.Array:
    """Draw codes [n, d] from the mixture of these arrays."""
    components = MultivariateNormal(arrays["means"], scale_tril=arrays["scale_trils"])  # pyright: ignore[reportArgumentType]: NumPy's arrays will do
    return Mixture(jax.numpy.asarray(arrays["logits"]), components).sample(key, (n,))
