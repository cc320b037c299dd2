"""Coordinate ascent on the ELBO where every factor's update is exact, and the exact evidences to compare with.

Each function takes the data as arrays and returns a record with the ELBO after every sweep. None is random; all work under ``jit``
and ``vmap``.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jax.typing import ArrayLike

from vaex.distributions.gaussian import LOG_2PI
from vaex.errors import UserError
from vaex.ops.arrays import lift


class NormalGamma(NamedTuple):
    """Conjugate prior of a Gaussian: precision ~ Gamma(shape, rate), mean ~ N(loc, 1 / (strength precision))."""

    loc: ArrayLike = 0.0
    strength: ArrayLike = 1.0
    shape: ArrayLike = 1.0
    rate: ArrayLike = 1.0


class GaussianFit(NamedTuple):
    """Result of ``fit_gaussian``: q(mean) = N(``loc``, 1 / ``precision``), q(precision) = Gamma(``shape``, ``rate``).

    ``elbo`` [steps] after each sweep, and the exact ``log_evidence``; nats.
    """

    loc: jax.Array
    precision: jax.Array
    shape: jax.Array
    rate: jax.Array
    elbo: jax.Array
    log_evidence: jax.Array


def fit_gaussian(x: jax.Array, *, prior: NormalGamma | None = None, steps: int = 20) -> GaussianFit:
    """Mean and precision of a Gaussian, taken as independent.

    Args:
      x: observations [n].
      prior: of mean and precision; ``NormalGamma()`` by default.
      steps: sweeps over both factors.
    Returns: the fit. The gap between ELBO and evidence is what independence costs.
    Raises: UserError if x is no vector or steps is below 1.
    Example:
      >>> fit = fit_gaussian(jnp.array([1.0, 2.0, 4.0]))
      >>> print(f"{fit.loc:.2f}", bool(fit.elbo[-1] < fit.log_evidence))
      1.75 True

    References: Bishop 2006, section 10.1.3; exact evidence: Murphy 2007, eq. 95.
    """
    (x,) = lift(x)
    _check_steps("fit_gaussian", steps)
    if x.ndim != 1:
        raise UserError(f"fit_gaussian: x has shape {x.shape}, expected [n]; vmap over the columns")
    given = NormalGamma() if prior is None else prior
    loc0, strength0, shape0, rate0 = (jnp.asarray(value, x.dtype) for value in given)
    count, strength = x.shape[0], strength0 + x.shape[0]
    loc = (strength0 * loc0 + jnp.sum(x)) / strength
    residual = jnp.sum(jnp.square(x - loc)) + strength0 * jnp.square(loc - loc0)
    shape = shape0 + 0.5 * (count + 1)

    def sweep(rate: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        precision = strength * shape / rate
        rate = rate0 + 0.5 * (residual + strength / precision)
        mean, mean_log = shape / rate, digamma(shape) - jnp.log(rate)
        spread = residual + strength / precision  # E[sum (x - mean)^2 + strength0 (mean - loc0)^2]
        joint = 0.5 * (count + 1) * (mean_log - LOG_2PI) + 0.5 * jnp.log(strength0) - 0.5 * mean * spread
        entropy = 0.5 * (1.0 + LOG_2PI - jnp.log(precision))
        return rate, (precision, joint + entropy - _gamma_kl(shape, rate, shape0, rate0))

    first = jnp.asarray(rate0 + 0.5 * residual, x.dtype)
    rate, (precision, elbo) = jax.lax.scan(sweep, first, None, length=steps)
    exact_shape, exact_rate = shape0 + 0.5 * count, rate0 + 0.5 * residual
    evidence = (
        gammaln(exact_shape)
        - gammaln(shape0)
        + shape0 * jnp.log(rate0)
        - exact_shape * jnp.log(exact_rate)
        + 0.5 * (jnp.log(strength0) - jnp.log(strength) - count * LOG_2PI)
    )
    return GaussianFit(loc, precision[-1], shape, rate, elbo, evidence)


class LinearPosterior(NamedTuple):
    """Exact posterior of ``linear_posterior``: weights ~ N(``loc`` [d], ``covariance`` [d, d]); ``log_evidence``, nats."""

    loc: jax.Array
    covariance: jax.Array
    log_evidence: jax.Array


def linear_posterior(
    features: jax.Array, targets: jax.Array, *, weight_precision: ArrayLike, noise_precision: ArrayLike
) -> LinearPosterior:
    """Weights of a linear regression with known precisions: exact.

    Args:
      features: [n, d].
      targets: [n].
      weight_precision: of the prior N(0, 1 / weight_precision), one or [d].
      noise_precision: of the targets.
    Returns: the posterior and the log evidence.
    Raises: UserError if the shapes disagree.
    References: Bishop 2006, eqs. 3.53, 3.54 and 3.86.
    """
    features, targets = _regression("linear_posterior", features, targets)
    count, size = features.shape
    weight = jnp.broadcast_to(jnp.asarray(weight_precision, features.dtype), (size,))
    noise = jnp.asarray(noise_precision, features.dtype)
    root = jnp.linalg.cholesky(jnp.diag(weight) + noise * features.T @ features)
    loc = jax.scipy.linalg.cho_solve((root, True), noise * features.T @ targets)
    misfit = noise * jnp.sum(jnp.square(targets - features @ loc)) + jnp.sum(weight * jnp.square(loc))
    log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(root)))
    evidence = 0.5 * (jnp.sum(jnp.log(weight)) - log_det + count * (jnp.log(noise) - LOG_2PI) - misfit)
    return LinearPosterior(loc, jax.scipy.linalg.cho_solve((root, True), jnp.eye(size, dtype=root.dtype)), evidence)


class LinearFit(NamedTuple):
    """Result of ``fit_linear``; ``elbo`` [steps] after each sweep, nats.

    q(weights | noise precision t) = N(``loc`` [d], ``covariance`` [d, d] / t), q(t) = Gamma(``noise_shape``, ``noise_rate``),
    q(weight precision) = Gamma(``weight_shape``, ``weight_rate``).
    """

    loc: jax.Array
    covariance: jax.Array
    noise_shape: jax.Array
    noise_rate: jax.Array
    weight_shape: jax.Array
    weight_rate: jax.Array
    elbo: jax.Array


def fit_linear(
    features: jax.Array,
    targets: jax.Array,
    *,
    noise_prior: tuple[ArrayLike, ArrayLike] = (1e-2, 1e-4),
    weight_prior: tuple[ArrayLike, ArrayLike] = (1e-2, 1e-4),
    steps: int = 50,
) -> LinearFit:
    r"""Linear regression whose precisions of noise t and of weights a are unknown: q(weights, t) q(a).

    Weights ~ N(0, 1 / (t a)), t and a Gamma: given a, everything is exact.

    Args:
      features: [n, d].
      targets: [n].
      noise_prior: shape and rate of the Gamma prior of t.
      weight_prior: of a.
      steps: sweeps over both factors.
    Returns: the fit.
    Raises: UserError if the shapes disagree or steps is below 1.
    References: Drugowitsch 2013, section 2.2.
    """
    features, targets = _regression("fit_linear", features, targets)
    _check_steps("fit_linear", steps)
    count, size = features.shape
    (shape0, rate0), (a0, b0) = (tuple(jnp.asarray(v, features.dtype) for v in p) for p in (noise_prior, weight_prior))
    gram, moment = features.T @ features, features.T @ targets
    shape, a = shape0 + 0.5 * count, a0 + 0.5 * size

    def sweep(fit: LinearFit, _: None) -> tuple[LinearFit, jax.Array]:
        expected = a / fit.weight_rate
        root = jnp.linalg.cholesky(gram + expected * jnp.eye(size, dtype=gram.dtype))
        covariance = jax.scipy.linalg.cho_solve((root, True), jnp.eye(size, dtype=gram.dtype))
        loc = jax.scipy.linalg.cho_solve((root, True), moment)
        residual, norm = jnp.sum(jnp.square(targets - features @ loc)), jnp.sum(jnp.square(loc))
        rate = rate0 + 0.5 * (residual + expected * norm)
        noise, noise_log = shape / rate, digamma(shape) - jnp.log(rate)
        size_of_weights = noise * norm + jnp.trace(covariance)
        b = b0 + 0.5 * size_of_weights
        likelihood = 0.5 * count * (noise_log - LOG_2PI) - 0.5 * (noise * residual + jnp.sum(covariance * gram))
        prior = 0.5 * size * (digamma(a) - jnp.log(b)) - 0.5 * a / b * size_of_weights
        entropy = 0.5 * size - jnp.sum(
            jnp.log(jnp.diagonal(root))
        )  # what prior and entropy share of t and 2 pi cancels
        elbo = likelihood + prior + entropy - _gamma_kl(shape, rate, shape0, rate0) - _gamma_kl(a, b, a0, b0)
        return fit._replace(loc=loc, covariance=covariance, noise_rate=rate, weight_rate=b), elbo

    zero = jnp.zeros((), gram.dtype)
    first = LinearFit(jnp.zeros_like(moment), jnp.zeros_like(gram), shape, rate0, a, b0 * a / a0, zero)
    fit, elbo = jax.lax.scan(sweep, first, None, length=steps)
    return fit._replace(elbo=elbo)


def _gamma_kl(shape: jax.Array, rate: jax.Array, shape0: jax.Array, rate0: jax.Array) -> jax.Array:
    """KL of Gamma(shape, rate) from Gamma(shape0, rate0)."""
    return (
        (shape - shape0) * digamma(shape)
        - gammaln(shape)
        + gammaln(shape0)
        + shape0 * (jnp.log(rate) - jnp.log(rate0))
        + shape * (rate0 / rate - 1.0)
    )


def _regression(name: str, features: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    features, targets = lift(features, targets)
    if features.ndim != 2 or targets.shape != features.shape[:1]:
        raise UserError(
            f"{name}: features have shape {features.shape}, targets {targets.shape}; expected [n, d] and [n]"
        )
    return features, targets


def _check_steps(name: str, steps: int) -> None:
    if steps < 1:
        raise UserError(f"{name}: steps is {steps}; expected at least 1")
