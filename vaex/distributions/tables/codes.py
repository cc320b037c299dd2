"""Categories given by codes, and the logits of ordered ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions.categorical import Classes
from vaex.distributions.family import family, static
from vaex.ops.arrays import lift
from vaex.ops.scalars import softplus


@family
class CategoricalCodes(Classes):
    """Categorical over codes 0, 1, ..., k - 1 as floats, which stand beside numbers in a row of a table.

    Args:
      logits: [*batch, *event, k], unnormalised.
      event_ndims: how many axes before the class axis are one event; ``log_prob`` sums over them.
      ordered: whether codes have an order; the mean of those that have none is the most probable one.
    Example:
      >>> CategoricalCodes(jnp.array([[0.0, 9.0, 0.0]])).mode
      Array([1.], dtype=float32)

    References: Bishop 2006, section 2.2.
    """

    logits: jax.Array
    event_ndims: int = static(default=1)
    ordered: bool = static(default=False)

    @property
    def mean(self) -> jax.Array:
        """Expected code of ordered ones, the most probable code of others, elementwise."""
        if not self.ordered:
            return self.mode
        probabilities = self.probabilities
        return probabilities @ jnp.arange(np.shape(self.logits)[-1], dtype=probabilities.dtype)

    @property
    def mode(self) -> jax.Array:
        """The most probable code, elementwise."""
        return self._value(jnp.argmax(jnp.asarray(self.logits), axis=-1))

    @property
    def variance(self) -> jax.Array:
        """Mean square of the distance to ``mean`` of ordered codes; of others, p (1 - p) of the most probable one."""
        probabilities = self.probabilities
        if not self.ordered:
            most = jnp.max(probabilities, axis=-1)
            return most * (1.0 - most)
        codes = jnp.arange(np.shape(self.logits)[-1], dtype=probabilities.dtype)
        return jnp.sum(probabilities * jnp.square(codes - self.mean[..., None]), axis=-1)

    def _value(self, index: jax.Array) -> jax.Array:
        (logits,) = lift(self.logits)
        return index.astype(logits.dtype)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self._value(self._draw(key, shape))

    def _log_prob(self, value: jax.Array) -> jax.Array:
        """The value is taken at the nearest code."""
        _, value = lift(self.logits, value)
        return self._at(jnp.round(value).astype(jnp.int32))


def ordinal_logits(location: jax.Array, cutpoints: jax.Array) -> jax.Array:
    r"""Return log-probabilities of k ordered categories: :math:`P(c \le j) = \sigma(b_j - \eta)`, the proportional-odds model.

    Args:
      location: :math:`\eta`, [...]; larger ones favour later categories.
      cutpoints: b, [..., k - 1], increasing.
    Returns: [..., k], normalised.
    Example:
      >>> [round(float(p), 3) for p in jnp.exp(ordinal_logits(jnp.zeros(()), jnp.array([-1.0, 1.0])))]
      [0.269, 0.462, 0.269]

    References: McCullagh 1980, Regression models for ordinal data, section 2.
    """
    above = jnp.subtract(*lift(cutpoints, jnp.asarray(location)[..., None]))
    gaps = above[..., 1:] - above[..., :-1]
    middle = -softplus(-above[..., 1:]) - softplus(above[..., :-1]) + jnp.log(-jnp.expm1(-gaps))
    return jnp.concatenate([-softplus(-above[..., :1]), middle, -softplus(above[..., -1:])], axis=-1)
