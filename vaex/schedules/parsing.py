"""Schedules from text, and from whatever else may stand for one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.typing import ArrayLike

from vaex.schedules.function_schedules import FunctionSchedule, function
from vaex.schedules.moving import Schedule, constant, cosine, cycle, ramp
from vaex.schedules.piecewise import Piecewise, exponential, hold, join

T = TypeVar("T")
AnySchedule = Schedule | Piecewise | FunctionSchedule
Scalar = AnySchedule | float | jax.Array | Callable[[Any], Any]  # what a hyperparameter may be

_KINDS: dict[str, tuple[Callable[..., Schedule | Piecewise], tuple[int, ...]]] = {
    "ramp": (ramp, (3, 4)),
    "cosine": (cosine, (3, 4)),
    "exponential": (exponential, (3, 4)),
    "hold": (hold, (2,)),
    "cycle": (cycle, (3, 4)),
}
GRAMMAR = (
    "a number, ramp:START:STOP:STEPS[:BEGIN], cosine:START:STOP:STEPS[:BEGIN], exponential:START:STOP:STEPS[:BEGIN], "
    "hold:VALUE:STEPS or cycle:START:STOP:PERIOD[:FRACTION], or several of these, each after the one before, joined by +"
)


def parse(text: str) -> Schedule | Piecewise:
    """Return the schedule that a text describes: a number, ``ramp:0:4:5000``, ``ramp:0:1e-3:500+cosine:1e-3:0:5000``.

    Raises: ValueError that shows the grammar.
    Example:
      >>> float(parse("ramp:0:4:5000")(2500)), float(parse("hold:1:100+0.5")(100))
      (2.0, 0.5)
    """
    parts = re.split(r"(?<=[\d.])\+", text.strip())  # the plus of 1e+3 follows a letter
    try:
        pieces = [_piece(part) for part in parts]
        return pieces[0] if len(pieces) == 1 else join(*pieces)
    except (KeyError, ValueError) as error:
        is_kind = any(part.split(":")[0] in _KINDS for part in parts)
        known = isinstance(error, ValueError) and (is_kind or not str(error).startswith("could not convert"))
        reason = f" ({error})" if known else ""
        raise ValueError(f"{text!r} is neither a number nor a schedule{reason}; expected {GRAMMAR}") from None


def _piece(text: str) -> Schedule | Piecewise:
    kind, *rest = text.split(":")
    if not rest and kind not in _KINDS:
        return constant(_number(kind))
    make, counts = _KINDS[kind]
    if len(rest) not in counts:
        raise ValueError(f"{kind} takes {' or '.join(map(str, counts))} numbers, got {len(rest)}")
    return make(*(_number(part) for part in rest))


def _number(text: str) -> float:
    value = float(text)
    if math.isnan(value) or (math.isinf(value) and "inf" not in text.lower()):
        raise ValueError("nan is not a value" if math.isnan(value) else "too large a number; write inf if you mean it")
    return value


def as_schedule(value: Scalar | str) -> AnySchedule:
    """Return ``value`` as a schedule: numbers, traced ones too, become constants; text is parsed; functions are followed.

    Example:
      >>> float(as_schedule(3)(0))
      3.0
    """
    if is_schedule(value):
        return value  # pyright: ignore[reportReturnType]
    if isinstance(value, str):
        return parse(value)
    return function(value) if callable(value) else constant(value)  # pyright: ignore[reportArgumentType]


def is_schedule(value: object) -> bool:
    """Return True for a schedule; the ``is_leaf`` of every tree walk over hyperparameters."""
    return isinstance(value, AnySchedule)


def resolve(hparams: T, step: ArrayLike) -> T:
    """Replace each schedule in the tree ``hparams`` by its value at ``step``.

    Example:
      >>> float(resolve({"beta": ramp(0.0, 4.0, 100)}, 25)["beta"])
      1.0
    """
    return jax.tree.map(lambda leaf: leaf(step) if is_schedule(leaf) else leaf, hparams, is_leaf=is_schedule)
