"""Trailing batch axes of a distribution, taken as part of its event."""

from __future__ import annotations

import jax

from vaex.distributions.family import BaseDistribution, family, static
from vaex.distributions.protocol import Distribution
from vaex.ops.arrays import sum_trailing


@family
class Independent(BaseDistribution):
    """A distribution whose last batch axes are taken as part of its event: ``log_prob`` sums over them too.

    Args:
      base: a distribution.
      ndims: how many of its batch axes, counted from the last.
    Raises: ValueError if the base has fewer batch axes.
    Example:
      >>> import jax.numpy as jnp
      >>> from vaex.distributions import MultivariateNormal
      >>> Independent(MultivariateNormal(jnp.zeros((4, 3, 2)), scale_tril=jnp.eye(2)), 1).batch_shape
      (4,)

    References: Dillon et al. 2017, section 3.2 (the Independent meta-distribution).
    """

    base: Distribution
    ndims: int = static(default=1)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Batch shape of the base without its last ``ndims`` axes."""
        shape = tuple(self.base.batch_shape)
        if not 0 <= self.ndims <= len(shape):
            raise ValueError(
                f"Independent: ndims is {self.ndims}, expected between 0 and {len(shape)} for a base of batch shape {shape}; "
                "it counts batch axes"
            )
        return shape[: len(shape) - self.ndims]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The batch axes taken, then the event axes of the base."""
        return tuple(self.base.batch_shape)[len(self.batch_shape) :] + tuple(self.base.event_shape)

    @property
    def mean(self) -> jax.Array | None:
        """Mean of the base."""
        return self.base.mean

    @property
    def mode(self) -> jax.Array:
        """Mode of the base."""
        return self.base.mode  # type: ignore[attr-defined]  # not every distribution has one

    @property
    def variance(self) -> jax.Array | None:
        """Variance of the base."""
        return self.base.variance

    def entropy(self) -> jax.Array:
        """Entropy of the base in nats, summed over the axes taken: ``[*batch_shape]``."""
        return sum_trailing(self.base.entropy(), self.ndims)  # type: ignore[attr-defined]

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self.base.sample(key, shape[: len(shape) - len(self.batch_shape) - len(self.event_shape)])

    def _log_prob(self, value: jax.Array) -> jax.Array:
        return sum_trailing(self.base.log_prob(value), self.ndims)
