"""``kl(q, p)``: closed forms looked up by the pair of types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from vaex.distributions import Distribution
from vaex.ops.arrays import broadcastable

Rule = Callable[[Any, Any], jax.Array]  # of the pair of types that it is registered for
F = TypeVar("F", bound=Rule)
_RULES: dict[tuple[type, type], Rule] = {}


def register_kl(q_type: type, p_type: type) -> Callable[[F], F]:
    """Register the decorated function as the closed form of KL(q || p) for a pair of types.

    The rule takes (q, p), whose event shapes agree and batch shapes broadcast; it returns one value per batch element.

    Example:
      >>> from vaex.distributions import Delta
      >>> class Point(Delta): pass
      >>> @register_kl(Point, Point)
      ... def _(q, p):
      ...     return jnp.where((q.loc == p.loc).all(-1), jnp.float32(0.0), jnp.inf)
      >>> kl(Point(jnp.ones(2)), Point(jnp.ones(2)))
      Array(0., dtype=float32)

    References: the registry of TensorFlow Probability, Dillon et al. 2017, section 3.5.
    """

    def register(rule: F) -> F:
        _RULES[q_type, p_type] = rule
        return rule

    return register


def kl(q: Distribution, p: Distribution) -> jax.Array:
    r"""Closed form of :math:`\mathrm{KL}(q\,\|\,p) = E_q[\log q - \log p]` in nats, summed over the event axes.

    Args:
      q: the distribution that the expectation is under (the posterior).
      p: the other one (the prior); its batch axes may broadcast against those of q.
    Returns: one value per batch element, float32 or wider.
    Raises:
      TypeError: no closed form is known for this pair; estimate it with ``monte_carlo_kl(key, q, p, num_samples)``.
      ValueError: the event shapes differ or the batch shapes do not broadcast.
    Example:
      >>> from vaex.distributions import MultivariateNormal, Normal
      >>> kl(MultivariateNormal(jnp.ones(2), scale_tril=jnp.eye(2)), Normal(jnp.zeros(2), 1.0))
      Array(1., dtype=float32)

    References: Kullback & Leibler 1951, eq. 2.4.
    """
    rule = _RULES.get((type(q), type(p)))
    names = f"{type(q).__name__} || {type(p).__name__}"
    if rule is None:
        raise TypeError(
            f"kl: no closed form of KL({names}) is known; use monte_carlo_kl(key, q, p, num_samples), "
            "or register_kl a rule of your own"
        )
    check_shapes("kl", names, q, p)
    return jnp.asarray(rule(q, p))


def check_shapes(name: str, pair: str, q: Distribution, p: Distribution) -> None:
    """Raise ValueError unless event shapes are equal and batch shapes broadcast."""
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"{name}: {pair} got event shapes {q.event_shape} and {p.event_shape}, expected equal ones; "
            "set event_ndims so that the same axes are summed"
        )
    if not broadcastable(q.batch_shape, p.batch_shape):
        raise ValueError(
            f"{name}: {pair} got batch shapes {q.batch_shape} and {p.batch_shape}, expected shapes that broadcast; "
            "align the batch axes"
        )
