"""Schedules of hyperparameters as pytrees: one structure for constants, ramps, cycles and cosines, resolved at the step.

Because a constant is a ramp of slope zero, members of a population may mix kinds and lengths: their schedules stack.
No schedule depends on the total number of steps, so a run can be extended.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

T = TypeVar("T")
LARGEST = float(np.finfo(np.float32).max)


class Schedule(NamedTuple):
    """A value that moves from ``start`` to ``stop`` over ``length`` steps after step ``begin``.

    ``period`` > 0 restarts it every so many steps; ``cosine`` = 1 bends the straight line into half a cosine wave.
    All fields are scalars (float32 arrays, or [p] when stacked over a population); calling it at a step gives the value.

    Example:
      >>> [float(ramp(0.0, 4.0, 100)(step)) for step in (0, 50, 1000)]
      [0.0, 2.0, 4.0]
    """

    start: ArrayLike
    stop: ArrayLike
    begin: ArrayLike
    length: ArrayLike
    period: ArrayLike
    cosine: ArrayLike

    def __call__(self, step: ArrayLike) -> jax.Array:
        """Return the value at ``step`` (an integer scalar, may be traced), float32."""
        start, stop = jnp.asarray(self.start), jnp.asarray(self.stop)
        time = jnp.maximum(jnp.asarray(step, jnp.float32) - self.begin, 0.0)
        time = jnp.where(jnp.asarray(self.period) > 0, jnp.mod(time, jnp.maximum(self.period, 1.0)), time)
        fraction = jnp.clip(time / jnp.maximum(self.length, 1.0), 0.0, 1.0)
        bent = 0.5 * (1.0 - jnp.cos(jnp.pi * fraction))
        fraction = jnp.where(jnp.asarray(self.cosine) > 0, bent, fraction)
        # exact at both ends; a constant must stay itself even where it is infinite (inf * 0 would be nan)
        return jnp.where(stop != start, start * (1.0 - fraction) + stop * fraction, start)


Scalar = Schedule | float | jax.Array  # what a hyperparameter may be


def _schedule(name: str, start: float, stop: float, begin: float, length: float, period: float, bent: int) -> Schedule:
    numbers = (start, stop, begin, length, period, bent)
    if name != "constant" and not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{name}: got {start:g} to {stop:g} over {length:g} steps, expected finite numbers")
    if any(math.isfinite(number) and abs(number) > LARGEST for number in numbers):
        raise ValueError(f"{name}: one of {numbers} is beyond float32; expected at most 3.4e38, or inf for a constant")
    return Schedule(*(np.float32(number) for number in numbers))


def constant(value: float | jax.Array) -> Schedule:
    """Return the same value at every step; it may be infinite, and it may be a traced scalar.

    Raises: ValueError for NaN, or for an array that is not a scalar.
    Example:
      >>> float(constant(0.5)(123))
      0.5
    """
    if isinstance(value, jax.Array):
        if value.ndim:
            raise ValueError(f"constant: value has shape {value.shape}, expected a scalar; stack schedules, not values")
        value = value.astype(jnp.float32)
        return Schedule(value, value, *(np.float32(number) for number in (0, 1, 0, 0)))
    number = float(value)
    if math.isnan(number):
        raise ValueError("constant: nan is not a value")
    return _schedule("constant", number, number, 0, 1, 0, 0)


def ramp(start: float, stop: float, length: float, begin: float = 0) -> Schedule:
    """Straight line from ``start`` to ``stop`` over ``length`` steps, beginning at step ``begin``; constant around it.

    Raises: ValueError if ``length`` is not positive, ``begin`` negative, or a number not finite.
    Example:
      >>> float(ramp(1.0, 0.0, 10, begin=5)(10))
      0.5
    """
    _check("ramp", length=length, begin=begin)
    return _schedule("ramp", start, stop, begin, length, 0, 0)


def cosine(start: float, stop: float, length: float, begin: float = 0) -> Schedule:
    """Half a cosine wave from ``start`` to ``stop`` over ``length`` steps (Loshchilov & Hutter 2017, eq. 5, one cycle).

    Raises: ValueError as ``ramp`` does.
    Example:
      >>> round(float(cosine(1.0, 0.0, 100)(50)), 6)
      0.5
    """
    _check("cosine", length=length, begin=begin)
    return _schedule("cosine", start, stop, begin, length, 0, 1)


def cycle(start: float, stop: float, period: float, fraction: float = 0.5) -> Schedule:
    """Repeated ramps: up during ``fraction`` of each ``period``, then constant (Fu et al. 2019, eq. 6).

    Raises: ValueError if ``period`` is not positive, ``fraction`` not in (0, 1], or a number not finite.
    Example:
      >>> [float(cycle(0.0, 1.0, 100)(step)) for step in (25, 75, 125)]
      [0.5, 1.0, 0.5]
    """
    _check("cycle", length=period)
    if not 0 < fraction <= 1:
        raise ValueError(f"cycle: fraction is {fraction}, expected a share of the period in (0, 1]")
    return _schedule("cycle", start, stop, 0, period * fraction, period, 0)


def _check(name: str, *, length: float, begin: float = 0) -> None:
    if not length > 0:
        raise ValueError(f"{name}: the length is {length}, expected a positive number of steps")
    if begin < 0:
        raise ValueError(f"{name}: begin is {begin}, expected a step >= 0")


_KINDS = {"ramp": (ramp, (3, 4)), "cosine": (cosine, (3, 4)), "cycle": (cycle, (3, 4))}
GRAMMAR = (
    "a number, ramp:START:STOP:STEPS[:BEGIN], cosine:START:STOP:STEPS[:BEGIN] or cycle:START:STOP:PERIOD[:FRACTION]"
)


def parse(text: str) -> Schedule:
    """Return the schedule that a text describes: a number, ``ramp:0:4:5000``, ``cosine:1e-3:0:5000`` or ``cycle:0:1:1000:0.5``.

    Raises: ValueError that shows the grammar.
    Example:
      >>> float(parse("ramp:0:4:5000")(2500))
      2.0
    """
    kind, *rest = text.strip().split(":")
    try:
        if not rest and kind not in _KINDS:
            return constant(_number(kind))
        function, counts = _KINDS[kind]
        if len(rest) not in counts:
            raise ValueError(f"{kind} takes {counts[0]} or {counts[1]} numbers, got {len(rest)}")
        return function(*(_number(part) for part in rest))
    except (KeyError, ValueError) as error:
        known = isinstance(error, ValueError) and (kind in _KINDS or not str(error).startswith("could not convert"))
        reason = f" ({error})" if known else ""
        raise ValueError(f"{text!r} is neither a number nor a schedule{reason}; expected {GRAMMAR}") from None


def _number(text: str) -> float:
    value = float(text)
    if math.isnan(value) or (math.isinf(value) and "inf" not in text.lower()):
        raise ValueError("nan is not a value" if math.isnan(value) else "too large a number; write inf if you mean it")
    return value


def as_schedule(value: Schedule | float | jax.Array | str) -> Schedule:
    """Return ``value`` as a Schedule: numbers, traced ones too, become constants; text is parsed.

    Example:
      >>> float(as_schedule(3)(0))
      3.0
    """
    if isinstance(value, Schedule):
        return value
    return parse(value) if isinstance(value, str) else constant(value)


def is_schedule(value: object) -> bool:
    """Return True for a Schedule; the ``is_leaf`` of every tree walk over hyperparameters."""
    return isinstance(value, Schedule)


def resolve(hparams: T, step: ArrayLike) -> T:
    """Replace each Schedule in the tree ``hparams`` by its value at ``step``.

    Example:
      >>> float(resolve({"beta": ramp(0.0, 4.0, 100)}, 25)["beta"])
      1.0
    """
    return jax.tree.map(lambda leaf: leaf(step) if is_schedule(leaf) else leaf, hparams, is_leaf=is_schedule)
