"""Which of two programs a platform gets, and how to leave the choice out."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax
from jax import lax

_PLAIN = contextvars.ContextVar("plain_lowering", default=False)
_PLATFORM: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


def on_cpu(*operands: jax.Array, cpu: Callable[..., jax.Array], default: Callable[..., jax.Array]) -> jax.Array:
    """Return ``cpu(*operands)`` where the program is compiled for the CPU, ``default(*operands)`` elsewhere.

    Example:
      >>> import jax.numpy as jnp
      >>> int(on_cpu(jnp.array(1), cpu=lambda x: x + 1, default=lambda x: x + 1))
      2
    """
    if _PLAIN.get():
        return default(*operands)
    return lax.platform_dependent(*operands, cpu=cpu, default=default)


@contextlib.contextmanager
def plain_lowering() -> Iterator[None]:
    """A block in which ``on_cpu`` traces its default alone: programs for several platforms, such as exported ones.

    What was traced before keeps its choice: inside the block, trace functions that are new.
    """
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def unroll(length: int, *, most: int, most_on_cpu: int = 1) -> int:
    """Return how many iterations of a ``lax.scan`` to compile into one: all of up to ``most`` on an accelerator, else one.

    There an iteration's small operations, and whatever it stores for the reverse pass, are kernels of their own. On a CPU it pays
    where iterations store much; ``most_on_cpu`` says up to which length.

    The platform is that of ``traced_for``; programs for several platforms keep the loop.

    Example:
      >>> with compiling_for("tpu"):
      ...     unroll(46, most=64), unroll(46, most=8)
      (46, 1)
    """
    limit = {"": 1, "cpu": most_on_cpu}.get(traced_for(), most)
    return length if 0 < length <= limit else 1


def traced_for() -> str:
    """Return the platform that programs are traced for: that of ``compiling_for``, else jax's default one; "" for several.

    Example:
      >>> with compiling_for("tpu"):
      ...     traced_for()
      'tpu'
    """
    return "" if _PLAIN.get() else _PLATFORM.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """A block in which programs are traced for a platform that may not be here, such as "cuda" or "tpu"."""
    token = _PLATFORM.set(platform)
    try:
        yield
    finally:
        _PLATFORM.reset(token)
