"""Checks of the fields, samples and values of a distribution, in words."""

from __future__ import annotations

from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from vaex.ops.arrays import broadcastable


def is_array(x: object) -> TypeGuard[jax.Array]:
    """Return True for what has a shape to check; unflattening also passes sentinels, axis numbers and shardings."""
    return isinstance(x, jax.Array | np.ndarray | np.generic)


def match(distribution: object, *names: str) -> None:
    """Broadcast the named fields of a new distribution to one shape, so that each carries all batch axes through vmap.

    One of the fields must already have that shape: (3, 1) beside (3,) is invalid input, not a request for (3, 3).
    """
    values = [getattr(distribution, name) for name in names]
    if not any(is_array(x) for x in values) or not all(is_array(x) or isinstance(x, int | float) for x in values):
        return
    shapes = [np.shape(x) for x in values]
    shape = jnp.broadcast_shapes(*shapes) if broadcastable(*shapes) else None
    if shape not in shapes:
        got = ", ".join(f"{name} {s}" for name, s in zip(names, shapes, strict=True))
        raise ValueError(
            f"{type(distribution).__name__}: got shapes {got}, expected one shape that the others broadcast to; "
            "add or drop axes of length 1"
        )
    for name, value, s in zip(names, values, shapes, strict=True):
        if s != shape:
            dtype = None if is_array(value) else jnp.result_type(*[x for x in values if is_array(x)], float)
            object.__setattr__(distribution, name, jnp.broadcast_to(jnp.asarray(value, dtype), shape))


def match_leading(distribution: object, vector: str, scalar: str) -> None:
    """Broadcast the field ``scalar`` of a new distribution to the shape of the field ``vector`` without its last axis."""
    x, value = getattr(distribution, vector), getattr(distribution, scalar)
    if not is_array(x) or not (is_array(value) or isinstance(value, int | float)) or np.ndim(x) < 1:
        return
    expected, got = np.shape(x)[:-1], np.shape(value)
    if len(got) >= len(expected):  # equal, or left to the checks of the methods
        return
    if not broadcastable(got, expected) or jnp.broadcast_shapes(got, expected) != expected:
        raise _leading_error(distribution, vector, scalar)
    dtype = jnp.result_type(value if is_array(value) else x)
    object.__setattr__(distribution, scalar, jnp.broadcast_to(jnp.asarray(value, dtype), expected))


def check_leading(distribution: object, vector: str, scalar: str) -> None:
    """Raise ValueError unless the field ``scalar`` has the shape of the field ``vector`` without its last axis."""
    expected, got = np.shape(getattr(distribution, vector))[:-1], np.shape(getattr(distribution, scalar))
    if got != expected:
        raise _leading_error(distribution, vector, scalar)


def _leading_error(distribution: object, vector: str, scalar: str) -> ValueError:
    got, expected = np.shape(getattr(distribution, scalar)), np.shape(getattr(distribution, vector))[:-1]
    return ValueError(
        f"{type(distribution).__name__}: {scalar} has shape {got}, expected {expected}, that of {vector} without its last axis; "
        "give a scalar or one value for each"
    )


def align(distribution: object, **trailing: int) -> None:
    """Give the named fields of a new distribution equally many batch axes, by axes of length 1 in front.

    ``trailing`` counts each field's own last axes. Without this a shared field would lose its place under vmap.
    """
    values = {name: getattr(distribution, name) for name in trailing}
    if not all(is_array(x) and np.ndim(x) >= trailing[name] for name, x in values.items()):
        return
    most = max(np.ndim(x) - trailing[name] for name, x in values.items())
    for name, x in values.items():
        missing = most - (np.ndim(x) - trailing[name])
        if missing:
            object.__setattr__(distribution, name, jnp.reshape(x, (1,) * missing + np.shape(x)))


def check_sample_shape(name: str, sample_shape: object) -> tuple[int, ...]:
    """Return the sample shape; TypeError if it is no tuple."""
    if not isinstance(sample_shape, tuple):
        raise TypeError(f"{name}: sample_shape is {sample_shape!r}, expected a tuple; write ({sample_shape!r},)")
    return sample_shape


def check_event_ndims(name: str, shape: tuple[int, ...], event_ndims: int) -> None:
    """Raise ValueError unless ``event_ndims`` lies between 0 and the number of axes."""
    if not isinstance(event_ndims, int) or not 0 <= event_ndims <= len(shape):
        raise ValueError(
            f"{name}: event_ndims is {event_ndims}, expected an int between 0 and {len(shape)} for shape {shape}; "
            "it counts the trailing axes that belong to one event"
        )


def check_value(name: str, value_shape: tuple[int, ...], batch: tuple[int, ...], event: tuple[int, ...]) -> None:
    """Raise ValueError unless event axes agree exactly (axes of length 1 don't stretch) and batch axes broadcast."""
    split = len(value_shape) - len(event)
    if split < 0 or value_shape[split:] != event or not broadcastable(value_shape[:split], batch):
        raise ValueError(
            f"{name}: value has shape {value_shape}, expected {batch + event} with sample axes in front where wanted; "
            f"its last {len(event)} axes are one event and must be {event}, the others must broadcast to {batch}"
        )
