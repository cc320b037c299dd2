"""Gaussians in layers: the upper latents of a context, the lower ones of the context and of all above them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaex import distributions, divergences
from vaex.core import PyTree
from vaex.distributions.family import BaseDistribution, family, static
from vaex.models.sequences._sequences import moments


@family
class LayeredNormal(BaseDistribution):
    """Gaussian whose layers, the uppermost first in z [layers * d], each depend on a context and on the layers above.

    Args:
      params: one tree for each layer.
      context: [*batch, n].
      offset: [*batch, layers * d], added to the means; or zero.
      module: maps context and latents above to 2 d numbers; static.
      size: d; static.
    """

    params: tuple[PyTree, ...]
    context: jax.Array
    offset: jax.Array
    module: Any = static()
    size: int = static()

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes of the context."""
        return np.shape(self.context)[:-1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """All layers' latents."""
        return (len(self.params) * self.size,)

    @property
    def mean(self) -> jax.Array:
        """Each layer's mean, the layers above being at theirs, [*batch, layers * d]."""
        return self._at_means()[0]

    @property
    def variance(self) -> jax.Array:
        """Variance of each layer, the layers above being at their means, [*batch, layers * d]."""
        return self._at_means()[1]

    def layer(self, above: Sequence[jax.Array]) -> distributions.Normal:
        """The layer below these latents, [..., *batch, d] each: () for the uppermost."""
        leading = above[0].shape[:-1] if above else self.batch_shape
        context = jnp.broadcast_to(self.context, (*leading, self.context.shape[-1]))
        index = len(above)
        raw = self.module.apply({"params": self.params[index]}, jnp.concatenate([context, *above], axis=-1))
        mean, log_scale = moments(raw)
        if np.ndim(self.offset):
            mean = mean + self.offset[..., index * self.size : (index + 1) * self.size]
        return distributions.Normal(mean, log_scale=log_scale)

    def layers(self, z: jax.Array) -> list[distributions.Normal]:
        """All layers, given all latents z [..., *batch, layers * d]."""
        split = self.split(z)
        return [self.layer(split[:index]) for index in range(len(split))]

    def split(self, z: jax.Array) -> list[jax.Array]:
        """Latents of each layer, the uppermost first."""
        return jnp.split(z, len(self.params), axis=-1)

    def kl(self, other: LayeredNormal, z: jax.Array) -> jax.Array:
        """KL of this distribution to another, [*batch] nats: of each layer in closed form, at latents z of this one above it."""
        pairs = zip(self.layers(z), other.layers(z), strict=True)
        return sum((divergences.kl(q, p) for q, p in pairs), start=jnp.zeros(()))

    def _at_means(self) -> tuple[jax.Array, jax.Array]:
        above: list[jax.Array] = []
        variances = []
        for _ in self.params:
            layer = self.layer(above)
            above.append(layer.mean)
            variances.append(layer.variance)
        return jnp.concatenate(above, axis=-1), jnp.concatenate(variances, axis=-1)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        sample_shape = shape[: len(shape) - 1 - len(self.batch_shape)]
        above = [self.layer(()).sample(jax.random.fold_in(key, 0), sample_shape)]
        for index in range(1, len(self.params)):
            above.append(self.layer(above).sample(jax.random.fold_in(key, index)))
        return jnp.concatenate(above, axis=-1)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        pairs = zip(self.layers(value), self.split(value), strict=True)
        return sum((layer.log_prob(z) for layer, z in pairs), start=jnp.zeros(()))


@family
class FrameCodes(BaseDistribution):
    """Codes [t * d] of sequences whose frames' latents are independent.

    Args:
      frames: of batch shape [*batch, t] and event shape [d].
    """

    frames: Any

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Batch shape of the sequences."""
        return tuple(self.frames.batch_shape)[:-1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """All latents of a sequence."""
        return (self.frames.batch_shape[-1] * self.frames.event_shape[0],)

    @property
    def mean(self) -> jax.Array:
        """Means of the frames, [*batch, t * d]."""
        return self._flat(self.frames.mean)

    @property
    def variance(self) -> jax.Array:
        """Variances of the frames, [*batch, t * d]."""
        return self._flat(self.frames.variance)

    def _flat(self, z: jax.Array) -> jax.Array:
        return z.reshape(*z.shape[:-2], *self.event_shape)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self._flat(self.frames.sample(key, shape[: len(shape) - 1 - len(self.batch_shape)]))

    def _log_prob(self, value: jax.Array) -> jax.Array:
        z = value.reshape(*value.shape[:-1], self.frames.batch_shape[-1], -1)
        return jnp.sum(self.frames.log_prob(z), axis=-1)
