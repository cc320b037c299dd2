"""What the estimators share: the functions they take, their checks, and values that carry another value's gradient."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from vaex.divergences import monte_carlo


class LogJoint(Protocol):
    """Log-density of a model at latents, with the data and the generative network's parameters closed over."""

    def __call__(self, z: Any, /) -> jax.Array:
        """Return log p(x, z) [k, b], nats, of z [k, b, *latent] (or a pytree of such arrays), summed over pixels and latents."""
        ...


class Bound(Protocol):
    """Bound on log p(x) as a function of log weights; any of ``vaex.bounds`` that gives one array."""

    def __call__(self, log_weights: jax.Array, /) -> jax.Array:
        """Return the bound [...], nats, of log weights [k, ...], samples first."""
        ...


def average_log_weight(log_weights: jax.Array) -> jax.Array:
    """Return the ELBO of each example: the mean log weight over the samples, [k, ...] -> [...]."""
    return jnp.mean(log_weights, axis=0)


def evaluate_log_joint(name: str, log_joint: LogJoint, z: Any, log_q: jax.Array) -> jax.Array:
    """Evaluate log p(x, z) and check that it has the shape of log q(z)."""
    value = log_joint(z)
    if jnp.shape(value) != log_q.shape:
        raise ValueError(
            f"{name}: log_joint(z) has shape {jnp.shape(value)}, expected {log_q.shape} like posterior.log_prob(z): samples first, "
            "then the batch; sum it over pixels and latents"
        )
    return value


def evaluate_bound(name: str, bound: Bound, log_weights: jax.Array) -> jax.Array:
    """Evaluate the bound of [k, ...] log weights and check that it is [...]."""
    value = bound(log_weights)
    if jnp.shape(value) != log_weights.shape[1:]:
        raise ValueError(
            f"{name}: bound(log_weights) has shape {jnp.shape(value)}, expected {log_weights.shape[1:]}: it maps [k, ...] to [...]"
        )
    return value


def check_num_samples(name: str, num_samples: int, *, at_least: int = 1) -> None:
    """Raise ValueError unless the number of samples is an int of at least ``at_least``."""
    monte_carlo.check_num_samples(name, num_samples)
    if num_samples < at_least:
        raise ValueError(
            f"{name}: num_samples is {num_samples}, expected at least {at_least}: the baseline of a sample is "
            "a function of the other samples"
        )


def with_gradient_of(value: jax.Array, carrier: jax.Array) -> jax.Array:
    """Return ``value``, with the gradient of ``carrier``, which is zero where the carrier is infinite."""
    infinite = jnp.isinf(carrier)
    carrier = jnp.where(infinite, 0.0, carrier)  # inf - inf would be NaN
    return jax.lax.stop_gradient(value) + (carrier - jax.lax.stop_gradient(carrier))
