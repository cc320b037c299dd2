"""Closed-form Kullback-Leibler divergences of discrete families and of the continuous Bernoulli."""

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
)
from vaex.distributions.bernoulli import expected_log_density
from vaex.divergences.registry import register_kl
from vaex.ops.arrays import broadcastable, lift, sum_trailing
from vaex.ops.scalars import log_decay, polynomial, softplus

Enumerable = Categorical | LevelCategorical | DiscretizedLogistic


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
      >>> print(*(f"{x:.4f}" for x in bernoulli_kl(0.05, jnp.array([0.05, 0.5]))))
      0.0000 0.4946

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


@register_kl(Bernoulli, Bernoulli)
def _bernoulli_kl(q: Bernoulli, p: Bernoulli) -> jax.Array:
    a, b = lift(q.logits, p.logits)
    of_one = jax.nn.sigmoid(a) * (softplus(-b) - softplus(-a))
    of_zero = jax.nn.sigmoid(-a) * (softplus(b) - softplus(a))
    return sum_trailing(of_one + of_zero, q.event_ndims)


def log_probabilities(name: str, q: Enumerable, p: Enumerable) -> list[jax.Array]:
    """Return the log-probabilities of all classes or levels under q and p, in one dtype.

    Raises: ValueError if their numbers differ.
    """
    log_q, log_p = lift(q.log_probabilities, p.log_probabilities)
    if log_q.shape[-1] != log_p.shape[-1]:
        raise ValueError(
            f"{name}: q has {log_q.shape[-1]} classes or levels and p has {log_p.shape[-1]}, expected the same number; "
            "build both over one grid"
        )
    return [log_q, log_p]


@register_kl(Categorical, Categorical)
def _enumerated_kl(q: Enumerable, p: Enumerable) -> jax.Array:
    """Sum over the classes or levels; those of probability zero under q contribute nothing."""
    log_q, log_p = log_probabilities("kl", q, p)
    weights = jnp.exp(log_q)
    terms = jnp.sum(weights * jnp.where(weights > 0, log_q - log_p, 0.0), axis=-1)
    return sum_trailing(terms, q.event_ndims)


for _q in (LevelCategorical, DiscretizedLogistic):
    for _p in (LevelCategorical, DiscretizedLogistic):
        register_kl(_q, _p)(_enumerated_kl)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli_kl(q: ContinuousBernoulli, p: ContinuousBernoulli) -> jax.Array:
    a, b = jnp.broadcast_arrays(*lift(q.logits, p.logits))
    return sum_trailing(expected_log_density(a, a) - expected_log_density(a, b), q.event_ndims)


@register_kl(ContinuousBernoulli, Laplace)
def _continuous_bernoulli_laplace_kl(q: ContinuousBernoulli, p: Laplace) -> jax.Array:
    """E|x - m| = |m - c| + E x - c + 2 E max(c - x, 0), with c the point of [0, 1] nearest to m."""
    logits, mean, p_mean, p_log_scale = lift(q.logits, q.mean, p.mean, p.log_scale)
    nearest = jnp.clip(p_mean, 0.0, 1.0)
    distance = jnp.abs(p_mean - nearest) + mean - nearest + 2.0 * _shortfall(logits, nearest)
    cross = distance * jnp.exp(-p_log_scale) + p_log_scale + math.log(2.0)
    return sum_trailing(cross, q.event_ndims) - q.entropy()


def _shortfall(logits: jax.Array, c: jax.Array) -> jax.Array:
    """E max(c - x, 0) = c^2 e^-A(l) h(l c), with A the log-normaliser and h(y) = (e^y - 1 - y) / y^2."""
    y = logits * c
    small = jnp.abs(y) < 1.0
    far = jnp.where(small, 1.0, y)
    decay = jnp.exp(-jnp.abs(far))
    large = jnp.where(far > 0, 1.0 - (1.0 + far) * decay, decay - 1.0 - far) / jnp.square(far)  # h(y) e^-max(y, 0)
    near = jnp.where(small, y, 0.0)
    series = polynomial([1.0 / math.factorial(n + 2) for n in range(18)], near) * jnp.exp(-jnp.maximum(near, 0.0))
    scale = jnp.exp(jnp.maximum(y, 0.0) - jnp.maximum(logits, 0.0) - log_decay(jnp.abs(logits)))
    return jnp.square(c) * scale * jnp.where(small, series, large)
