"""Trailing batch axes of a distribution, taken as part of its event: all of it, or what is observed of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

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
                f"{type(self).__name__}: ndims is {self.ndims}, expected between 0 and {len(shape)} for a base of batch shape "
                f"{shape}; it counts batch axes"
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


@family
class Observed(Independent):
    r"""Independent elements, of which those that a value gives as NaN are missing: log p(x_observed).

    Missing elements are integrated out: of independent elements, they add nothing to the log-probability. Samples and moments are
    those of all elements.

    Args:
      base: a distribution of scalars, whose last ``ndims`` batch axes become one event.
      ndims: how many.
    Raises: ValueError if the base is not one of scalars, or has fewer batch axes.
    Example:
      >>> from vaex.distributions import Normal
      >>> d = Observed(Normal(jnp.zeros(3), jnp.ones(3), event_ndims=0), 1)
      >>> x = jnp.array([[0.0, 1.0, jnp.nan], [jnp.nan, jnp.nan, jnp.nan]])
      >>> d.log_prob(x).round(3)
      Array([-2.338,  0.   ], dtype=float32)

    References: Mattei & Frellsen 2019, section 2.
    """

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Batch shape of the base without its last ``ndims`` axes."""
        if tuple(self.base.event_shape):
            raise ValueError(
                f"Observed: the base has events of shape {tuple(self.base.event_shape)}, expected scalars; give event_ndims=0"
            )
        return super().batch_shape

    def _log_prob(self, value: jax.Array) -> jax.Array:
        observed = ~jnp.isnan(value)
        center = self.base.mean  # a value in the support, at which no gradient overflows
        filled = jnp.where(observed, value, 0.0 if center is None else jax.lax.stop_gradient(center))
        return sum_trailing(jnp.where(observed, self.base.log_prob(filled), 0.0), self.ndims)
