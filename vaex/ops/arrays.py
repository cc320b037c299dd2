"""Dtypes wide enough for nats, sums over trailing axes, and products in full precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def lift(*arrays: ArrayLike) -> list[jax.Array]:
    """Return the arrays in one floating dtype of at least 32 bits: hundreds of nats need more than bfloat16's eight bits."""
    dtypes = [x for x in arrays if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    dtype = jnp.result_type(*dtypes) if dtypes else jnp.result_type(float)
    if dtype.itemsize < 4:
        dtype = jnp.dtype(jnp.float32)
    return [jnp.asarray(x, dtype) for x in arrays]


def narrow(x: jax.Array, *parameters: ArrayLike) -> jax.Array:
    """Return ``x`` in the floating dtype of the parameters."""
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
    """Return True if the shapes broadcast together."""
    try:
        jnp.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True
