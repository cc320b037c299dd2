"""The logistic distribution, cut into equally spaced levels of [0, 1]."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.distributions._location_scale import UNSET, LocationScale, Unset, resolve_log_scale, set_fields
from vaex.distributions._shapes import match
from vaex.distributions.family import family, static
from vaex.ops.arrays import lift, sum_trailing
from vaex.ops.scalars import log_decay, softplus

_STEEPEST = 60.0  # scales below exp(-60) count as exp(-60), lest float32 overflow; every bin is certain long before


@family
class DiscretizedLogistic(LocationScale):
    r"""Logistic cut into ``levels`` bins around k / (levels - 1), the two outer bins reaching to infinity.

    :math:`P(k) = \sigma((e_{k+1}-\mu)/s) - \sigma((e_k-\mu)/s)`, evaluated in logs as a product of three factors, so
    it sums to one over the grid and stays finite in any tail.

    Args:
      loc: [*batch, *event], :math:`\mu`, in units of the [0, 1] interval.
      scale: s > 0, in the same units; broadcast to the shape of ``loc``. (PixelCNN++ works on [-1, 1]: its scales are
        twice as large.)
      log_scale: log s, instead of ``scale``; the field that is stored.
      levels: number of grid points, 256 for 8-bit data.
      event_ndims: how many trailing axes are one event; ``log_prob`` and ``entropy`` sum over them.
    Raises: ValueError if the shapes disagree, if ``levels`` < 2, or unless exactly one of ``scale`` and ``log_scale`` is given.
    Example:
      >>> d = DiscretizedLogistic(jnp.array([0.5]), 1e-9, levels=3)
      >>> d.log_prob(jnp.array([[0.5]])), d.mode
      (Array([0.], dtype=float32), Array([0.5], dtype=float32))

    References: Kingma et al. 2016, appendix; Salimans et al. 2017, eq. 2.
    """

    loc: jax.Array
    log_scale: jax.Array
    levels: int = static(default=256)
    event_ndims: int = static(default=1)

    def __init__(
        self,
        loc: ArrayLike,
        scale: ArrayLike | Unset = UNSET,
        *,
        log_scale: ArrayLike | Unset = UNSET,
        levels: int = 256,
        event_ndims: int = 1,
    ) -> None:
        log_scale = resolve_log_scale("DiscretizedLogistic", scale, log_scale)
        set_fields(self, loc=loc, log_scale=log_scale, levels=levels, event_ndims=event_ndims)
        match(self, "loc", "log_scale")
        if isinstance(self.levels, int) and self.levels < 2:
            raise ValueError(f"DiscretizedLogistic: levels is {self.levels}, expected 2 or more; 8-bit data has 256")

    @property
    def log_probabilities(self) -> jax.Array:
        """Log-probability of every level, ``[*batch, *event, levels]``, float32 or wider."""
        loc, log_scale = lift(self.loc, self.log_scale)
        return level_log_prob(
            jnp.arange(self.levels, dtype=loc.dtype), loc[..., None], log_scale[..., None], self.levels
        )

    @property
    def mean(self) -> jax.Array:
        """Expected value of the levels, elementwise, in [0, 1]; not the location. Costs a sigmoid for each level."""
        loc, log_scale = lift(self.loc, self.log_scale)
        return level_mean(loc, log_scale, self.levels)

    @property
    def mode(self) -> jax.Array:
        """The most probable level in [0, 1], elementwise: the nearest inner level or one of the outer two."""
        loc, log_scale = lift(self.loc, self.log_scale)
        top = self.levels - 1
        inner = jnp.clip(jnp.round(loc * top), min(1, top - 1), max(1, top - 1))
        candidates = jnp.stack([inner, jnp.zeros_like(inner), jnp.full_like(inner, top)])
        best = jnp.argmax(level_log_prob(candidates, loc, log_scale, self.levels), axis=0)
        return jnp.take_along_axis(candidates, best[None], axis=0)[0] / top

    @property
    def variance(self) -> jax.Array:
        """Variance of the levels, elementwise. Costs one pass over the levels."""
        loc, log_scale = lift(self.loc, self.log_scale)
        return _spread(loc, log_scale, self.levels)[0]

    def entropy(self) -> jax.Array:
        """Entropy in nats, summed over the event axes: ``[*batch_shape]``. Costs one pass over the levels."""
        loc, log_scale = lift(self.loc, self.log_scale)
        return sum_trailing(_spread(loc, log_scale, self.levels)[1], self.event_ndims)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        loc, log_scale = lift(self.loc, self.log_scale)
        top = self.levels - 1
        value = loc + jnp.exp(log_scale) * jax.random.logistic(key, shape, loc.dtype)
        return jnp.round(jnp.clip(value, 0.0, 1.0) * top) / top

    def _log_density(self, value: jax.Array) -> jax.Array:
        value, loc, log_scale = lift(value, self.loc, self.log_scale)
        return level_log_prob(jnp.round(value * (self.levels - 1)), loc, log_scale, self.levels)


def level_log_prob(level: jax.Array, loc: jax.Array, log_scale: jax.Array, levels: int) -> jax.Array:
    """Log-probability of bin ``level`` (0 ... levels - 1, as floats), elementwise.

    With a, b the scaled lower and upper edges, sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^(a - b)).
    """
    top = levels - 1
    precision = jnp.exp(jnp.minimum(-log_scale, _STEEPEST))
    lower = ((level - 0.5) / top - loc) * precision
    upper = ((level + 0.5) / top - loc) * precision
    width = precision / top
    log_width = jnp.minimum(-log_scale, _STEEPEST) - jnp.log(jnp.asarray(top, width.dtype))
    first, last = level <= 0, level >= top
    left = jnp.where(first, 0.0, softplus(lower))
    right = jnp.where(last, 0.0, softplus(-upper))
    return jnp.where(first | last, 0.0, log_width + log_decay(width)) - left - right


@functools.partial(jax.jit, static_argnames="levels")  # fused: the axis over levels is never stored
def level_mean(loc: jax.Array, log_scale: jax.Array, levels: int) -> jax.Array:
    """Expected level in [0, 1], elementwise: E[k] is the sum of P(k >= j) over j from 1 on."""
    edges = (jnp.arange(levels - 1, dtype=loc.dtype) + 0.5) / (levels - 1)
    precision = jnp.exp(jnp.minimum(-log_scale, _STEEPEST))
    return jnp.mean(jax.nn.sigmoid((loc[..., None] - edges) * precision[..., None]), axis=-1)


@functools.partial(jax.jit, static_argnames="levels")
def _spread(loc: jax.Array, log_scale: jax.Array, levels: int) -> tuple[jax.Array, jax.Array]:
    """Variance and entropy over the levels, elementwise."""
    level = jnp.arange(levels, dtype=loc.dtype)
    log_prob = level_log_prob(level, loc[..., None], log_scale[..., None], levels)
    prob, grid = jnp.exp(log_prob), level / (levels - 1)
    centre = jnp.sum(prob * grid, axis=-1, keepdims=True)
    return jnp.sum(prob * jnp.square(grid - centre), axis=-1), -jnp.sum(prob * log_prob, axis=-1)
