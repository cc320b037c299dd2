"""``kl(q, p)``: closed forms looked up by the pair of types."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from vaex.distributions import Distribution, Independent, Transformed
from vaex.distributions.family import Elementwise
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

    Two ``Transformed`` with one flow and the same parameters have the divergence of their bases. Where one of the two is an
    ``Independent``, the other's event axes are taken in the same way.

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
    q, p = _alike(q, p)
    rule = _RULES.get((type(q), type(p)))
    names = f"{type(q).__name__} || {type(p).__name__}"
    if rule is None:
        raise TypeError(
            f"kl: no closed form of KL({names}) is known; use monte_carlo_kl(key, q, p, num_samples), "
            "or register_kl a rule of your own"
        )
    check_shapes("kl", names, q, p)
    return jnp.asarray(rule(q, p))


def _alike(q: Distribution, p: Distribution) -> tuple[Distribution, Distribution]:
    """Return both with as many axes taken by ``Independent``, where one of them is and the other has elements of its own."""
    if isinstance(q, Independent) and isinstance(p, Elementwise):
        return q, _taken(p, q.ndims)
    if isinstance(p, Independent) and isinstance(q, Elementwise):
        return _taken(q, p.ndims), p
    return q, p


def _taken(distribution: Any, ndims: int) -> Distribution:
    """Return a distribution of independent elements with its first event axes taken by ``Independent``."""
    if distribution.event_ndims < ndims:
        return distribution
    return Independent(dataclasses.replace(distribution, event_ndims=distribution.event_ndims - ndims), ndims)


@register_kl(Transformed, Transformed)
def _transformed_kl(q: Transformed, p: Transformed) -> jax.Array:
    """An invertible map changes no divergence."""
    if q.flow is not p.flow and q.flow != p.flow:
        different = "flows"
    elif not _same_arrays(q.params, p.params):
        different = "parameters of their flow (under jit, pass the same arrays)"
    else:
        return kl(q.base, p.base)
    raise TypeError(
        f"kl: no closed form of KL(Transformed || Transformed) is known for different {different}; use "
        "monte_carlo_kl(key, q, p, num_samples)"
    )


def _same_arrays(first: Any, second: Any) -> bool:
    """Return True if two pytrees hold the same arrays: traced ones are compared as objects, others by value."""
    if jax.tree.structure(first) != jax.tree.structure(second):
        return False

    def same(left: Any, right: Any) -> bool:
        if left is right:
            return True
        return not isinstance(left, Tracer) and not isinstance(right, Tracer) and np.array_equal(left, right)

    return all(map(same, jax.tree.leaves(first), jax.tree.leaves(second)))


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
