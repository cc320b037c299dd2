"""Other divergences in closed form: Jeffreys, Rényi, chi-square."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions import (
    Bernoulli,
    Categorical,
    DiscretizedLogistic,
    Distribution,
    LevelCategorical,
    LowRankNormal,
    MultivariateNormal,
    Normal,
)
from vaex.divergences.discrete import Enumerable, log_probabilities
from vaex.divergences.gaussian import Gaussian, columns, half_log_det, whiten
from vaex.divergences.registry import check_shapes, kl
from vaex.ops.arrays import lift, sum_trailing
from vaex.ops.log_sum_exp import log_sum_exp
from vaex.ops.scalars import softplus


def jeffreys(q: Distribution, p: Distribution) -> jax.Array:
    r"""Symmetric divergence :math:`\mathrm{KL}(q\|p) + \mathrm{KL}(p\|q)` in closed form, in nats (not halved).

    Args:
      q: a distribution.
      p: another, for which ``kl`` knows both directions.
    Returns: one value per batch element.
    Raises: TypeError if a closed form is missing; ``monte_carlo_jeffreys`` estimates it. ValueError if the shapes differ.
    Example:
      >>> jeffreys(Normal(jnp.ones(2), 1.0), Normal(jnp.zeros(2), 1.0))
      Array(2., dtype=float32)

    References: Jeffreys 1946, eq. 1.
    """
    return kl(q, p) + kl(p, q)


def renyi(q: Distribution, p: Distribution, alpha: float) -> jax.Array:
    r"""Rényi divergence :math:`D_\alpha(q\|p) = \frac1{\alpha-1}\log\int q^\alpha p^{1-\alpha}` in closed form, in nats.

    Infinite where the integral diverges (alpha > 1 and q too wide). Tends to KL(q || p) as alpha tends to 1.

    Args:
      q: Normal, MultivariateNormal, LowRankNormal, Bernoulli, Categorical, LevelCategorical or DiscretizedLogistic.
      p: the same kind: Gaussian, or over the same values.
      alpha: order, positive and not 1.
    Returns: one value per batch element.
    Raises: TypeError if no closed form is known; ``monte_carlo_renyi`` estimates it. ValueError if the shapes differ or
      alpha is out of range.
    Example:
      >>> renyi(Normal(jnp.ones(2), 1.0), Normal(jnp.zeros(2), 1.0), 0.5)
      Array(0.5, dtype=float32)

    References: van Erven & Harremoës 2014, eqs. 2 and 10; Li & Turner 2016, appendix A.
    """
    check_alpha("renyi", alpha)
    return _log_integral(q, p, alpha) / (alpha - 1.0)


def chi_square(q: Distribution, p: Distribution) -> jax.Array:
    r"""Pearson's chi-square divergence :math:`\int q^2/p - 1` in closed form.

    It is exp(D_2) - 1 with D_2 the Rényi divergence of order 2, and infinite where that is. In high dimensions it
    overflows long before its logarithm does: compare ``renyi(q, p, 2.0)`` instead.

    Args:
      q: as for ``renyi``.
      p: as for ``renyi``.
    Returns: one value per batch element; a ratio, not nats.
    Raises: TypeError if no closed form is known; ``monte_carlo_chi_square`` estimates it. ValueError if the shapes differ.
    Example:
      >>> print(f"{chi_square(Normal(jnp.ones(1), 1.0), Normal(jnp.zeros(1), 1.0)):.4f}")  # e - 1
      1.7183

    References: Dieng et al. 2017, section 2 (CUBO).
    """
    return jnp.expm1(_log_integral(q, p, 2.0))


def check_alpha(name: str, alpha: float) -> None:
    """Raise ValueError if a concrete order is not positive or is 1."""
    if isinstance(alpha, int | float) and (alpha <= 0 or alpha == 1):
        raise ValueError(f"{name}: alpha is {alpha}, expected a positive number other than 1; the limit at 1 is the KL")


def _log_integral(q: Distribution, p: Distribution, alpha: float) -> jax.Array:
    """Logarithm of the integral of q^alpha p^(1 - alpha)."""
    names = f"{type(q).__name__} || {type(p).__name__}"
    for kinds, rule in _RULES:
        if isinstance(q, kinds) and isinstance(p, kinds):
            check_shapes("renyi", names, q, p)
            return rule(q, p, alpha)
    raise TypeError(
        f"renyi: no closed form for {names} is known; use monte_carlo_renyi(key, q, p, num_samples, alpha) or "
        "monte_carlo_chi_square(key, q, p, num_samples)"
    )


def _normal(q: Normal, p: Normal, alpha: float) -> jax.Array:
    q_mean, q_log_scale, p_mean, p_log_scale = lift(q.mean, q.log_scale, p.mean, p.log_scale)
    ratio = q_log_scale - p_log_scale
    mixed = alpha + (1.0 - alpha) * jnp.exp(2.0 * ratio)  # of the variances, in units of p's
    finite = mixed > 0
    safe = jnp.where(finite, mixed, 1.0)
    shift = jnp.square((q_mean - p_mean) * jnp.exp(-p_log_scale)) / safe
    terms = 0.5 * alpha * (alpha - 1.0) * shift - 0.5 * jnp.log(safe) + (1.0 - alpha) * ratio
    return sum_trailing(jnp.where(finite, terms, jnp.inf), q.event_ndims)


def _gaussian(q: Gaussian, p: Gaussian, alpha: float) -> jax.Array:
    q_mean, p_mean, spread = lift(q.mean, p.mean, columns(q))
    white = jnp.moveaxis(whiten(p, jnp.moveaxis(spread, -1, 0)), 0, -1)
    mixed = (1.0 - alpha) * jnp.matmul(white, white.mT, precision=jax.lax.Precision.HIGHEST)
    identity = jnp.eye(white.shape[-2], dtype=white.dtype)
    mixed = mixed + alpha * identity
    finite = jnp.linalg.eigvalsh(jax.lax.stop_gradient(mixed))[..., 0] > 0
    factor = jnp.linalg.cholesky(jnp.where(finite[..., None, None], mixed, identity))
    shift = whiten(
        MultivariateNormal(jnp.zeros(white.shape[-2:-1], white.dtype), scale_tril=factor), whiten(p, q_mean - p_mean)
    )
    log_det = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    total = 0.5 * alpha * (alpha - 1.0) * jnp.sum(jnp.square(shift), axis=-1) - log_det
    total = total + (1.0 - alpha) * (half_log_det(q) - half_log_det(p))
    return jnp.where(finite, total, jnp.inf)


def _bernoulli(q: Bernoulli, p: Bernoulli, alpha: float) -> jax.Array:
    a, b = lift(q.logits, p.logits)
    log_one = -alpha * softplus(-a) - (1.0 - alpha) * softplus(-b)
    log_zero = -alpha * softplus(a) - (1.0 - alpha) * softplus(b)
    return sum_trailing(jnp.logaddexp(log_one, log_zero), q.event_ndims)


def _enumerated(q: Enumerable, p: Enumerable, alpha: float) -> jax.Array:
    log_q, log_p = log_probabilities("renyi", q, p)
    possible = log_q > -np.inf
    terms = alpha * log_q + (1.0 - alpha) * jnp.where(possible, log_p, 0.0)
    return sum_trailing(log_sum_exp(terms, axis=-1), q.event_ndims)


_RULES: list[tuple[tuple[type, ...], Callable[[Any, Any, float], jax.Array]]] = [
    ((Normal,), _normal),
    ((Normal, MultivariateNormal, LowRankNormal), _gaussian),
    ((Bernoulli,), _bernoulli),
    ((Categorical,), _enumerated),
    ((LevelCategorical, DiscretizedLogistic), _enumerated),
]
