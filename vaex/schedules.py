"""Schedules of hyperparameters as pytrees: one structure for constants, ramps, cycles and cosines, resolved at the step.

Because a constant is a ramp that stands still, members of a population may mix kinds and lengths: their schedules stack.
No schedule depends on the total number of steps, so a run can be extended.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

T = TypeVar("T")


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
        """The value at ``step`` (an integer scalar, may be traced), float32."""
        start, stop = jnp.asarray(self.start), jnp.asarray(self.stop)
        time = jnp.maximum(jnp.asarray(step, jnp.float32) - self.begin, 0.0)
        time = jnp.where(jnp.asarray(self.period) > 0, jnp.mod(time, jnp.maximum(self.period, 1.0)), time)
        fraction = jnp.clip(time / jnp.maximum(self.length, 1.0), 0.0, 1.0)
        bent = 0.5 * (1.0 - jnp.cos(jnp.pi * fraction))
        fraction = jnp.where(jnp.asarray(self.cosine) > 0, bent, fraction)
        # a constant must stay itself even where it is infinite (inf - inf would be nan)
        return jnp.where(stop != start, start + (stop - start) * fraction, start)


def _schedule(start: float, stop: float, begin: float, length: float, period: float, cosine: float) -> Schedule:
    return Schedule(*(np.float32(v) for v in (start, stop, begin, length, period, cosine)))


def constant(value: float) -> Schedule:
    """The same value at every step.

    Example:
      >>> float(constant(0.5)(123))
      0.5
    """
    return _schedule(value, value, 0, 1, 0, 0)


def ramp(start: float, stop: float, length: float, begin: float = 0) -> Schedule:
    """A straight line from ``start`` to ``stop`` over ``length`` steps, beginning at step ``begin``; constant around it.

    Raises: ValueError if ``length`` is not positive or ``begin`` negative.
    Example:
      >>> float(ramp(1.0, 0.0, 10, begin=5)(10))
      0.5
    """
    _check("ramp", length=length, begin=begin)
    return _schedule(start, stop, begin, length, 0, 0)


def cosine(start: float, stop: float, length: float, begin: float = 0) -> Schedule:
    """Half a cosine wave from ``start`` to ``stop`` over ``length`` steps (Loshchilov & Hutter 2017, eq. 5, one cycle).

    Example:
      >>> round(float(cosine(1.0, 0.0, 100)(50)), 6)
      0.5
    """
    _check("cosine", length=length, begin=begin)
    return _schedule(start, stop, begin, length, 0, 1)


def cycle(start: float, stop: float, period: float, fraction: float = 0.5) -> Schedule:
    """Repeated ramps: up during ``fraction`` of each ``period``, then constant (Fu et al. 2019, eq. 6).

    Raises: ValueError if ``period`` is not positive or ``fraction`` not in (0, 1].
    Example:
      >>> [float(cycle(0.0, 1.0, 100)(step)) for step in (25, 75, 125)]
      [0.5, 1.0, 0.5]
    """
    _check("cycle", length=period)
    if not 0 < fraction <= 1:
        raise ValueError(f"cycle: fraction is {fraction}, expected a share of the period in (0, 1]")
    return _schedule(start, stop, 0, period * fraction, period, 0)


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
    """A schedule from its text: a number, ``ramp:0:4:5000``, ``cosine:1e-3:0:5000`` or ``cycle:0:1:1000:0.5``.

    Raises: ValueError that shows the grammar.
    Example:
      >>> float(parse("ramp:0:4:5000")(2500))
      2.0
    """
    kind, *rest = text.strip().split(":")
    try:
        if not rest:
            return constant(_number(kind))
        function, counts = _KINDS[kind]
        if len(rest) not in counts:
            raise ValueError(f"{kind} takes {counts[0]} or {counts[1]} numbers, got {len(rest)}")
        return function(*(_number(part) for part in rest))
    except (KeyError, ValueError) as error:
        reason = f" ({error})" if isinstance(error, ValueError) and rest and kind in _KINDS else ""
        raise ValueError(f"{text!r} is neither a number nor a schedule{reason}; expected {GRAMMAR}") from None


def _number(text: str) -> float:
    value = float(text)
    if np.isnan(value):
        raise ValueError("nan is not a value")
    return value


def as_schedule(value: Schedule | float | str) -> Schedule:
    """``value`` as a Schedule: numbers become constants, text is parsed.

    Example:
      >>> float(as_schedule(3)(0))
      3.0
    """
    if isinstance(value, Schedule):
        return value
    return parse(value) if isinstance(value, str) else constant(value)


def is_schedule(value: Any) -> bool:
    """Whether ``value`` is a Schedule; the ``is_leaf`` of every tree walk over hyperparameters."""
    return isinstance(value, Schedule)


def resolve(hparams: T, step: ArrayLike) -> T:
    """The tree ``hparams`` with each Schedule in it replaced by its value at ``step``.

    Example:
      >>> float(resolve({"beta": ramp(0.0, 4.0, 100)}, 25)["beta"])
      1.0
    """
    return jax.tree.map(lambda leaf: leaf(step) if is_schedule(leaf) else leaf, hparams, is_leaf=is_schedule)
