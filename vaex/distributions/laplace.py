"""Laplace, and the point mass."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.distributions._location_scale import UNSET, LocationScale, Unset, set_location_scale
from vaex.distributions.family import Elementwise, family, static
from vaex.ops.arrays import lift, narrow, sum_trailing


@family
class Laplace(LocationScale):
    r"""Laplace with independent elements: density :math:`e^{-|x-\mu|/b} / 2b`.

    Args:
      loc: [*batch, *event], :math:`\mu`.
      scale: b, positive; broadcast to the shape of ``loc``. The standard deviation is sqrt(2) b.
      log_scale: log b, instead of ``scale``; the field that is stored.
      event_ndims: how many trailing axes are one event; ``log_prob`` and ``entropy`` sum over them.
    Raises: ValueError if the shapes disagree, or unless exactly one of ``scale`` and ``log_scale`` is given.
    Example:
      >>> print(f"{Laplace(jnp.zeros(2), 1.0).log_prob(jnp.array([1.0, -2.0])):.4f}")
      -4.3863

    References: Johnson, Kotz & Balakrishnan 1995, chapter 24.
    """

    loc: jax.Array
    log_scale: jax.Array
    event_ndims: int = static(default=1)

    def __init__(
        self,
        loc: ArrayLike,
        scale: ArrayLike | Unset = UNSET,
        *,
        log_scale: ArrayLike | Unset = UNSET,
        event_ndims: int = 1,
    ) -> None:
        set_location_scale(self, loc, scale, log_scale, event_ndims=event_ndims)

    @property
    def variance(self) -> jax.Array:
        """2 exp(2 log_scale), elementwise."""
        return 2.0 * jnp.exp(2.0 * jnp.asarray(self.log_scale))

    def entropy(self) -> jax.Array:
        """Differential entropy in nats, summed over the event axes: ``[*batch_shape]``."""
        (log_scale,) = lift(self.log_scale)
        return sum_trailing(log_scale + (1.0 + math.log(2.0)), self.event_ndims)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        loc, log_scale = lift(self.loc, self.log_scale)
        noise = jax.random.laplace(key, shape, loc.dtype)
        return narrow(loc + jnp.exp(log_scale) * noise, self.loc, self.log_scale)

    def _log_density(self, value: jax.Array) -> jax.Array:
        value, loc, log_scale = lift(value, self.loc, self.log_scale)
        return -jnp.abs(value - loc) * jnp.exp(-log_scale) - math.log(2.0) - log_scale


@family
class Delta(Elementwise):
    """A point mass: what an autoencoder without noise gives. It samples its value and has no density.

    Args:
      loc: [*batch, *event], where the mass is.
      event_ndims: how many trailing axes are one event.
    Example:
      >>> Delta(jnp.array([1.0, 2.0])).mode
      Array([1., 2.], dtype=float32)

    References: Billingsley 1995, section 2 (unit mass).
    """

    loc: jax.Array
    event_ndims: int = static(default=1)

    @property
    def mean(self) -> jax.Array:
        """The location."""
        return self.loc

    @property
    def mode(self) -> jax.Array:
        """The location."""
        return self.loc

    @property
    def variance(self) -> jax.Array:
        """Zeros."""
        return jnp.zeros_like(self.loc)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Refused: a point mass has no density with respect to Lebesgue measure."""
        raise TypeError(
            "Delta.log_prob: a point mass has no density; use Normal(loc, scale) for a likelihood, "
            "or a loss on .mean for a deterministic autoencoder"
        )

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jnp.broadcast_to(self.loc, shape)
