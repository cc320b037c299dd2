"""Laplace, and the point mass."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from vaex.distributions._base import Elementwise, family, lift, match, narrow, static, sum_trailing
from vaex.ops.threefry import unrolled


@family
class Laplace(Elementwise):
    r"""Laplace with independent elements: density :math:`e^{-|x-\mu|/b} / 2b`.

    Args:
      mean: [*batch, *event].
      log_scale: log b; broadcast to the mean's shape. The standard deviation is sqrt(2) b.
      event_ndims: how many trailing axes are one event; ``log_prob`` and ``entropy`` sum over them.
    Raises: ValueError if the shapes of ``mean`` and ``log_scale`` disagree.
    Example:
      >>> print(f"{Laplace(jnp.zeros(2), jnp.zeros(2)).log_prob(jnp.array([1.0, -2.0])):.4f}")
      -4.3863

    References: Johnson, Kotz & Balakrishnan 1995, chapter 24.
    """

    mean: jax.Array
    log_scale: jax.Array
    event_ndims: int = static(default=1)

    def __post_init__(self) -> None:
        match(self, "mean", "log_scale")

    @property
    def mode(self) -> jax.Array:
        """The mean."""
        return self.mean

    @property
    def variance(self) -> jax.Array:
        """2 exp(2 log_scale), elementwise."""
        return 2.0 * jnp.exp(2.0 * jnp.asarray(self.log_scale))

    def entropy(self) -> jax.Array:
        """Differential entropy in nats, summed over the event axes: ``[*batch_shape]``."""
        (log_scale,) = lift(self.log_scale)
        return sum_trailing(log_scale + (1.0 + math.log(2.0)), self.event_ndims)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        mean, log_scale = lift(self.mean, self.log_scale)
        noise = jax.random.laplace(unrolled(key), shape, mean.dtype)
        return narrow(mean + jnp.exp(log_scale) * noise, self.mean, self.log_scale)

    def _log_density(self, value: jax.Array) -> jax.Array:
        value, mean, log_scale = lift(value, self.mean, self.log_scale)
        return -jnp.abs(value - mean) * jnp.exp(-log_scale) - math.log(2.0) - log_scale


@family
class Delta(Elementwise):
    """A point mass: what an autoencoder without noise gives. It samples its value and has no density.

    Args:
      value: [*batch, *event].
      event_ndims: how many trailing axes are one event.
    Example:
      >>> Delta(jnp.array([1.0, 2.0])).mode
      Array([1., 2.], dtype=float32)

    References: Billingsley 1995, section 2 (unit mass).
    """

    value: jax.Array
    event_ndims: int = static(default=1)

    @property
    def mean(self) -> jax.Array:
        """The value."""
        return self.value

    @property
    def mode(self) -> jax.Array:
        """The value."""
        return self.value

    @property
    def variance(self) -> jax.Array:
        """Zeros."""
        return jnp.zeros_like(self.value)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Refused: a point mass has no density with respect to Lebesgue measure."""
        raise TypeError(
            "Delta.log_prob: a point mass has no density; use Normal(value, log_scale) for a likelihood, "
            "or a loss on .mean for a deterministic autoencoder"
        )

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jnp.broadcast_to(self.value, shape)
