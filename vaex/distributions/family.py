"""What a family of distributions is made of: its registration as a pytree, and base classes that check shapes."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions._shapes import check_event_ndims, check_sample_shape, check_value
from vaex.ops.arrays import sum_trailing

T = TypeVar("T")


def static(*, default: object = dataclasses.MISSING) -> Any:
    """Declare a field that belongs to the pytree's structure rather than its leaves, and is fixed under jit and vmap."""
    return dataclasses.field(default=default, metadata={"static": True})


@typing.dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static, dataclasses.field))
def family(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen dataclass whose fields are pytree leaves, except those declared with ``static``.

    A class that defines its constructor must let it take every field by keyword, whatever the field holds: unflattening
    passes leaves that are no arrays.

    Example:
      >>> @family
      ... class Exponential(Elementwise):
      ...     rate: jax.Array
      ...     event_ndims: int = static(default=1)
      ...     def _sample(self, key, shape):
      ...         return jax.random.exponential(key, shape) / self.rate
      ...     def _log_density(self, value):
      ...         return jnp.log(self.rate) - self.rate * value
      >>> d = Exponential(jnp.ones((4, 3)))
      >>> d.log_prob(d.sample(jax.random.key(0), (5,))).shape
      (5, 4)
    """
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, eq=False)(cls))


class BaseDistribution:
    """A ``Distribution`` that checks what it is given, for families that define ``_sample`` and ``_log_prob``."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes over independent distributions."""
        raise NotImplementedError

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Axes of one event; ``log_prob`` sums over them."""
        raise NotImplementedError

    @property
    def mean(self) -> jax.Array | None:
        """Closed form, where a family has one; else None."""
        return None

    @property
    def variance(self) -> jax.Array | None:
        """Closed form, where a family has one; else None."""
        return None

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draw an array of ``shape``, which ends in the batch and event shapes."""
        raise NotImplementedError

    def _log_prob(self, value: jax.Array) -> jax.Array:
        """Log-probability of a value whose shape has been checked."""
        raise NotImplementedError

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw ``[*sample_shape, *batch_shape, *event_shape]``.

        Raises: TypeError if ``sample_shape`` is not a tuple.
        """
        sample_shape = check_sample_shape(f"{type(self).__name__}.sample", sample_shape)
        return self._sample(key, sample_shape + self.batch_shape + self.event_shape)

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-probability in nats, summed over the event axes: ``[..., *batch_shape]``, float32 or wider.

        Args:
          value: ``[..., *batch_shape, *event_shape]``; batch axes may broadcast, event axes may not.
        Raises: ValueError if the shapes disagree.
        """
        value = jnp.asarray(value)
        check_value(f"{type(self).__name__}.log_prob", value.shape, self.batch_shape, self.event_shape)
        return self._log_prob(value)


class Elementwise(BaseDistribution):
    """Independent elements, given by ``_log_density``: the last ``event_ndims`` axes of the parameters are one event.

    The first field has the shape of the distribution.
    """

    event_ndims: int

    @property
    def _shape(self) -> tuple[int, ...]:
        first = dataclasses.fields(self)[0].name  # type: ignore[arg-type]
        return np.shape(getattr(self, first))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes over independent distributions."""
        shape = self._shape
        check_event_ndims(type(self).__name__, shape, self.event_ndims)
        return shape[: len(shape) - self.event_ndims]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The last ``event_ndims`` axes."""
        shape = self._shape
        check_event_ndims(type(self).__name__, shape, self.event_ndims)
        return shape[len(shape) - self.event_ndims :]

    def _log_density(self, value: jax.Array) -> jax.Array:
        """Log-probability of each element."""
        raise NotImplementedError

    def _log_prob(self, value: jax.Array) -> jax.Array:
        if self.event_ndims < 2:
            return sum_trailing(self._log_density(value), self.event_ndims)
        # on one flat event axis: XLA's CPU loops over an image's last axis, one channel wide, are not vectorised
        flat = jax.tree.map(self._flatten_event, dataclasses.replace(self, event_ndims=1))  # type: ignore[type-var]
        return sum_trailing(flat._log_density(self._flatten_event(value)), 1)

    def _flatten_event(self, x: jax.Array) -> jax.Array:
        return jnp.reshape(x, (*np.shape(x)[: np.ndim(x) - self.event_ndims], math.prod(self.event_shape)))
