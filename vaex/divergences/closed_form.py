"""Closed-form Kullback-Leibler divergences."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Laplace,
    LevelCategorical,
    LowRankNormal,
    MultivariateNormal,
    Normal,
)
from vaex.distributions._base import broadcastable, lift, sum_trailing
from vaex.distributions._numeric import softplus
from vaex.distributions.bernoulli import expected_log_density
from vaex.distributions.categorical import expected_log_probability
from vaex.distributions.discretized_logistic import level_log_prob
from vaex.distributions.gaussian import LOG_2PI
from vaex.divergences.registry import register_kl


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
    return _normal_kl(Normal(mean, log_scale), Normal(other_mean, other_log_scale))


def bernoulli_kl(p: jax.Array, q: jax.Array) -> jax.Array:
    r"""KL(p || q) between Bernoulli distributions given by probabilities, elementwise, in nats.

    The sparsity penalty: p the target activity, q a latent's mean activity. Both are squeezed affinely into
    [eps, 1 - eps] of their dtype, so that a dead latent (q = 0) has a finite penalty *and* a gradient that revives it.

    Args:
      p: [...] in [0, 1].
      q: [...] in [0, 1]; the shapes must broadcast.
    Returns: [...], not summed, float32 or wider.
    Raises: ValueError if the shapes don't broadcast.
    Example:
      >>> bernoulli_kl(0.05, jnp.array([0.05, 0.5]))
      Array([0.       , 0.4946...], dtype=float32)

    References: Ng 2011, "Sparse autoencoder", section 3.
    """
    if not broadcastable(np.shape(p), np.shape(q)):
        raise ValueError(
            f"bernoulli_kl: got shapes {np.shape(p)} and {np.shape(q)}, expected shapes that broadcast; "
            "average q over the batch first"
        )
    p, q = lift(p, q)
    eps = float(jnp.finfo(p.dtype).eps)
    p, q = (eps + (1.0 - 2.0 * eps) * x for x in (p, q))
    return p * (jnp.log(p) - jnp.log(q)) + (1.0 - p) * (jnp.log1p(-p) - jnp.log1p(-q))


@register_kl(Normal, Normal)
def _normal_kl(q: Normal, p: Normal) -> jax.Array:
    q_mean, q_log_scale, p_mean, p_log_scale = lift(q.mean, q.log_scale, p.mean, p.log_scale)
    ratio = q_log_scale - p_log_scale
    shift = (q_mean - p_mean) * jnp.exp(-p_log_scale)
    return sum_trailing(0.5 * (jnp.square(shift) + jnp.expm1(2.0 * ratio)) - ratio, q.event_ndims)


def _gaussian_kl(q, p) -> jax.Array:
    """The trace term is |W_p A_q|^2, with A_q A_q' the covariance of q and W_p whitening p, whatever their kinds."""
    columns, mean = lift(_columns(q), q.mean)
    trace = jnp.sum(jnp.square(_whiten(p, jnp.moveaxis(columns, -1, 0))), axis=(0, -1))
    shift = jnp.sum(jnp.square(_whiten(p, mean - lift(p.mean)[0])), axis=-1)
    return 0.5 * (trace + shift - q.event_shape[0]) + _half_log_det(p) - _half_log_det(q)


def _columns(d) -> jax.Array:
    if isinstance(d, Normal):
        (log_scale,) = lift(d.log_scale)
        return jnp.exp(log_scale)[..., None] * jnp.eye(log_scale.shape[-1], dtype=log_scale.dtype)
    return d._columns()


def _whiten(d, x: jax.Array) -> jax.Array:
    return x * jnp.exp(-lift(d.log_scale)[0]) if isinstance(d, Normal) else d._whiten(x)


def _half_log_det(d) -> jax.Array:
    return jnp.sum(lift(d.log_scale)[0], axis=-1) if isinstance(d, Normal) else d._half_log_det()


for _q in (Normal, MultivariateNormal, LowRankNormal):
    for _p in (Normal, MultivariateNormal, LowRankNormal):
        if (_q, _p) != (Normal, Normal):
            register_kl(_q, _p)(_gaussian_kl)


@register_kl(Laplace, Laplace)
def _laplace_kl(q: Laplace, p: Laplace) -> jax.Array:
    q_mean, q_log_scale, p_mean, p_log_scale = lift(q.mean, q.log_scale, p.mean, p.log_scale)
    distance, ratio = jnp.abs(q_mean - p_mean), q_log_scale - p_log_scale
    spread = jnp.exp(ratio - distance * jnp.exp(-q_log_scale))
    return sum_trailing(distance * jnp.exp(-p_log_scale) + spread - ratio - 1.0, q.event_ndims)


@register_kl(Normal, Laplace)
def _normal_laplace_kl(q: Normal, p: Laplace) -> jax.Array:
    q_mean, q_log_scale, p_mean, p_log_scale = lift(q.mean, q.log_scale, p.mean, p.log_scale)
    scaled = (q_mean - p_mean) * jnp.exp(-q_log_scale)  # E|x - m| of a folded normal, in units of q's scale
    peak = math.sqrt(2.0 / math.pi) * jnp.exp(-0.5 * jnp.square(scaled))
    folded = peak + scaled * jax.lax.erf(scaled / math.sqrt(2.0))
    ratio = q_log_scale - p_log_scale
    return sum_trailing(folded * jnp.exp(ratio) - ratio + (math.log(2.0) - 0.5 * (1.0 + LOG_2PI)), q.event_ndims)


@register_kl(Laplace, Normal)
def _laplace_normal_kl(q: Laplace, p: Normal) -> jax.Array:
    q_mean, q_log_scale, p_mean, p_log_scale = lift(q.mean, q.log_scale, p.mean, p.log_scale)
    ratio = q_log_scale - p_log_scale
    shift = (q_mean - p_mean) * jnp.exp(-p_log_scale)
    square = jnp.exp(2.0 * ratio) + 0.5 * jnp.square(shift)
    return sum_trailing(square - ratio + (0.5 * LOG_2PI - 1.0 - math.log(2.0)), q.event_ndims)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli_kl(q: Bernoulli, p: Bernoulli) -> jax.Array:
    a, b = lift(q.logits, p.logits)
    one = jax.nn.sigmoid(a) * (softplus(-b) - softplus(-a))
    zero = jax.nn.sigmoid(-a) * (softplus(b) - softplus(a))
    return sum_trailing(one + zero, q.event_ndims)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli_kl(q: ContinuousBernoulli, p: ContinuousBernoulli) -> jax.Array:
    a, b = jnp.broadcast_arrays(*lift(q.logits, p.logits))
    return sum_trailing(expected_log_density(a, a) - expected_log_density(a, b), q.event_ndims)


@register_kl(Categorical, Categorical)
def _categorical_kl(q, p) -> jax.Array:
    _same("classes", np.shape(q.logits)[-1], np.shape(p.logits)[-1])
    return sum_trailing(expected_log_probability(q, q) - expected_log_probability(q, p), q.event_ndims)


register_kl(LevelCategorical, LevelCategorical)(_categorical_kl)


@register_kl(DiscretizedLogistic, DiscretizedLogistic)
def _discretized_logistic_kl(q: DiscretizedLogistic, p: DiscretizedLogistic) -> jax.Array:
    """Summed over the levels: exact, at the price of one pass over them."""
    _same("levels", q.levels, p.levels)
    parameters = jnp.broadcast_arrays(*lift(q.mean, q.log_scale, p.mean, p.log_scale))
    q_mean, q_log_scale, p_mean, p_log_scale = (x[..., None] for x in parameters)
    level = jnp.arange(q.levels, dtype=q_mean.dtype)
    log_q = level_log_prob(level, q_mean, q_log_scale, q.levels)
    log_p = level_log_prob(level, p_mean, p_log_scale, q.levels)
    return sum_trailing(jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1), q.event_ndims)


def _same(what: str, q: int, p: int) -> None:
    if q != p:
        raise ValueError(f"kl: q has {q} {what} and p has {p}, expected the same number; build both over one grid")
