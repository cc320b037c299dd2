"""What the families share: registration as pytrees, shape checks in words, dtypes, sums over event axes."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")


def static(*, default: Any = dataclasses.MISSING) -> Any:
    """A field that is part of the pytree's structure rather than an array: it is fixed under jit and vmap."""
    return dataclasses.field(default=default, metadata={"static": True})


@typing.dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static, dataclasses.field))
def family(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen dataclass whose fields are pytree leaves, except those declared with ``static``.

    A constructor of the class's own must take all fields by keyword, whatever they hold: unflattening calls it.
    """
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, eq=False)(cls))


def is_array(x: Any) -> bool:
    """True for what has a shape to check: unflattening also passes through sentinels, axis numbers and shardings."""
    return isinstance(x, jax.Array | np.ndarray | np.generic)


def lift(*arrays: Any) -> list[jax.Array]:
    """The arrays in one floating dtype of at least 32 bits: hundreds of nats need more than bfloat16's eight bits."""
    dtypes = [x for x in arrays if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    dtype = jnp.result_type(*dtypes) if dtypes else jnp.result_type(float)
    if dtype.itemsize < 4:
        dtype = jnp.dtype(jnp.float32)
    return [jnp.asarray(x, dtype) for x in arrays]


def narrow(x: jax.Array, *parameters: Any) -> jax.Array:
    """``x`` back in the floating dtype of the parameters."""
    dtype = jnp.result_type(*parameters)
    return x.astype(dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.result_type(float))


def sum_trailing(x: jax.Array, ndims: int) -> jax.Array:
    """Sum over the last ``ndims`` axes."""
    return jnp.sum(x, axis=tuple(range(x.ndim - ndims, x.ndim)))


def inner(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sum of a * b over the last axis, as a matrix product, in full precision.

    Written as a sum of products whose result meets the last axis again, some sizes come out wrong by their own magnitude on
    CPU with jax 0.10 (in the fusions that its compiler gives to the library YNN, beyond the first 32,768 elements).
    """
    return jnp.einsum("...i,...i->...", a, b, precision=jax.lax.Precision.HIGHEST)


def broadcastable(*shapes: tuple[int, ...]) -> bool:
    """Whether the shapes broadcast together."""
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True


def match(owner: Any, *names: str) -> None:
    """Broadcast the named fields of a new record to one shape, so that each carries all batch axes through vmap.

    One of the fields must already have that shape: (3, 1) beside (3,) is a slip, not a request for (3, 3).
    """
    values = [getattr(owner, name) for name in names]
    if not any(is_array(x) for x in values) or not all(is_array(x) or isinstance(x, int | float) for x in values):
        return
    shapes = [np.shape(x) for x in values]
    shape = np.broadcast_shapes(*shapes) if broadcastable(*shapes) else None
    if shape not in shapes:
        got = ", ".join(f"{name} {s}" for name, s in zip(names, shapes, strict=True))
        raise ValueError(
            f"{type(owner).__name__}: got shapes {got}, expected one shape that the others broadcast to; "
            "add or drop axes of length 1"
        )
    for name, value, s in zip(names, values, shapes, strict=True):
        if s != shape:
            dtype = None if is_array(value) else jnp.result_type(*[x for x in values if is_array(x)], float)
            object.__setattr__(owner, name, jnp.broadcast_to(jnp.asarray(value, dtype), shape))


def match_leading(owner: Any, vector: str, scalar: str) -> None:
    """Broadcast the field ``scalar`` of a new record to the shape of the field ``vector`` without its last axis."""
    x, value = getattr(owner, vector), getattr(owner, scalar)
    if not is_array(x) or not (is_array(value) or isinstance(value, int | float)) or np.ndim(x) < 1:
        return
    expected, got = np.shape(x)[:-1], np.shape(value)
    if len(got) >= len(expected):  # equal, or left to the checks of the methods
        return
    if not broadcastable(got, expected) or np.broadcast_shapes(got, expected) != expected:
        raise ValueError(
            f"{type(owner).__name__}: {scalar} has shape {got}, expected {expected}, that of {vector} without its last axis; "
            "give a scalar or one value for each"
        )
    dtype = jnp.result_type(value if is_array(value) else x)
    object.__setattr__(owner, scalar, jnp.broadcast_to(jnp.asarray(value, dtype), expected))


def check_leading(owner: Any, vector: str, scalar: str) -> None:
    """The field ``scalar`` must have the shape of the field ``vector`` without its last axis."""
    expected, got = np.shape(getattr(owner, vector))[:-1], np.shape(getattr(owner, scalar))
    if got != expected:
        raise ValueError(
            f"{type(owner).__name__}: {scalar} has shape {got}, expected {expected}, that of {vector} without its last axis; "
            "give a scalar or one value for each"
        )


def align(owner: Any, **trailing: int) -> None:
    """Give the named fields of a new record equally many batch axes, by axes of length 1 in front.

    ``trailing`` counts each field's own last axes. Without this a shared field would lose its place under vmap.
    """
    values = {name: getattr(owner, name) for name in trailing}
    if not all(is_array(x) and np.ndim(x) >= trailing[name] for name, x in values.items()):
        return
    most = max(np.ndim(x) - trailing[name] for name, x in values.items())
    for name, x in values.items():
        missing = most - (np.ndim(x) - trailing[name])
        if missing:
            object.__setattr__(owner, name, jnp.reshape(x, (1,) * missing + np.shape(x)))


def check_sample_shape(name: str, sample_shape: Any) -> tuple[int, ...]:
    """The sample shape, which must be a tuple of ints."""
    if not isinstance(sample_shape, tuple):
        raise TypeError(f"{name}: sample_shape is {sample_shape!r}, expected a tuple; write ({sample_shape!r},)")
    return sample_shape


def check_event_ndims(name: str, shape: tuple[int, ...], event_ndims: int) -> None:
    """``event_ndims`` must lie between 0 and the number of axes."""
    if not isinstance(event_ndims, int) or not 0 <= event_ndims <= len(shape):
        raise ValueError(
            f"{name}: event_ndims is {event_ndims}, expected an int between 0 and {len(shape)} for shape {shape}; "
            "it counts the trailing axes that belong to one event"
        )


def check_value(name: str, value_shape: tuple[int, ...], batch: tuple[int, ...], event: tuple[int, ...]) -> None:
    """Event axes must agree exactly (length-1 axes don't stretch); batch axes may broadcast."""
    split = len(value_shape) - len(event)
    if split < 0 or value_shape[split:] != event or not broadcastable(value_shape[:split], batch):
        raise ValueError(
            f"{name}: value has shape {value_shape}, expected {batch + event} with sample axes in front where wanted; "
            f"its last {len(event)} axes are one event and must be {event}, the others must broadcast to {batch}"
        )


class Distribution:
    """What every family offers: ``sample``, ``log_prob``, ``batch_shape`` and ``event_shape``."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes over independent distributions."""
        raise NotImplementedError

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Axes of one event; ``log_prob`` sums over them."""
        raise NotImplementedError

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        raise NotImplementedError

    def _log_prob(self, value: jax.Array) -> jax.Array:
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


class Elementwise(Distribution):
    """Independent elements: the last ``event_ndims`` axes of the parameters are one event."""

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
        raise NotImplementedError

    def _log_prob(self, value: jax.Array) -> jax.Array:
        if self.event_ndims < 2:
            return sum_trailing(self._log_density(value), self.event_ndims)
        # on one flat event axis: XLA's CPU loops over an image's last axis, one channel wide, are not vectorised
        flat = jax.tree.map(self._flatten_event, dataclasses.replace(self, event_ndims=1))  # type: ignore[type-var]
        return sum_trailing(flat._log_density(self._flatten_event(value)), 1)

    def _flatten_event(self, x: jax.Array) -> jax.Array:
        return jnp.reshape(x, (*np.shape(x)[: np.ndim(x) - self.event_ndims], math.prod(self.event_shape)))
