"""The schedule of one piece: constants, ramps, cycles and cosines, of one structure."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

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
    check_lengths("ramp", length=length, begin=begin)
    return _schedule("ramp", start, stop, begin, length, 0, 0)


def cosine(start: float, stop: float, length: float, begin: float = 0) -> Schedule:
    """Half a cosine wave from ``start`` to ``stop`` over ``length`` steps (Loshchilov & Hutter 2017, eq. 5, one cycle).

    Raises: ValueError as ``ramp`` does.
    Example:
      >>> round(float(cosine(1.0, 0.0, 100)(50)), 6)
      0.5
    """
    check_lengths("cosine", length=length, begin=begin)
    return _schedule("cosine", start, stop, begin, length, 0, 1)


def cycle(start: float, stop: float, period: float, fraction: float = 0.5) -> Schedule:
    """Repeated ramps: up during ``fraction`` of each ``period``, then constant (Fu et al. 2019, eq. 6).

    Raises: ValueError if ``period`` is not positive, ``fraction`` not in (0, 1], or a number not finite.
    Example:
      >>> [float(cycle(0.0, 1.0, 100)(step)) for step in (25, 75, 125)]
      [0.5, 1.0, 0.5]
    """
    check_lengths("cycle", length=period)
    if not 0 < fraction <= 1:
        raise ValueError(f"cycle: fraction is {fraction}, expected a share of the period in (0, 1]")
    return _schedule("cycle", start, stop, 0, period * fraction, period, 0)


def check_lengths(name: str, *, length: float, begin: float = 0) -> None:
    """Raise ValueError, which begins with ``name``, unless a schedule has a positive length and begins at step 0 or later."""
    if not length > 0:
        raise ValueError(f"{name}: the length is {length}, expected a positive number of steps")
    if begin < 0:
        raise ValueError(f"{name}: begin is {begin}, expected a step >= 0")
