"""Mixture of discretized logistics whose colour channels depend on one another."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.distributions._location_scale import UNSET, Unset, resolve_log_scale, set_fields
from vaex.distributions._shapes import check_event_ndims
from vaex.distributions.discretized_logistic import level_log_prob, level_mean
from vaex.distributions.family import BaseDistribution, family, static
from vaex.ops.arrays import lift, sum_trailing
from vaex.ops.log_sum_exp import log_sum_exp
from vaex.ops.scalars import softplus

_LEAST_LOG_SCALE = -7.0  # of PixelCNN++, on its scale of [-1, 1]
_STEEPEST = 60.0  # scales below exp(-60) count as exp(-60), lest float32 overflow
_LEGENDRE = np.transpose(np.polynomial.legendre.leggauss(5))
_NODES, _WEIGHTS = 0.5 + 0.5 * _LEGENDRE[:, 0], 0.5 * _LEGENDRE[:, 1]  # on [0, 1]


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
        """Expected value in [0, 1], elementwise: exact for the first channel, a close estimate for the others.

        It is off by a quarter of a level at most where there are few levels, and by at most 0.002 from 64 of them on.

        Those depend on the channels before them, of which each is integrated out at seven nodes: exactly it would take as many
        terms as there are colours. Costs a sigmoid for each level and component, and some 200 more for three channels; a second
        for ten images of CIFAR-10.
        """
        logits, loc, log_scale, coupling = self._lifted()
        return _mean(jax.nn.softmax(logits, axis=-1), loc, log_scale, coupling, self.levels)

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
        return sum_trailing(log_sum_exp(total, axis=-1), self.event_ndims - 1)


@functools.partial(jax.jit, static_argnames="levels")  # fused: the axes over nodes are never stored
def _mean(weights: jax.Array, loc: jax.Array, log_scale: jax.Array, coupling: jax.Array, levels: int) -> jax.Array:
    """Mean over components, and over earlier channels, of each channel's mean given those: [..., channels]."""
    scale = jnp.exp(jnp.maximum(log_scale, -_STEEPEST))
    share, means = jnp.ones(()), [jnp.sum(weights * level_mean(loc[..., 0], log_scale[..., 0], levels), axis=-1)]
    earlier: list[jax.Array] = []  # of channel j [nodes, ..., nodes, ..., K], with j + 1 axes over nodes in front
    for i in range(loc.shape[-1] - 1):
        value, node_share = _nodes(_shifted(loc, coupling, i, earlier), scale[..., i], levels)
        if i + 2 < loc.shape[-1]:  # lest its logarithms be taken again for all nodes of the next channel
            value = jax.lax.optimization_barrier(value)
        earlier.append(value)
        share = share * node_share
        given = _level_mean(_shifted(loc, coupling, i + 1, earlier), scale[..., i + 1], levels)
        means.append(jnp.sum(weights * jnp.sum(share * given, axis=tuple(range(i + 1))), axis=-1))
    return jnp.stack(means, axis=-1)


def _nodes(loc: jax.Array, scale: jax.Array, levels: int) -> tuple[jax.Array, jax.Array]:
    """Values of a channel and their shares, [nodes, ...]: 0, 1 and five quantiles between them."""
    below, above = jax.nn.sigmoid(-loc / scale), jax.nn.sigmoid((loc - 1.0) / scale)
    node, weight = (jnp.asarray(x, loc.dtype).reshape(-1, *(1,) * loc.ndim) for x in (_NODES, _WEIGHTS))
    inside = jnp.maximum(1.0 - below - above, 0.0)
    limits = jnp.finfo(loc.dtype)  # of a quantile whose logarithms and their slopes are finite
    quantile = jnp.clip(below + node * inside, limits.tiny, 1.0 - limits.epsneg)
    value = jnp.clip(loc + scale * (jnp.log(quantile) - jnp.log1p(-quantile)), 0.0, 1.0)
    value = jnp.where(scale * (levels - 1) < 0.5, jnp.round(value * (levels - 1)) / (levels - 1), value)
    ends = jnp.stack([jnp.zeros_like(loc), jnp.ones_like(loc)])
    return jnp.concatenate([value, ends]), jnp.concatenate([weight * inside, jnp.stack([below, above])])


def _level_mean(loc: jax.Array, scale: jax.Array, levels: int) -> jax.Array:
    """``level_mean`` to within a twentieth of a level: where the scale is under half a level, from the four edges around."""
    top = levels - 1
    below = jnp.clip(jnp.round(loc * top) - 2.0, 0.0, top)  # edges that are certainly exceeded
    narrow = below / top
    for i in range(4):
        edge = (below + (i + 0.5)) / top
        narrow = narrow + jnp.where(below + i < top, jax.nn.sigmoid((loc - edge) / scale), 0.0) / top
    return jnp.where(scale * top < 0.5, narrow, _clipped_mean(loc, scale))


def _clipped_mean(loc: jax.Array, scale: jax.Array) -> jax.Array:
    """Mean of a logistic variable clipped to [0, 1]: s (softplus(m / s) - softplus((m - 1) / s)), without cancellation."""
    wide = scale > 1.0
    width, upper = 1.0 / jnp.where(wide, scale, 1.0), (loc - 1.0) / scale
    close = jnp.log1p(jnp.expm1(width) * jax.nn.sigmoid(upper))
    return scale * jnp.where(wide, close, softplus(loc / scale) - softplus(upper))


def _shifted(loc: jax.Array, coupling: jax.Array, i: int, earlier: list[jax.Array]) -> jax.Array:
    """Location of channel ``i`` given the channels before it."""
    first = i * (i - 1) // 2
    return loc[..., i] + sum(coupling[..., first + j] * (earlier[j] - 0.5) for j in range(i))
