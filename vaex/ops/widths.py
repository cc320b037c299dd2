"""Width of numbers: a run computes in float32 and int32, whatever ``jax_enable_x64`` says, so that its numbers are the same."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


def is_wide() -> bool:
    """Return True if new arrays are of 64 bits here."""
    return jax.config.jax_enable_x64  # type: ignore[attr-defined]


def single_width() -> contextlib.AbstractContextManager[object]:
    """A block in which new arrays are of 32 bits, as they are by default; what is compiled outside stays as it is.

    Example:
      >>> import jax.numpy as jnp
      >>> with jax.enable_x64(True):
      ...     with single_width():
      ...         inner = jnp.zeros(1).dtype
      ...     inner, jnp.zeros(1).dtype
      (dtype('float32'), dtype('float64'))
    """
    # entered where it changes something only: programs that are compiled in the block would not be found outside
    return jax.enable_x64(False) if is_wide() else contextlib.nullcontext()


def in_single_width(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function with its body in a ``single_width`` block."""

    @functools.wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        with single_width():
            return function(*arguments, **named)

    return call
