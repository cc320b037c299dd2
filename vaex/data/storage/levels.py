"""Levels of stored values: grids on which floats lie, windows of integers, and the conversions that a user's values undergo."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from vaex.errors import UserError

Convert: TypeAlias = Callable[[np.ndarray], np.ndarray]
TOPS = (255, 1023, 4095, 16383, 65535)  # largest integers of 8, 10, 12, 14 and 16 bits
FEWEST_DISTINCT = 257  # values that show a grid of more than 8 bits
FIRST = 1 << 12  # values of a chunk that are compared first
SAMPLED = 1 << 18  # values of a chunk whose number of distinct ones is counted


def checked_range(value_range: str) -> Literal["real"] | tuple[float, ...]:
    """Return what ``--value_range`` means: (), (low, high), or "real".

    Raises: UserError for anything else.
    Example:
      >>> checked_range("-1000:400"), checked_range("auto"), checked_range("real")
      ((-1000.0, 400.0), (), 'real')
    """
    if value_range == "auto":
        return ()
    if value_range == "real":
        return "real"
    try:
        low, high = (float(part) for part in str(value_range).split(":"))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"--value_range={value_range}: expected LOW:HIGH, such as -1000:1000, or real, or auto")
    return low, high


def window_levels(low: float, high: float) -> int:
    """Return the number of integers from ``low`` to ``high``; 0 where these are none, or more than 16 bits hold.

    Example:
      >>> window_levels(-1000.0, 1000.0), window_levels(0.0, 0.5), window_levels(0, 65536)
      (2001, 0, 0)
    """
    integral = low == round(low) and high == round(high)
    return int(high - low) + 1 if integral and high - low < 1 << 16 else 0


def natural_window(low: int, high: int) -> tuple[float, ...]:
    """Return the window of integers from ``low`` to ``high``: of as many bits as they take from 0; else from least to largest.

    Example:
      >>> natural_window(0, 3000), natural_window(-1024, 3071), natural_window(0, 1 << 20)
      ((0.0, 4095.0), (-1024.0, 3071.0), ())
    """
    if low < 0:
        return (float(low), float(high)) if window_levels(low, high) else ()
    return next(((0.0, float(top)) for top in TOPS if high <= top), ())


def windowed(low: float, high: float) -> str:
    """Return the conversion of integers to their place in a window.

    Example:
      >>> windowed(-2.0, 1.0)
      'window:-2:1'
    """
    return f"window:{int(low)}:{int(high)}"


def converter(conversion: str) -> Convert:
    """Return a function from raw values to stored ones, element by element.

    Args:
      conversion: "bytes", "counts" (uint16), "top" (255 -> 1, else 0), "floats"; "grid" or "grid:TOP" (k/TOP -> k);
        "window:LOW:HIGH" (integers -> their place, those beyond clipped); "range:LOW:HIGH|..." (floats -> [0, 1], clipped, then
        another one).
    Example:
      >>> converter("window:-2:2")(np.array([-9, 0, 2])).tolist(), converter("range:-1:1|grid")(np.array([-1.0, 1.0])).tolist()
      ([0, 2, 4], [0, 255])
    """
    first, _, rest = conversion.partition("|")
    name, *numbers = first.split(":")
    if rest:
        after, (low, high) = converter(rest), (float(number) for number in numbers)
        return lambda raw: after(np.clip((raw.astype(np.float64) - low) / (high - low), 0.0, 1.0))
    if name == "window":
        least, most = (int(number) for number in numbers)
        kind = np.uint8 if most - least < 256 else np.uint16
        return lambda raw: (np.clip(raw, least, most).astype(np.int64) - least).astype(kind)
    if name == "grid":
        top = int(numbers[0]) if numbers else 255
        kind = np.uint8 if top < 256 else np.uint16
        return lambda raw: np.round(raw.astype(np.float32) * top).astype(kind)
    return {
        "counts": lambda raw: raw.astype(np.uint16, copy=False),
        "bytes": lambda raw: raw.astype(np.uint8, copy=False),
        "top": lambda raw: (raw == 255).astype(np.uint8),
        "floats": lambda raw: raw.astype(np.float32, copy=False),
    }[name]


def on_grids(values: np.ndarray, tops: tuple[int, ...], *, mapped: bool = False) -> tuple[int, ...]:
    """Return those of ``tops`` of which all values are k/top, up to rounding; those above 255 only for many different values.

    Args:
      values: in [0, 1].
      tops: TOPS, or those that are left of them.
      mapped: whether the values were computed from others, so that those near 0 have the rounding of 1.
    Example:
      >>> on_grids(np.arange(4096) / 4095, TOPS), on_grids(np.array([0.0, 0.2, 1.0]), TOPS), on_grids(np.array([0.3]), TOPS)
      ((4095,), (255,), ())
    """
    first = values.reshape(-1)[:FIRST]
    left = [top for top in tops if _on_grid(first, top, mapped=mapped) and _on_grid(values, top, mapped=mapped)]
    begun = len(tops) == len(TOPS)
    if begun and any(top > 255 for top in left) and len(np.unique(values.reshape(-1)[:SAMPLED])) < FEWEST_DISTINCT:
        left = [top for top in left if top == 255]
    return tuple(left)


def _on_grid(values: np.ndarray, top: int, *, mapped: bool) -> bool:
    """Tell whether every value is k/top for an integer k, up to the rounding of its dtype (at least float32's)."""
    level = np.round(values.astype(np.float32) * top)
    rounding = np.finfo(values.dtype).eps + 2 * np.finfo(np.float32).eps
    if top > 255 and rounding > 0.1 / top:
        return False  # the dtype holds no such levels apart
    near = np.maximum(values, 1.0 if mapped else 1 / top)
    return bool(np.all(np.abs(values - level / np.float32(top)) <= rounding * near))
