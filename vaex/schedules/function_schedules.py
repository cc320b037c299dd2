"""Python functions of the step as schedules, such as those of optax."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.schedules.moving import Schedule, constant
from vaex.schedules.piecewise import Piecewise, alike

Function = Callable[[Any], Any]  # an integer scalar, traced -> a scalar
# steps at which the values of functions are recorded and compared
PROBES = (0, *(digit * 10**power for power in range(6) for digit in (1, 2, 5)), 10**6)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FunctionSchedule:
    """One of several schedules: a value of ours, or a function of the step. ``function`` makes it.

    The functions belong to the structure, so that the arrays of a train state stay arrays; members of a population with different
    functions have one structure after ``alike_functions``.

    Attributes:
      choice: 0 for ``schedule``, i for the i-th function; int32 [], or [p] when stacked.
      schedule: followed where ``choice`` is 0.
      functions: map the step to the value.
      names: by which the functions are recorded.
    """

    choice: ArrayLike
    schedule: Schedule | Piecewise
    functions: tuple[Function, ...] = dataclasses.field(metadata={"static": True})
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, step: ArrayLike) -> jax.Array:
        """Return the value at ``step`` (an integer scalar, may be traced), float32."""
        branches = [_as_float(function) for function in (self.schedule, *self.functions)]
        return jax.lax.switch(jnp.asarray(self.choice), branches, jnp.asarray(step, jnp.int32))

    @property
    def name(self) -> str:
        """Name of the function that is followed; of a schedule that is not stacked."""
        return self.names[int(self.choice) - 1]  # pyright: ignore[reportArgumentType]: a scalar

    def values(self) -> list[float]:
        """Return the values at ``PROBES``, to five digits."""
        return [float(f"{float(value):.5g}") for value in probe(self)]


def function(value: Function, name: str | None = None) -> FunctionSchedule:
    """Return the schedule that follows a function of the step, such as ``optax.cosine_decay_schedule(1e-3, 5000)``.

    Args:
      value: maps the step, an integer scalar that is traced, to a scalar, by operations of jax.
      name: by which it is recorded; by default its own, and in parentheses a digest of its values where it cannot be imported.
    Raises: ValueError where it is no such function.
    Example:
      >>> schedule = function(lambda step: 0.1 * jnp.minimum(step / 10, 1.0))
      >>> float(schedule(5)), schedule.name.partition("(")[0]
      (0.05000000074505806, '<lambda>')
    """
    spelt = getattr(value, "__qualname__", type(value).__qualname__)
    try:
        result = jax.eval_shape(value, jax.ShapeDtypeStruct((), jnp.int32))
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{spelt} fails on a traced step ({type(error).__name__}: {reason}); write it with jax.numpy"
        ) from None
    if not hasattr(result, "shape") or result.shape or not jnp.issubdtype(result.dtype, jnp.number):
        raise ValueError(f"{spelt} maps a step to {result}, expected a number")
    try:
        hash(value)
    except TypeError:
        raise ValueError(f"{spelt} cannot be hashed, which a compiled program needs; wrap it in a function") from None
    values = probe(value)
    if name is None:
        digest = hashlib.sha256(str([f"{number:.5g}" for number in values]).encode()).hexdigest()[:8]
        name = f"{spelt.partition('.<locals>')[0]}({digest})"
    return FunctionSchedule(np.int32(1), constant(0.0), (value,), (name,))


def probe(value: Function) -> np.ndarray:
    """Return the values at ``PROBES``, float32 [len(PROBES)]."""
    return np.asarray(jax.jit(jax.vmap(_as_float(value)))(np.asarray(PROBES, np.int32)))


def alike_functions(
    schedules: Sequence[Schedule | Piecewise | FunctionSchedule],
) -> list[Any]:
    """Return equal schedules of one structure, which stack over the members of a population."""
    if not any(isinstance(schedule, FunctionSchedule) for schedule in schedules):
        return list(alike([schedule for schedule in schedules if not isinstance(schedule, FunctionSchedule)]))
    named: dict[tuple[Function, str], int] = {}
    for schedule in schedules:
        if isinstance(schedule, FunctionSchedule):
            for key in zip(schedule.functions, schedule.names, strict=True):
                named.setdefault(key, len(named) + 1)
    plain = alike([s.schedule if isinstance(s, FunctionSchedule) else s for s in schedules])
    functions, names = zip(*named, strict=True)
    choices = [
        named[schedule.functions[int(schedule.choice) - 1], schedule.name]  # pyright: ignore[reportArgumentType]
        if isinstance(schedule, FunctionSchedule) and schedule.choice
        else 0
        for schedule in schedules
    ]
    return [
        FunctionSchedule(np.int32(choice), schedule, functions, names)
        for choice, schedule in zip(choices, plain, strict=True)
    ]


def _as_float(value: Function) -> Callable[[jax.Array], jax.Array]:
    return lambda step: jnp.asarray(value(step), jnp.float32)
