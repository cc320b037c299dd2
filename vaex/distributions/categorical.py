"""Categorical over classes, and over equally spaced levels of [0, 1]."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions._shapes import check_event_ndims
from vaex.distributions.family import BaseDistribution, family, static
from vaex.ops.arrays import lift, sum_trailing
from vaex.ops.log_sum_exp import log_sum_exp


class Classes(BaseDistribution):
    """Classes along the last axis of the logits; the axes before it are ``[*batch, *event]``."""

    logits: jax.Array
    event_ndims: int

    @property
    def batch_shape(self) -> tuple[int, ...]:
        shape = self._value_shape
        return shape[: len(shape) - self.event_ndims]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The last ``event_ndims`` axes before the class axis."""
        shape = self._value_shape
        return shape[len(shape) - self.event_ndims :]

    @property
    def _value_shape(self) -> tuple[int, ...]:
        shape, name = np.shape(self.logits), type(self).__name__
        if not shape or shape[-1] == 0:
            raise ValueError(f"{name}: logits has shape {shape}, expected [..., classes]; put the class axis last")
        check_event_ndims(f"{name} (class axis left out)", shape[:-1], self.event_ndims)
        return shape[:-1]

    @property
    def log_probabilities(self) -> jax.Array:
        """Normalised logits, ``[*batch, *event, classes]``, float32 or wider."""
        (logits,) = lift(self.logits)
        return jax.nn.log_softmax(logits, axis=-1)

    @property
    def probabilities(self) -> jax.Array:
        """Class probabilities, ``[*batch, *event, classes]``, float32 or wider."""
        return jnp.exp(self.log_probabilities)

    def entropy(self) -> jax.Array:
        """Entropy in nats, summed over the event axes: ``[*batch_shape]``."""
        return sum_trailing(-expected_log_probability(self, self), self.event_ndims)

    def _draw(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        (logits,) = lift(self.logits)
        return jax.random.categorical(key, logits, axis=-1, shape=shape)

    def _at(self, index: jax.Array) -> jax.Array:
        """Log-probability of class ``index``, summed over the event axes."""
        (logits,) = lift(self.logits)
        shape = jnp.broadcast_shapes(index.shape, logits.shape[:-1])
        index = jnp.broadcast_to(jnp.clip(index, 0, logits.shape[-1] - 1), shape)
        chosen = jnp.take_along_axis(jnp.broadcast_to(logits, shape + logits.shape[-1:]), index[..., None], axis=-1)
        return sum_trailing(chosen[..., 0] - log_sum_exp(logits, axis=-1), self.event_ndims)


def expected_log_probability(q: Classes, p: Classes) -> jax.Array:
    """E_q[log p] per element; classes of probability zero (logits of -inf) contribute nothing."""
    weights = q.probabilities
    return jnp.sum(weights * jnp.where(weights > 0, p.log_probabilities, 0.0), axis=-1)


@family
class Categorical(Classes):
    """Categorical with independent elements; values are integers.

    Args:
      logits: [*batch, *event, classes], unnormalised.
      event_ndims: how many axes before the class axis are one event; ``log_prob`` and ``entropy`` sum over them.
    Example:
      >>> Categorical(jnp.zeros((5, 3, 4))).log_prob(jnp.zeros((5, 3), int)).shape
      (5,)

    References: Bishop 2006, section 2.2.
    """

    logits: jax.Array
    event_ndims: int = static(default=1)

    @property
    def mode(self) -> jax.Array:
        """The most probable class, int32."""
        return jnp.argmax(jnp.asarray(self.logits), axis=-1).astype(jnp.int32)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self._draw(key, shape).astype(jnp.int32)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        if not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(
                f"Categorical.log_prob: value has dtype {value.dtype}, expected integers; "
                "cast class indices, or use LevelCategorical for levels in [0, 1]"
            )
        return self._at(value.astype(jnp.int32))


@family
class LevelCategorical(Classes):
    """Categorical over L equally spaced values k / (L - 1) in [0, 1]: a free histogram per pixel.

    Args:
      logits: [*batch, *event, L], unnormalised.
      event_ndims: how many axes before the level axis are one event; ``log_prob`` and ``entropy`` sum over them.
    Raises: ValueError if L < 2.
    Example:
      >>> LevelCategorical(jnp.array([[0.0, 1e4, 0.0]])).mean
      Array([0.5], dtype=float32)

    References: van den Oord, Kalchbrenner & Kavukcuoglu 2016, section 3.2.
    """

    logits: jax.Array
    event_ndims: int = static(default=1)

    @property
    def levels(self) -> int:
        """L, the length of the last axis of the logits."""
        levels = np.shape(self.logits)[-1] if np.ndim(self.logits) else 0
        if levels < 2:
            raise ValueError(
                f"LevelCategorical: logits has shape {np.shape(self.logits)}, expected [..., L] with L >= 2; "
                "put the level axis last"
            )
        return levels

    @property
    def mean(self) -> jax.Array:
        """Expected value in [0, 1], elementwise."""
        probabilities = self.probabilities
        return probabilities @ jnp.linspace(0.0, 1.0, self.levels, dtype=probabilities.dtype)

    @property
    def mode(self) -> jax.Array:
        """The most probable level in [0, 1], elementwise."""
        return self._value(jnp.argmax(jnp.asarray(self.logits), axis=-1))

    @property
    def variance(self) -> jax.Array:
        """Variance, elementwise."""
        probabilities = self.probabilities
        grid = jnp.linspace(0.0, 1.0, self.levels, dtype=probabilities.dtype)
        return jnp.sum(probabilities * jnp.square(grid - self.mean[..., None]), axis=-1)

    def _value(self, index: jax.Array) -> jax.Array:
        (logits,) = lift(self.logits)  # a bfloat16 grid would merge levels
        return index.astype(logits.dtype) / (self.levels - 1)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self._value(self._draw(key, shape))

    def _log_prob(self, value: jax.Array) -> jax.Array:
        """The value is taken at the nearest level."""
        _, value = lift(self.logits, value)
        return self._at(jnp.round(value * (self.levels - 1)).astype(jnp.int32))
