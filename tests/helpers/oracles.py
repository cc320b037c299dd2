"""Models of which everything is known exactly, for the tests of bounds and estimators."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from vaex.distributions import MultivariateNormal, Normal


class LinearGaussian:
    """Probabilistic PCA: z ~ N(0, I), x | z ~ N(W z + m, s^2 I). Log-likelihood, posterior, elbo and gradients in closed form."""

    def __init__(self, latents: int, pixels: int, seed: int, noise: float = 0.6) -> None:
        generator = np.random.default_rng(seed)
        self.latents, self.noise = latents, noise
        self.weights, self.offset = generator.normal(size=(pixels, latents)), generator.normal(size=pixels)
        x = self.weights @ generator.normal(size=latents) + self.offset + noise * generator.normal(size=pixels)
        self.x = jnp.asarray(x)
        precision = np.eye(latents) + self.weights.T @ self.weights / noise**2
        self.covariance = np.linalg.inv(precision)
        self.centre = self.covariance @ self.weights.T @ (x - self.offset) / noise**2

    @property
    def prior(self) -> Normal:
        return Normal(jnp.zeros(self.latents), 1.0)

    def likelihood(self, z: jax.Array) -> Normal:
        mean = z @ jnp.asarray(self.weights.T, z.dtype) + jnp.asarray(self.offset, z.dtype)
        return Normal(mean, log_scale=jnp.full(mean.shape, np.log(self.noise), z.dtype))

    def posterior_mean(self, x: jax.Array) -> np.ndarray:
        return self.centre

    def posterior(self) -> MultivariateNormal:
        return MultivariateNormal(jnp.asarray(self.centre), scale_tril=jnp.asarray(np.linalg.cholesky(self.covariance)))

    def sample_posterior(self, generator: np.random.Generator, n: int) -> np.ndarray:
        return generator.multivariate_normal(self.centre, self.covariance, size=n).astype(np.float32)

    def log_likelihood(self) -> float:
        covariance = self.weights @ self.weights.T + self.noise**2 * np.eye(len(self.offset))
        return float(stats.multivariate_normal(self.offset, covariance).logpdf(np.asarray(self.x, np.float64)))

    def kl_to_posterior(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        """KL(q || posterior)."""
        return _gaussian_kl(mean, covariance, self.centre, self.covariance)

    def kl_from_posterior(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        """KL(posterior || q)."""
        return _gaussian_kl(self.centre, self.covariance, mean, covariance)

    def chi_square_moment(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        """E_q[(posterior / q)^2], the integral of posterior^2 / q."""
        precision = 2 * np.linalg.inv(self.covariance) - np.linalg.inv(covariance)
        assert np.all(np.linalg.eigvalsh(precision) > 0), "the moment is infinite"
        shift = 2 * np.linalg.solve(self.covariance, self.centre) - np.linalg.solve(covariance, mean)
        exponent = shift @ np.linalg.solve(precision, shift) / 2
        exponent -= self.centre @ np.linalg.solve(self.covariance, self.centre)
        exponent += mean @ np.linalg.solve(covariance, mean) / 2
        log_det = -0.5 * np.linalg.slogdet(precision)[1] - np.linalg.slogdet(self.covariance)[1]
        return float(np.exp(exponent + log_det + 0.5 * np.linalg.slogdet(covariance)[1]))

    def elbo_gradient(self, mean: np.ndarray, log_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the elbo of N(mean, diag exp(2 log_scale)) in (mean, log_scale): minus the gradient of KL(q || posterior)."""
        precision = np.linalg.inv(self.covariance)
        return -precision @ (mean - self.centre), 1.0 - np.diag(precision) * np.exp(2 * log_scale)


def _gaussian_kl(mean: np.ndarray, covariance: np.ndarray, other: np.ndarray, wider: np.ndarray) -> float:
    shift = np.asarray(other) - np.asarray(mean)
    trace = np.trace(np.linalg.solve(wider, covariance))
    logs = np.linalg.slogdet(wider)[1] - np.linalg.slogdet(covariance)[1]
    return float(0.5 * (trace + shift @ np.linalg.solve(wider, shift) - len(shift) + logs))


def probabilistic_pca(x: np.ndarray, latents: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The maximum of the likelihood of N(m, W W^T + v I) for x [n, values]: W [values, latents], m, v.

    References: Tipping & Bishop 1999, eqs. 7 and 8.
    """
    mean = x.mean(axis=0)
    values, axes = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))  # ascending
    variance = float(values[:-latents].mean())
    return axes[:, -latents:] * np.sqrt(values[-latents:] - variance), mean, variance
