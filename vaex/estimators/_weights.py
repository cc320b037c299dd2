"""The log-weight function that all estimators share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vaex.divergences.monte_carlo import check_num_samples

LogJoint = Callable[[Any], jax.Array]
Bound = Callable[[jax.Array], jax.Array]


def average_log_weight(log_weights: jax.Array) -> jax.Array:
    """The elbo of each example: the mean log weight over the samples, [k, ...] -> [...]."""
    return jnp.mean(log_weights, axis=0)


def joint(name: str, log_joint: LogJoint, z: Any, log_q: jax.Array) -> jax.Array:
    """log p(x, z), which must have the shape of log q(z)."""
    value = log_joint(z)
    if jnp.shape(value) != log_q.shape:
        raise ValueError(
            f"{name}: log_joint(z) has shape {jnp.shape(value)}, expected {log_q.shape} like posterior.log_prob(z): samples first, "
            "then the batch; sum it over pixels and latents"
        )
    return value


def bounded(name: str, bound: Bound, log_weights: jax.Array) -> jax.Array:
    """The bound of [k, ...] log weights, which must be [...]."""
    value = bound(log_weights)
    if jnp.shape(value) != log_weights.shape[1:]:
        raise ValueError(
            f"{name}: bound(log_weights) has shape {jnp.shape(value)}, expected {log_weights.shape[1:]}: it maps [k, ...] to [...]"
        )
    return value


def check(name: str, num_samples: int, *, at_least: int = 1) -> None:
    """The number of samples must be an int of at least ``at_least``."""
    check_num_samples(name, num_samples)
    if num_samples < at_least:
        raise ValueError(
            f"{name}: num_samples is {num_samples}, expected at least {at_least}: the baseline of a sample is made of the others"
        )


def carried(value: jax.Array, carrier: jax.Array) -> jax.Array:
    """``value``, with the gradient of ``carrier``."""
    return jax.lax.stop_gradient(value) + (carrier - jax.lax.stop_gradient(carrier))
