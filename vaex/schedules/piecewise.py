"""Schedules of several pieces, one after the other: a warm-up and then a cosine, steps, exponential decay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.schedules.moving import Schedule, check_lengths, constant, ramp


class Bend(IntEnum):
    """How a piece moves between its ends."""

    LINE = 0
    COSINE = 1
    EXPONENTIAL = 2


class Piecewise(NamedTuple):
    """A value that follows one piece after the other; ``join`` and ``exponential`` make it.

    The fields are those of ``Schedule``, [k] each for k pieces. ``begin`` counts from ``boundary``, the step at which the piece
    takes over from the one before; ``bend`` is a ``Bend``. Stacked over a population they are [p, k], after ``alike`` has given all
    members as many pieces.
    """

    start: ArrayLike
    stop: ArrayLike
    begin: ArrayLike
    length: ArrayLike
    period: ArrayLike
    bend: ArrayLike
    boundary: ArrayLike

    def __call__(self, step: ArrayLike) -> jax.Array:
        """Return the value at ``step`` (an integer scalar, may be traced), float32."""
        now = jnp.asarray(step, jnp.float32)
        boundary, bend = jnp.asarray(self.boundary), jnp.asarray(self.bend)
        moving = Schedule(self.start, self.stop, self.begin, self.length, self.period, bend == Bend.COSINE)
        start, stop = jnp.asarray(self.start), jnp.asarray(self.stop)
        since = now - boundary
        fraction = jnp.clip((since - self.begin) / jnp.maximum(jnp.asarray(self.length), 1.0), 0.0, 1.0)
        is_exponential = bend == Bend.EXPONENTIAL
        ratio = jnp.where(is_exponential, stop / jnp.where(is_exponential, start, 1.0), 1.0)
        decayed = jnp.where(fraction < 1.0, start * jnp.power(ratio, fraction), stop)
        values = jnp.where(is_exponential, decayed, moving(since))
        return values[jnp.sum(now >= boundary) - 1]

    def pieces(self) -> tuple[Piecewise, ...]:
        """Return the pieces, each a ``Piecewise`` of k = 1."""
        fields = [np.asarray(field) for field in self]
        return tuple(Piecewise(*(field[index : index + 1] for field in fields)) for index in range(len(fields[0])))

    def numbers(self) -> tuple[float, ...]:
        """Return the fields of a single piece, k = 1."""
        return tuple(float(np.asarray(field)[0]) for field in self)


def join(*schedules: Schedule | Piecewise | float) -> Piecewise:
    """Return the schedule that follows each of ``schedules`` to its end, and then the next one, as from step 0.

    A number, a constant and a cycle have no end, and may only be the last; ``hold`` stands still for a number of steps.

    Raises: ValueError for a schedule without an end that is not the last, or none at all.
    Example:
      >>> from vaex.schedules import cosine
      >>> warm_up_then_cosine = join(ramp(0.0, 1.0, 100), cosine(1.0, 0.0, 1000))
      >>> [round(float(warm_up_then_cosine(step)), 6) for step in (50, 100, 600, 5000)]
      [0.5, 1.0, 0.5, 0.0]
    """
    if not schedules:
        raise ValueError("join: got no schedule, expected at least one")
    pieces: list[Piecewise] = []
    boundary = 0.0
    for index, schedule in enumerate(schedules):
        is_last = index == len(schedules) - 1
        for piece in _pieces(schedule):
            pieces.append(piece._replace(boundary=_array(boundary + piece.numbers()[-1])))
        boundary += 0.0 if is_last else _duration(schedule)
    return Piecewise(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))


def hold(value: float, length: float) -> Schedule:
    """Return ``value`` for ``length`` steps, as a piece of ``join``.

    Raises: ValueError as ``ramp`` does.
    Example:
      >>> steps = join(hold(1.0, 100), hold(0.1, 100), 0.01)
      >>> [round(float(steps(step)), 6) for step in (99, 100, 200)]
      [1.0, 0.1, 0.01]
    """
    return ramp(value, value, length)


def exponential(start: float, stop: float, length: float, begin: float = 0) -> Piecewise:
    """Exponential decay (or growth) from ``start`` to ``stop`` over ``length`` steps: start (stop / start)^(step / length).

    Raises: ValueError as ``ramp`` does, and unless both ends are positive or both negative.
    Example:
      >>> [round(float(exponential(1.0, 0.01, 100)(step)), 6) for step in (0, 50, 1000)]
      [1.0, 0.1, 0.01]
    """
    check_lengths("exponential", length=length, begin=begin)
    if not (math.isfinite(start) and math.isfinite(stop) and start * stop > 0):
        raise ValueError(f"exponential: got {start:g} to {stop:g}, expected two finite numbers of one sign, neither 0")
    return _pieces(ramp(start, stop, length, begin))[0]._replace(bend=_array(Bend.EXPONENTIAL))


def with_pieces(schedule: Schedule | Piecewise, number: int) -> Piecewise:
    """Return an equal schedule of ``number`` pieces; those that are added never begin."""
    pieces = _pieces(schedule)
    never = pieces[-1]._replace(boundary=_array(math.inf))
    return Piecewise(*(np.concatenate(parts) for parts in zip(*pieces, *[never] * (number - len(pieces)), strict=True)))


def alike(schedules: Sequence[Schedule | Piecewise]) -> list[Schedule | Piecewise]:
    """Return equal schedules of one structure, which stack: of one piece all, or of as many pieces as the longest has."""
    if all(isinstance(schedule, Schedule) for schedule in schedules):
        return list(schedules)
    number = max(len(_pieces(schedule)) for schedule in schedules)
    return [with_pieces(schedule, number) for schedule in schedules]


def _pieces(schedule: Schedule | Piecewise | float) -> tuple[Piecewise, ...]:
    if isinstance(schedule, Piecewise):
        return schedule.pieces()
    plain = schedule if isinstance(schedule, Schedule) else constant(schedule)
    return (Piecewise(*(_array(float(np.asarray(field))) for field in plain), boundary=_array(0.0)),)


def _array(number: float) -> np.ndarray:
    return np.asarray([number], np.float32)


def _duration(schedule: Schedule | Piecewise | float) -> float:
    """Return the number of steps after which a schedule has arrived.

    Raises: ValueError where it never does.
    """
    start, stop, begin, length, period, _, boundary = _pieces(schedule)[-1].numbers()
    if period > 0 or (start == stop and length <= 1):
        which = "a cycle" if period > 0 else f"the constant {start:g}"
        raise ValueError(f"join: {which} has no end, so nothing can follow; write hold(value, steps), or put it last")
    return boundary + begin + length
