"""Activation functions by name, and a smooth bound for log scales."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaex.errors import UserError, nearest

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "identity": lambda x: x,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def activation_function(name: str) -> Callable[[jax.Array], jax.Array]:
    """Return the elementwise function called ``name``, which keeps shape and dtype.

    Args:
      name: elu, gelu (tanh approximation), identity, leaky_relu (slope 0.01), relu, sigmoid, silu, softplus or tanh.
    Raises: UserError for any other name; the message points to the nearest known ones.
    Example:
      >>> activation_function("relu")(jax.numpy.array([-1.0, 2.0]))
      Array([0., 2.], dtype=float32)
      >>> activation_function("rely")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: activation='rely' is not known; did you mean relu or elu or gelu? Known: ...
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UserError(f"activation={name!r} is not known; {nearest(str(name), ACTIVATIONS)}")
    return ACTIVATIONS[name]


def soft_clip(log_scale: jax.Array, limit: float = 7.0) -> jax.Array:
    """Map a log scale smoothly into (-limit, limit): near the identity around 0, so that no scale overflows.

    Example:
      >>> [round(float(v), 2) for v in soft_clip(jnp.array([0.1, -100.0]))]
      [0.1, -7.0]
    """
    return limit * jnp.tanh(log_scale / limit)
