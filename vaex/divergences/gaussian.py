"""Closed-form Kullback-Leibler divergences of Gaussians and Laplace distributions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions import ContinuousBernoulli, Laplace, LowRankNormal, MultivariateNormal, Normal
from vaex.distributions.gaussian import LOG_2PI
from vaex.divergences.registry import register_kl
from vaex.ops.arrays import broadcastable, lift, sum_trailing

Gaussian = Normal | MultivariateNormal | LowRankNormal
_HALF_LOG_2PI_E = 0.5 * (LOG_2PI + 1.0)


def gaussian_kl(
    mean: jax.Array,
    log_scale: jax.Array,
    other_mean: jax.Array | None = None,
    other_log_scale: jax.Array | None = None,
) -> jax.Array:
    r"""KL from one diagonal Gaussian to another, the standard normal by default, in nats, summed over the last axis.

    :math:`\tfrac12\sum_j \mu_j^2 + e^{2s_j} - 1 - 2s_j` for the standard normal, with s the log standard deviation.

    Args:
      mean: [..., d].
      log_scale: [..., d] or a scalar; the log of the standard deviation, not of the variance.
      other_mean: [..., d] or a scalar, of the second Gaussian; with it comes ``other_log_scale``.
      other_log_scale: [..., d] or a scalar.
    Returns: [...], float32 or wider, one value per example, not averaged.
    Raises: ValueError if the shapes disagree or only one of the last two arguments is given.
    Example:
      >>> gaussian_kl(jnp.ones((3, 2)), jnp.zeros((3, 2)))
      Array([1., 1., 1.], dtype=float32)

    References: Kingma & Welling 2014, appendix B.
    """
    if (other_mean is None) != (other_log_scale is None):
        missing = "other_mean" if other_mean is None else "other_log_scale"
        raise ValueError(f"gaussian_kl: {missing} is missing, expected both or neither; give {missing} too")
    named = {"mean": mean, "log_scale": log_scale, "other_mean": other_mean, "other_log_scale": other_log_scale}
    shapes = {name: np.shape(x) for name, x in named.items() if x is not None}
    d = shapes["mean"][-1:]
    if not d or any(s and s[-1:] != d for s in shapes.values()) or not broadcastable(*shapes.values()):
        got = ", ".join(f"{name} {s}" for name, s in shapes.items())
        raise ValueError(f"gaussian_kl: got shapes {got}, expected [..., d] with one d; keep the latent axis last")
    if other_mean is None or other_log_scale is None:
        other_mean = other_log_scale = jnp.zeros(d, jnp.result_type(mean))
    elif np.ndim(other_mean) == 0:
        other_mean = jnp.broadcast_to(other_mean, d)
    return _normal_kl(Normal(mean, log_scale=log_scale), Normal(other_mean, log_scale=other_log_scale))


@register_kl(Normal, Normal)
def _normal_kl(q: Normal, p: Normal) -> jax.Array:
    q_mean, q_log_scale, p_mean, p_log_scale = lift(q.mean, q.log_scale, p.mean, p.log_scale)
    ratio = q_log_scale - p_log_scale
    shift = (q_mean - p_mean) * jnp.exp(-p_log_scale)
    return sum_trailing(0.5 * (jnp.square(shift) + jnp.expm1(2.0 * ratio)) - ratio, q.event_ndims)


def columns(d: Gaussian | Laplace | ContinuousBernoulli) -> jax.Array:
    """Return A [..., d, m] with A A' the covariance."""
    if isinstance(d, MultivariateNormal | LowRankNormal):
        return d._columns()
    (variance,) = lift(d.variance)
    return jnp.sqrt(variance)[..., None] * jnp.eye(variance.shape[-1], dtype=variance.dtype)


def whiten(d: Gaussian, x: jax.Array) -> jax.Array:
    """Return W x with W' W the precision."""
    return x * jnp.exp(-lift(d.log_scale)[0]) if isinstance(d, Normal) else d._whiten(x)


def half_log_det(d: Gaussian) -> jax.Array:
    """Half the log-determinant of the covariance."""
    return jnp.sum(lift(d.log_scale)[0], axis=-1) if isinstance(d, Normal) else d._half_log_det()


def _cross_term(q: Gaussian | Laplace | ContinuousBernoulli, p: Gaussian) -> jax.Array:
    """E_q |W_p (x - mean_p)|^2 / 2: the trace term is |W_p A_q|^2 whatever the kind of covariance."""
    spread, mean, p_mean = lift(columns(q), q.mean, p.mean)
    trace = jnp.sum(jnp.square(whiten(p, jnp.moveaxis(spread, -1, 0))), axis=(0, -1))
    return 0.5 * (trace + jnp.sum(jnp.square(whiten(p, mean - p_mean)), axis=-1))


def _gaussian_kl(q: Gaussian, p: Gaussian) -> jax.Array:
    return _cross_term(q, p) - 0.5 * q.event_shape[0] + half_log_det(p) - half_log_det(q)


def _to_gaussian_kl(q: Laplace | ContinuousBernoulli, p: Gaussian) -> jax.Array:
    """KL from the first two moments of q and its entropy."""
    return _cross_term(q, p) + half_log_det(p) + 0.5 * q.event_shape[0] * LOG_2PI - q.entropy()


for _p in (Normal, MultivariateNormal, LowRankNormal):
    for _q in (Normal, MultivariateNormal, LowRankNormal):
        if (_q, _p) != (Normal, Normal):
            register_kl(_q, _p)(_gaussian_kl)
    if _p is not Normal:
        register_kl(Laplace, _p)(_to_gaussian_kl)
        register_kl(ContinuousBernoulli, _p)(_to_gaussian_kl)


@register_kl(ContinuousBernoulli, Normal)
def _continuous_bernoulli_normal_kl(q: ContinuousBernoulli, p: Normal) -> jax.Array:
    mean, variance, p_mean, p_log_scale = lift(q.mean, q.variance, p.mean, p.log_scale)
    square = (variance + jnp.square(mean - p_mean)) * jnp.exp(-2.0 * p_log_scale)
    return sum_trailing(0.5 * (square + LOG_2PI) + p_log_scale, q.event_ndims) - q.entropy()


@register_kl(Laplace, Normal)
def _laplace_normal_kl(q: Laplace, p: Normal) -> jax.Array:
    q_mean, q_log_scale, p_mean, p_log_scale = lift(q.mean, q.log_scale, p.mean, p.log_scale)
    ratio = q_log_scale - p_log_scale
    shift = (q_mean - p_mean) * jnp.exp(-p_log_scale)
    square = jnp.exp(2.0 * ratio) + 0.5 * jnp.square(shift)
    return sum_trailing(square - ratio + (0.5 * LOG_2PI - 1.0 - math.log(2.0)), q.event_ndims)


@register_kl(Laplace, Laplace)
def _laplace_kl(q: Laplace, p: Laplace) -> jax.Array:
    q_mean, q_log_scale, p_mean, p_log_scale = lift(q.mean, q.log_scale, p.mean, p.log_scale)
    distance, ratio = jnp.abs(q_mean - p_mean), q_log_scale - p_log_scale
    spread = jnp.exp(ratio - distance * jnp.exp(-q_log_scale))
    return sum_trailing(distance * jnp.exp(-p_log_scale) + spread - ratio - 1.0, q.event_ndims)


@register_kl(Normal, Laplace)
def _normal_laplace_kl(q: Normal, p: Laplace) -> jax.Array:
    (log_scale,) = lift(q.log_scale)
    cross = _gaussian_to_laplace(q.mean, log_scale, p)
    return sum_trailing(cross - log_scale - _HALF_LOG_2PI_E, q.event_ndims)


def _correlated_laplace_kl(q: MultivariateNormal | LowRankNormal, p: Laplace) -> jax.Array:
    """KL whose cross term needs only the marginals of q."""
    (variance,) = lift(q.variance)
    return sum_trailing(_gaussian_to_laplace(q.mean, 0.5 * jnp.log(variance), p), 1) - q.entropy()


for _q in (MultivariateNormal, LowRankNormal):
    register_kl(_q, Laplace)(_correlated_laplace_kl)


def _gaussian_to_laplace(mean: jax.Array, log_scale: jax.Array, p: Laplace) -> jax.Array:
    """Return -E log p under Gaussian marginals, elementwise; E|x - m| is the mean of a folded normal."""
    mean, log_scale, p_mean, p_log_scale = lift(mean, log_scale, p.mean, p.log_scale)
    scaled = (mean - p_mean) * jnp.exp(-log_scale)
    peak = math.sqrt(2.0 / math.pi) * jnp.exp(-0.5 * jnp.square(scaled))
    folded = peak + scaled * jax.lax.erf(scaled / math.sqrt(2.0))
    return folded * jnp.exp(log_scale - p_log_scale) + p_log_scale + math.log(2.0)
