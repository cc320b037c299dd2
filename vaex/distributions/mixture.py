"""Mixtures of any family."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions._shapes import check_value, is_array
from vaex.distributions.family import BaseDistribution, family
from vaex.distributions.gaussian import LOG_2PI, Normal
from vaex.distributions.protocol import Distribution
from vaex.ops.arrays import broadcastable, lift
from vaex.ops.log_sum_exp import log_sum_exp


@family
class Mixture(BaseDistribution):
    r"""Mixture :math:`\sum_k \pi_k\,p_k(x)`, with components along the last batch axis of any distribution.

    A VampPrior is ``Mixture(logits, encoder_posterior_at_the_pseudo_inputs)``. Samples carry gradients to the chosen
    component, none to the weights. One mixture of many diagonal Gaussians takes matrix products, not an array of
    [..., components, d].

    Args:
      logits: [*batch, components], unnormalised log-weights.
      components: a distribution whose batch shape is [*batch, components], with no fewer axes than the logits; its batch
        axes may be of length 1.
    Raises: ValueError if the batch shapes disagree.
    Example:
      >>> from vaex.distributions import Normal
      >>> print(f"{Mixture(jnp.zeros(2), Normal(jnp.array([[-1.0], [1.0]]), 1.0)).log_prob(jnp.zeros(1)):.4f}")
      -1.4189

    References: Tomczak & Welling 2018, eq. 9 (VampPrior); Bishop 2006, section 9.2.
    """

    logits: jax.Array
    components: Distribution

    def __post_init__(self) -> None:
        if is_array(self.logits) and isinstance(self.components, BaseDistribution):
            missing = len(self.components.batch_shape) - np.ndim(self.logits)
            if missing > 0:  # shared weights keep their place under vmap
                object.__setattr__(self, "logits", jnp.reshape(self.logits, (1,) * missing + np.shape(self.logits)))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes over independent mixtures."""
        logits, components = np.shape(self.logits), tuple(self.components.batch_shape)
        right = 0 < len(logits) <= len(components) and logits[-1] == components[-1]
        if not right or not broadcastable(logits[:-1], components[:-1]):
            raise ValueError(
                f"Mixture: logits has shape {logits} and the components' batch shape is {components}, expected both "
                "[*batch, components]; put the components on the last batch axis and give axes of length 1 where shared"
            )
        return jnp.broadcast_shapes(logits[:-1], components[:-1])

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Event shape of the components."""
        return tuple(self.components.event_shape)

    @property
    def _weights(self) -> jax.Array:
        """Probabilities, with axes of length 1 for the event."""
        (logits,) = lift(self.logits)
        return jax.nn.softmax(logits, axis=-1).reshape(logits.shape + (1,) * len(self.event_shape))

    @property
    def mean(self) -> jax.Array | None:
        """Weighted average of the components' means; None if they have none."""
        return None if self.components.mean is None else self._average(self.components.mean)

    @property
    def variance(self) -> jax.Array | None:
        """Variance within components and between their means, elementwise; None if they have none."""
        if self.components.variance is None:
            return None
        axis = -1 - len(self.event_shape)
        between = jnp.square(self.components.mean - jnp.expand_dims(self._average(self.components.mean), axis))
        return self._average(self.components.variance + between)

    def _average(self, x: jax.Array) -> jax.Array:
        return jnp.sum(self._weights * x, axis=-1 - len(self.event_shape))

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        if (normal := self._diagonal) is not None:
            return self._sample_diagonal(key, normal, shape)
        batch, event = self.batch_shape, self.event_shape
        sample_shape = shape[: len(shape) - len(batch) - len(event)]
        key_index, key_value = jax.random.split(key)
        (logits,) = lift(self.logits)
        index = jax.random.categorical(key_index, logits, axis=-1, shape=sample_shape + batch)
        values = self.components.sample(key_value, sample_shape)
        values = jnp.broadcast_to(values, sample_shape + batch + logits.shape[-1:] + event)
        index = index.reshape(index.shape + (1,) * (1 + len(event)))
        return jnp.squeeze(jnp.take_along_axis(values, index, axis=-1 - len(event)), axis=-1 - len(event))

    @property
    def _diagonal(self) -> Normal | None:
        """The components, where this is one mixture of Gaussian vectors, [components, d]."""
        components = self.components
        if isinstance(components, Normal) and np.ndim(components.loc) == 2 and components.event_ndims == 1:
            return components
        return None

    def _sample_diagonal(self, key: jax.Array, normal: Normal, shape: tuple[int, ...]) -> jax.Array:
        key_index, key_value = jax.random.split(key)
        (logits,) = lift(self.logits)
        index = jax.random.categorical(key_index, logits, shape=shape[:-1])
        return Normal(normal.loc[index], log_scale=normal.log_scale[index]).sample(key_value)

    def log_responsibilities(self, value: jax.Array) -> jax.Array:
        r"""Log-probability of each component given ``value``, [..., *batch, components].

        :math:`\log\pi_k + \log p_k(x) - \log\sum_j \pi_j\,p_j(x)`: which part of the mixture a value belongs to.

        References: Bishop 2006, eq. 9.23.
        """
        value = jnp.asarray(value)
        check_value("Mixture.log_responsibilities", value.shape, self.batch_shape, self.event_shape)
        return jax.nn.log_softmax(self._log_joint(value), axis=-1)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        joint = self._log_joint(value)
        if (normal := self._diagonal) is None:
            return log_sum_exp(joint, axis=-1)
        return _diagonal_log_prob(joint, *lift(value, self.logits, normal.loc, normal.log_scale))

    def _log_joint(self, value: jax.Array) -> jax.Array:
        """log pi_k + log p_k(x), [..., *batch, components]."""
        if (normal := self._diagonal) is not None:
            return _diagonal_log_joint(*lift(value, self.logits, normal.loc, normal.log_scale))
        log_probs, logits = lift(
            self.components.log_prob(jnp.expand_dims(value, value.ndim - len(self.event_shape))), self.logits
        )
        return jax.nn.log_softmax(logits, axis=-1) + log_probs


def _diagonal_log_joint(value: jax.Array, logits: jax.Array, loc: jax.Array, log_scale: jax.Array) -> jax.Array:
    """log pi_k + log p_k(x) [..., c] of diagonal Gaussians, logits [c], loc and log_scale [c, d], value [..., d].

    The square is expanded into two matrix products, whose rounding grows with the distance in scales.
    """
    high = jax.lax.Precision.HIGHEST
    centre = jax.lax.stop_gradient(jnp.mean(loc, axis=0))
    x, shift, precision = value - centre, loc - centre, jnp.exp(-2.0 * log_scale)
    squares = jnp.matmul(jnp.square(x), precision.T, precision=high) + jnp.sum(jnp.square(shift) * precision, axis=-1)
    squares = squares - 2.0 * jnp.matmul(x, (shift * precision).T, precision=high)
    return _log_peaks(logits, log_scale) - 0.5 * squares


def _log_peaks(logits: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Log weight times density at the location, of each component."""
    return jax.nn.log_softmax(logits) - jnp.sum(log_scale, axis=-1) - 0.5 * log_scale.shape[-1] * LOG_2PI


def _diagonal_log_prob(
    joint: jax.Array, value: jax.Array, logits: jax.Array, loc: jax.Array, log_scale: jax.Array
) -> jax.Array:
    """Sum over the components of ``joint``, whose largest term is computed again without cancellation.

    Rounding matters where one component is likelier than all others by far: where they are level, distances are short.
    """
    best = jnp.argmax(joint, axis=-1)
    largest = jnp.take_along_axis(joint, best[..., None], axis=-1)
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)  # far away, -inf less itself would be nan
    squares = jnp.sum(jnp.square((value - loc[best]) * jnp.exp(-log_scale[best])), axis=-1)
    return _log_peaks(logits, log_scale)[best] - 0.5 * squares + log_sum_exp(joint - largest, axis=-1)
