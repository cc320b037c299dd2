"""Logistic regression with a Gaussian posterior by closed-form updates, from quadratic bounds of the logistic likelihood."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.errors import UserError
from vaex.ops.arrays import lift
from vaex.ops.log_sum_exp import log_sum_exp

Bound = Literal["jaakkola_jordan", "bohning"]


def jaakkola_jordan(logits: jax.Array, xi: jax.Array) -> jax.Array:
    r"""Lower bound of log sigmoid(logits), quadratic in the logits, equal where logits = xi or -xi.

    :math:`\log\sigma(\xi) + (a - \xi) / 2 - \lambda(\xi)(a^2 - \xi^2)`, :math:`\lambda(\xi) = \tanh(\xi/2) / (4\xi)`.

    Args:
      logits: a, any shape.
      xi: where the bound is tight, of the same shape or one that broadcasts.
    Returns: the bound, nats.
    Example:
      >>> bool(jaakkola_jordan(jnp.array(2.0), jnp.array(1.0)) < jax.nn.log_sigmoid(2.0))
      True

    References: Jaakkola & Jordan 2000, section 3; Bishop 2006, section 10.6.1.
    """
    logits, xi = lift(logits, xi)
    return jax.nn.log_sigmoid(xi) + 0.5 * (logits - xi) - _curvature(xi) * (jnp.square(logits) - jnp.square(xi))


def bohning(logits: jax.Array, center: jax.Array) -> jax.Array:
    r"""Upper bound of log-sum-exp over the last axis, quadratic in the logits, equal where logits = center.

    The Hessian of log-sum-exp is at most :math:`A = \frac12 (I - 11^\top / c)` of c classes.

    Args:
      logits: [..., c].
      center: where the bound is tight, [..., c] or a shape that broadcasts.
    Returns: [...], nats.
    Example:
      >>> logits = jnp.array([2.0, 0.0, -1.0])
      >>> bool(bohning(logits, jnp.zeros(3)) > log_sum_exp(logits))
      True

    References: Bohning 1992; Murphy 2012, section 21.8.2.
    """
    logits, center = lift(logits, center)
    step = logits - center
    linear = jnp.sum(jax.nn.softmax(center, axis=-1) * step, axis=-1)
    curved = jnp.sum(jnp.square(step), axis=-1) - jnp.square(jnp.sum(step, axis=-1)) / logits.shape[-1]
    return log_sum_exp(center, axis=-1) + linear + 0.25 * curved


class LogisticFit(NamedTuple):
    """Result of ``fit_logistic``: weights ~ N(``loc`` [d], ``covariance`` [d, d]).

    ``bound`` [steps]: lower bound of the log evidence after each sweep, nats. It is below the ELBO of the same Gaussian.
    """

    loc: jax.Array
    covariance: jax.Array
    bound: jax.Array


def fit_logistic(
    features: jax.Array,
    labels: jax.Array,
    *,
    weight_precision: ArrayLike = 1.0,
    bound: Bound = "jaakkola_jordan",
    steps: int = 50,
) -> LogisticFit:
    r"""Weights w of :math:`p(y = 1|x) = \sigma(w^\top x)` under a Gaussian prior, by closed-form updates.

    Each sweep makes the bound tight at the present posterior (:math:`\xi^2 = E[a^2]`; Bohning's :math:`\psi = E[a]`), and solves
    the Gaussian that it leaves. Bohning's curvature is constant, 1/4: its covariance needs no iteration and is the narrower.

    Args:
      features: [n, d]; a column of ones for an intercept.
      labels: [n], 0 or 1.
      weight_precision: of the prior N(0, 1 / weight_precision), one or [d].
      bound: "jaakkola_jordan" or "bohning".
      steps: sweeps; neither lowers the bound.
    Returns: the fit.
    Raises: UserError if shapes disagree, for another bound or fewer than one step.
    References: Jaakkola & Jordan 2000, section 3; Bishop 2006, section 10.6; Murphy 2012, section 21.8.2 (Bohning).
    """
    features, labels = lift(features, labels)
    count, size = features.shape if features.ndim == 2 else (0, 0)
    if features.ndim != 2 or labels.shape != (count,):
        raise UserError(
            f"fit_logistic: features have shape {features.shape}, labels {labels.shape}; expected [n, d], [n]"
        )
    if bound not in get_args(Bound) or steps < 1:
        raise UserError(
            f"fit_logistic: bound is {bound!r}, steps is {steps}; expected one of {get_args(Bound)}, and at least 1"
        )
    weight = jnp.broadcast_to(jnp.asarray(weight_precision, features.dtype), (size,))

    def quadratic(loc: jax.Array, covariance: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Slope, curvature and constant [n] of the bound as a function of the logits, tight at the posterior."""
        mean = features @ loc
        if bound == "bohning":
            share = jax.nn.sigmoid(mean)
            constant = share * mean - 0.125 * jnp.square(mean) - jax.nn.softplus(mean)
            return labels - share + 0.25 * mean, jnp.full_like(mean, 0.25), constant
        second = jnp.square(mean) + jnp.sum((features @ covariance) * features, axis=1)
        xi = jnp.sqrt(second)
        curvature = _curvature(xi)
        return labels - 0.5, 2.0 * curvature, curvature * second + 0.5 * xi - jax.nn.softplus(xi)

    def sweep(posterior: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        slope, curvature, constant = quadratic(*posterior)
        root = jnp.linalg.cholesky(jnp.diag(weight) + (features.T * curvature) @ features)
        whitened = jax.scipy.linalg.solve_triangular(root, features.T @ slope, lower=True)
        loc = jax.scipy.linalg.solve_triangular(root.T, whitened, lower=False)
        covariance = jax.scipy.linalg.cho_solve((root, True), jnp.eye(size, dtype=root.dtype))
        log_dets = 0.5 * jnp.sum(jnp.log(weight)) - jnp.sum(jnp.log(jnp.diagonal(root)))
        return (loc, covariance), log_dets + 0.5 * jnp.sum(jnp.square(whitened)) + jnp.sum(constant)

    first = (jnp.zeros(size, features.dtype), jnp.diag(1.0 / weight))
    (loc, covariance), bounds = jax.lax.scan(sweep, first, None, length=steps)
    return LogisticFit(loc, covariance, bounds)


def _curvature(xi: jax.Array) -> jax.Array:
    """tanh(xi / 2) / (4 xi), 1/8 at zero."""
    small = jnp.abs(xi) < 1e-2
    safe = jnp.where(small, 1.0, xi)
    return jnp.where(small, 0.125 - jnp.square(xi) / 96.0, jnp.tanh(0.5 * safe) / (4.0 * safe))
