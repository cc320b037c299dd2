"""Mixture of discretized logistics whose colour channels depend on one another."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.distributions._location_scale import UNSET, Unset, resolve_log_scale, set_fields
from vaex.distributions._shapes import check_event_ndims
from vaex.distributions.discretized_logistic import level_log_prob
from vaex.distributions.family import BaseDistribution, family, static
from vaex.ops.arrays import lift, sum_trailing
from vaex.ops.scalars import softplus

_LEAST_LOG_SCALE = -7.0  # of PixelCNN++, on its scale of [-1, 1]


@family
class DiscretizedLogisticMixture(BaseDistribution):
    r"""Per pixel a mixture of K discretized logistics, over all colour channels at once.

    In component k, channel i has the location :math:`m_{ki} + \sum_{j<i} c_{kij}(x_j - 1/2)` given the channels before it.
    Locations, scales and values are in units of the [0, 1] interval.

    Args:
      logits: [*batch, *pixels, K], unnormalised log-weights.
      loc: [*batch, *pixels, K, channels], m.
      scale: [*batch, *pixels, K, channels], positive.
      log_scale: its logarithm, instead of ``scale``; the field that is stored.
      coupling: [*batch, *pixels, K, channels (channels - 1) / 2]: c_10; c_20, c_21; ... row by row.
      levels: number of grid points, 256 for 8-bit data.
      event_ndims: how many trailing axes of the value [*batch, *pixels, channels] are one event: 3 for images.
    Raises: ValueError if the shapes disagree, or unless exactly one of ``scale`` and ``log_scale`` is given.
    Example:
      >>> d = DiscretizedLogisticMixture.from_parameters(jnp.zeros((8, 8, 20)), channels=3)  # 2 components
      >>> d.sample(jax.random.key(0), (5,)).shape, d.log_prob(jnp.ones((5, 8, 8, 3))).shape
      ((5, 8, 8, 3), (5,))

    References: Salimans et al. 2017, eqs. 2-3; Child 2021 (VDVAE).
    """

    logits: jax.Array
    loc: jax.Array
    log_scale: jax.Array
    coupling: jax.Array
    levels: int = static(default=256)
    event_ndims: int = static(default=3)

    def __init__(
        self,
        logits: ArrayLike,
        loc: ArrayLike,
        scale: ArrayLike | Unset = UNSET,
        *,
        log_scale: ArrayLike | Unset = UNSET,
        coupling: ArrayLike,
        levels: int = 256,
        event_ndims: int = 3,
    ) -> None:
        log_scale = resolve_log_scale("DiscretizedLogisticMixture", scale, log_scale, "logits, loc, scale")
        set_fields(self, logits=logits, loc=loc, log_scale=log_scale, coupling=coupling)
        set_fields(self, levels=levels, event_ndims=event_ndims)

    @classmethod
    def from_parameters(
        cls, parameters: jax.Array, *, channels: int, levels: int = 256, event_ndims: int = 3
    ) -> DiscretizedLogisticMixture:
        """Read the last axis of a network's output, ``[..., K * num_parameters(channels)]``.

        Locations are PixelCNN++'s, (1 + output) / 2; log-scales bend smoothly to a floor at its -7; couplings are
        tanh of the output. An output of zeros centres every component at mid-grey.

        Raises: ValueError if the last axis does not divide evenly.
        """
        each, shape = cls.num_parameters(channels), np.shape(parameters)
        if not shape or shape[-1] == 0 or shape[-1] % each:
            raise ValueError(
                f"DiscretizedLogisticMixture: parameters has shape {shape}, expected [..., K * {each}] for {channels} "
                "channels; size the last layer with num_parameters"
            )
        components = shape[-1] // each
        logits, rest = parameters[..., :components], parameters[..., components:]
        rest = rest.reshape((*shape[:-1], components, each - 1))
        loc, log_scale, coupling = jnp.split(rest, [channels, 2 * channels], axis=-1)
        floored = softplus(log_scale - _LEAST_LOG_SCALE) + _LEAST_LOG_SCALE
        return cls(
            logits,
            0.5 + 0.5 * loc,
            log_scale=floored - math.log(2.0),
            coupling=jnp.tanh(coupling),
            levels=levels,
            event_ndims=event_ndims,
        )

    @staticmethod
    def num_parameters(channels: int) -> int:
        """Outputs per pixel and component: 1 + 2 c + c (c - 1) / 2, so 10 for colour and 3 for grey."""
        return 1 + 2 * channels + channels * (channels - 1) // 2

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes over independent images."""
        shape = self._value_shape
        return shape[: len(shape) - self.event_ndims]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The last ``event_ndims`` axes of ``[*batch, *pixels, channels]``."""
        shape = self._value_shape
        return shape[len(shape) - self.event_ndims :]

    @property
    def mean(self) -> jax.Array:
        """Image to show: locations averaged over components, each channel given those before, within [0, 1].

        The exact expectation differs where a scale is large, by rounding and clipping at 0 and 1.
        """
        logits, loc, _, coupling = self._lifted()
        weights = jax.nn.softmax(logits, axis=-1)
        channels: list[jax.Array] = []
        for i in range(loc.shape[-1]):
            centre = _shifted(loc, coupling, i, [x[..., None] for x in channels])
            channels.append(jnp.sum(weights * jnp.clip(centre, 0.0, 1.0), axis=-1))
        return jnp.stack(channels, axis=-1)

    @property
    def _value_shape(self) -> tuple[int, ...]:
        shapes = [np.shape(x) for x in (self.logits, self.loc, self.log_scale, self.coupling)]
        logits, loc, log_scale, coupling = shapes
        channels = loc[-1] if loc else 0
        expected = (logits, (*logits, channels), (*logits, channels), (*logits, channels * (channels - 1) // 2))
        if not logits or tuple(shapes) != expected:
            raise ValueError(
                f"DiscretizedLogisticMixture: logits, loc, log_scale and coupling have shapes {logits}, {loc}, "
                f"{log_scale} and {coupling}, expected {', '.join(map(str, expected))}; build it with from_parameters"
            )
        value = (*logits[:-1], channels)
        check_event_ndims("DiscretizedLogisticMixture", value, self.event_ndims)
        if self.event_ndims < 1 or self.levels < 2:
            raise ValueError(
                f"DiscretizedLogisticMixture: event_ndims is {self.event_ndims} and levels is {self.levels}, expected at "
                "least 1 and 2; channels of one pixel share a component, so they are one event"
            )
        return value

    def _lifted(self) -> list[jax.Array]:
        return lift(self.logits, self.loc, self.log_scale, self.coupling)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        logits, loc, log_scale, coupling = self._lifted()
        key_index, key_noise = jax.random.split(key)
        index = jax.random.categorical(key_index, logits, axis=-1, shape=shape[:-1])[..., None, None]

        def chosen(x: jax.Array) -> jax.Array:
            x = jnp.broadcast_to(x, shape[:-1] + x.shape[-2:])
            return jnp.take_along_axis(x, index, axis=-2)[..., 0, :]

        loc, log_scale, coupling = chosen(loc), chosen(log_scale), chosen(coupling)
        noise = jax.random.logistic(key_noise, shape, loc.dtype)
        top = self.levels - 1
        channels: list[jax.Array] = []
        for i in range(shape[-1]):
            value = _shifted(loc, coupling, i, channels) + jnp.exp(log_scale[..., i]) * noise[..., i]
            channels.append(jnp.round(jnp.clip(value, 0.0, 1.0) * top) / top)
        return jnp.stack(channels, axis=-1)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        value, *parameters = lift(value, *[self.logits, self.loc, self.log_scale, self.coupling])
        logits, loc, log_scale, coupling = parameters
        level = jnp.round(value * (self.levels - 1))
        channels = [value[..., i, None] for i in range(value.shape[-1])]
        total = jax.nn.log_softmax(logits, axis=-1)
        for i in range(value.shape[-1]):
            centre = _shifted(loc, coupling, i, channels)
            total = total + level_log_prob(level[..., i, None], centre, log_scale[..., i], self.levels)
        return sum_trailing(jax.nn.logsumexp(total, axis=-1), self.event_ndims - 1)


def _shifted(loc: jax.Array, coupling: jax.Array, i: int, earlier: list[jax.Array]) -> jax.Array:
    """Location of channel ``i`` given the channels before it."""
    first = i * (i - 1) // 2
    return loc[..., i] + sum(coupling[..., first + j] * (earlier[j] - 0.5) for j in range(i))
