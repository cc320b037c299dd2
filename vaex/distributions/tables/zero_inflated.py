"""Counts of which more are zero than their distribution would have."""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp

from vaex.distributions._shapes import check_event_ndims
from vaex.distributions.family import BaseDistribution, family, static
from vaex.distributions.protocol import Distribution
from vaex.ops.arrays import lift, narrow, sum_trailing
from vaex.ops.scalars import softplus


@family
class ZeroInflated(BaseDistribution):
    r"""Zero with probability :math:`\pi`, else a count of a distribution of scalars: independent elements.

    Args:
      base: of the counts, scalars: ``Poisson`` or ``NegativeBinomial`` with ``event_ndims=0``.
      logits: of :math:`\pi`, [*batch, *event], the batch shape of the base.
      event_ndims: how many trailing axes are one event; ``log_prob`` sums over them.
    Raises: ValueError if the base has events, or another shape.
    Example:
      >>> from vaex.distributions import Poisson
      >>> d = ZeroInflated(Poisson(jnp.zeros(1), 0), jnp.zeros(1))
      >>> print(f"{d.log_prob(jnp.zeros(1)):.4f}")  # log((1 + 1/e) / 2)
      -0.3799

    References: Lambert 1992, Zero-inflated Poisson regression, section 2.
    """

    base: Distribution
    logits: jax.Array
    event_ndims: int = static(default=1)

    @property
    def _shape(self) -> tuple[int, ...]:
        shape = tuple(self.base.batch_shape)
        if tuple(self.base.event_shape) or shape != jnp.shape(self.logits):
            raise ValueError(
                f"ZeroInflated: the base has batch shape {shape} and events of shape {tuple(self.base.event_shape)}, expected "
                f"{jnp.shape(self.logits)}, that of the logits, and scalars; give event_ndims=0"
            )
        check_event_ndims("ZeroInflated", shape, self.event_ndims)
        return shape

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes of the base before its last ``event_ndims``."""
        return self._shape[: len(self._shape) - self.event_ndims]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The last ``event_ndims`` axes."""
        return self._shape[len(self._shape) - self.event_ndims :]

    @property
    def mean(self) -> jax.Array:
        """1 - pi times the mean of the base."""
        logits, mean = lift(self.logits, cast(jax.Array, self.base.mean))
        return narrow(jax.nn.sigmoid(-logits) * mean, self.logits)

    @property
    def variance(self) -> jax.Array:
        """(1 - pi) (variance + pi mean^2) of the base, elementwise."""
        moments = cast(jax.Array, self.base.mean), cast(jax.Array, self.base.variance)
        logits, mean, variance = lift(self.logits, *moments)
        counted = jax.nn.sigmoid(-logits)
        return narrow(counted * (variance + (1.0 - counted) * jnp.square(mean)), self.logits)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        zero_key, count_key = jax.random.split(key)
        (logits,) = lift(self.logits)
        counts = self.base.sample(count_key, shape[: len(shape) - len(self._shape)])
        return jnp.where(jax.random.bernoulli(zero_key, jax.nn.sigmoid(logits), shape), jnp.zeros_like(counts), counts)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        logits, value = lift(self.logits, value)
        counted = self.base.log_prob(value) - softplus(logits)
        log_probability = jnp.where(value == 0, jnp.logaddexp(-softplus(-logits), counted), counted)
        return sum_trailing(log_probability, self.event_ndims)
