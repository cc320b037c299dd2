"""The logistic distribution, cut into equally spaced levels of [0, 1]."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from vaex.distributions._base import Elementwise, family, lift, match, static, sum_trailing
from vaex.distributions._numeric import log_decay, softplus

_STEEPEST = 60.0  # scales below exp(-60) count as exp(-60), lest float32 overflow; every bin is certain long before


@family
class DiscretizedLogistic(Elementwise):
    r"""Logistic cut into ``levels`` bins around k / (levels - 1), the two outer bins reaching to infinity.

    :math:`P(k) = \sigma((e_{k+1}-\mu)/s) - \sigma((e_k-\mu)/s)`, evaluated in logs as a product of three factors, so
    it sums to one over the grid and stays finite in any tail.

    Args:
      mean: [*batch, *event], location, in units of the [0, 1] interval.
      log_scale: log s, in the same units; broadcast to the mean's shape. (PixelCNN++ works on [-1, 1]: its log-scales
        are larger by log 2.)
      levels: number of grid points, 256 for 8-bit data.
      event_ndims: how many trailing axes are one event; ``log_prob`` and ``entropy`` sum over them.
    Raises: ValueError if the shapes disagree or ``levels`` < 2.
    Example:
      >>> d = DiscretizedLogistic(jnp.array([0.5]), jnp.array([-20.0]), levels=3)
      >>> d.log_prob(jnp.array([[0.5]])), d.mode
      (Array([0.], dtype=float32), Array([0.5], dtype=float32))

    References: Kingma et al. 2016, appendix; Salimans et al. 2017, eq. 2.
    """

    mean: jax.Array
    log_scale: jax.Array
    levels: int = static(default=256)
    event_ndims: int = static(default=1)

    def __post_init__(self) -> None:
        match(self, "mean", "log_scale")
        if isinstance(self.levels, int) and self.levels < 2:
            raise ValueError(f"DiscretizedLogistic: levels is {self.levels}, expected 2 or more; 8-bit data has 256")

    @property
    def log_probabilities(self) -> jax.Array:
        """Of every level, ``[*batch, *event, levels]``, float32 or wider."""
        mean, log_scale = lift(self.mean, self.log_scale)
        return level_log_prob(
            jnp.arange(self.levels, dtype=mean.dtype), mean[..., None], log_scale[..., None], self.levels
        )

    @property
    def expectation(self) -> jax.Array:
        """Expected value of the levels in [0, 1], elementwise; not ``mean``, the location, which may lie outside."""
        mean, log_scale = lift(self.mean, self.log_scale)
        return _moments(mean, log_scale, self.levels)[0]

    @property
    def mode(self) -> jax.Array:
        """The most probable level in [0, 1], elementwise: the nearest inner level or one of the outer two."""
        mean, log_scale = lift(self.mean, self.log_scale)
        top = self.levels - 1
        inner = jnp.clip(jnp.round(mean * top), min(1, top - 1), max(1, top - 1))
        candidates = jnp.stack([inner, jnp.zeros_like(inner), jnp.full_like(inner, top)])
        best = jnp.argmax(level_log_prob(candidates, mean, log_scale, self.levels), axis=0)
        return jnp.take_along_axis(candidates, best[None], axis=0)[0] / top

    @property
    def variance(self) -> jax.Array:
        """Variance of the levels, elementwise."""
        mean, log_scale = lift(self.mean, self.log_scale)
        return _moments(mean, log_scale, self.levels)[1]

    def entropy(self) -> jax.Array:
        """Entropy in nats, summed over the event axes: ``[*batch_shape]``. Costs one pass over the levels."""
        mean, log_scale = lift(self.mean, self.log_scale)
        return sum_trailing(_moments(mean, log_scale, self.levels)[2], self.event_ndims)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        mean, log_scale = lift(self.mean, self.log_scale)
        top = self.levels - 1
        value = mean + jnp.exp(log_scale) * jax.random.logistic(key, shape, mean.dtype)
        return jnp.round(jnp.clip(value, 0.0, 1.0) * top) / top

    def _log_density(self, value: jax.Array) -> jax.Array:
        value, mean, log_scale = lift(value, self.mean, self.log_scale)
        return level_log_prob(jnp.round(value * (self.levels - 1)), mean, log_scale, self.levels)


def level_log_prob(level: jax.Array, mean: jax.Array, log_scale: jax.Array, levels: int) -> jax.Array:
    """Log-probability of bin ``level`` (0 ... levels - 1, as floats), elementwise.

    With a, b the scaled lower and upper edges, sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^(a - b)).
    """
    top = levels - 1
    precision = jnp.exp(jnp.minimum(-log_scale, _STEEPEST))
    lower = ((level - 0.5) / top - mean) * precision
    upper = ((level + 0.5) / top - mean) * precision
    width = precision / top
    log_width = jnp.minimum(-log_scale, _STEEPEST) - jnp.log(jnp.asarray(top, width.dtype))
    first, last = level <= 0, level >= top
    left = jnp.where(first, 0.0, softplus(lower))
    right = jnp.where(last, 0.0, softplus(-upper))
    return jnp.where(first | last, 0.0, log_width + log_decay(width)) - left - right


@functools.partial(jax.jit, static_argnames="levels")  # fused: the axis over levels is never stored
def _moments(mean: jax.Array, log_scale: jax.Array, levels: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean, variance and entropy over the levels, elementwise."""
    level = jnp.arange(levels, dtype=mean.dtype)
    log_prob = level_log_prob(level, mean[..., None], log_scale[..., None], levels)
    prob, grid = jnp.exp(log_prob), level / (levels - 1)
    expectation = jnp.sum(prob * grid, axis=-1)
    variance = jnp.sum(prob * jnp.square(grid - expectation[..., None]), axis=-1)
    return expectation, variance, -jnp.sum(prob * log_prob, axis=-1)
