"""Values of a user's raw arrays: recognised as levels or as continuous, checked, and converted to stored values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import numpy as np

from vaex.data.storage.mapped_rows import MappedRows
from vaex.data.storage.splits import in_chunks
from vaex.errors import UserError

# conversion -> function from raw values to stored ones, element by element
CONVERSIONS = {
    "bytes": lambda raw: raw.astype(np.uint8, copy=False),
    "top": lambda raw: (raw == 255).astype(np.uint8),
    "grid": lambda raw: np.round(raw.astype(np.float32) * 255).astype(np.uint8),
    "floats": lambda raw: raw.astype(np.float32, copy=False),
}


class Values(NamedTuple):
    """Kind of a data set's values: ``kind``, ``levels`` and ``missing`` as in ``Spec``; and which of CONVERSIONS stores them.

    Example:
      >>> Values("binary", 2, "bytes").levels
      2
    """

    kind: str
    levels: int | None
    conversion: str
    missing: bool = False


class Summary(NamedTuple):
    """Summary of all values of one array.

    ``bits``: all are 0 or 1; ``extremes``: all are 0 or 255; ``grid``: all are k/255 up to rounding; ``missing``: some are NaN,
    which the others leave out.

    Example:
      >>> Summary(0, 255).high
      255
    """

    low: float = math.inf
    high: float = -math.inf
    bits: bool = True
    extremes: bool = True
    grid: bool = True
    missing: bool = False


def recognise(where: str, raw: Mapping[str, np.ndarray], chunks: Iterable[np.ndarray] | None = None) -> Values:
    """Recognise the values of a user's raw arrays, read a chunk at a time.

    Recognised, over all arrays together: bools; integers 0..255 (binary where all are 0 or 1, or all 0 or 255; vectors, such as
    counts, have as many levels as their largest value needs); floats in
    [0, 1] (binary where all are 0 or 1; 8-bit where all are k/255 up to rounding; else continuous); vectors of other
    floats, those that fill less than a tenth of [0, 1], and those with missing entries, NaN (kind "real").

    Args:
      where: named in errors.
      raw: name -> [n, h, w], [n, h, w, c] or [n, d], as ``arranged`` returns them; of one trailing shape. Names appear in errors.
      chunks: all examples of the only array, where the caller reads them anyway.
    Raises: UserError for a dtype, rank, shape or value that vaex cannot use.
    Example:
      >>> recognise("a.npz", {"x": np.array([[0, 255], [255, 0]])})
      Values(kind='binary', levels=2, conversion='top', missing=False)
    """
    for name, values in raw.items():
        check(f"{where}: {name}", values)
    first, example = next(iter(raw.items()))
    for name, values in raw.items():
        if _shape(values) != _shape(example):
            raise UserError(
                f"{where}: {name} has examples of shape {_shape(values)}, but {first} of {_shape(example)}; "
                "all splits need one shape"
            )
        if _family(values) != _family(example):
            raise UserError(
                f"{where}: {name} is {values.dtype}, but {first} is {example.dtype}; store all splits in one dtype"
            )
    summaries = {
        name: _summarise(f"{where}: {name}", values, chunks or in_chunks(values)) for name, values in raw.items()
    }
    kind = "color" if len(_shape(example)) == 3 and _shape(example)[-1] > 1 else "grey"
    family = _family(example)
    if family == "bool":
        return Values("binary", 2, "bytes")
    if family == "integer":
        return _integers(where, raw, summaries, kind, images=len(_shape(example)) == 3)
    return _floats(where, summaries, kind, images=len(_shape(example)) == 3)


def stored(values: Values, raw: np.ndarray) -> np.ndarray:
    """Convert raw values to stored ones, [n, h, w, c] or [n, d], uint8 or float32; memory-mapped ones to ``MappedRows``.

    Example:
      >>> stored(Values("binary", 2, "top"), np.array([[0, 255], [255, 0]])).tolist()
      [[0, 1], [1, 0]]
    """
    convert, shape = CONVERSIONS[values.conversion], _shape(raw)
    if isinstance(raw, np.memmap):
        dtype = convert(raw[:1]).dtype
        rows = MappedRows(raw, np.arange(len(raw)), lambda some: convert(some.reshape(-1, *shape)), shape, dtype)
        return cast(np.ndarray, rows)
    if convert(raw[:1]).dtype == raw.dtype and values.conversion != "top":
        return raw.reshape(-1, *shape)
    return np.concatenate([convert(chunk) for chunk in in_chunks(raw)]).reshape(-1, *shape)


def check(where: str, values: np.ndarray) -> None:
    """Check the dtype, rank and size of an array, not its values.

    Raises: UserError.
    Example:
      >>> check("a.npz: x", np.zeros([2, 2], complex))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: a.npz: x has dtype complex128, expected uint8, bool or float; convert it with .astype
    """
    if values.dtype.kind not in "biuf":
        raise UserError(f"{where} has dtype {values.dtype}, expected uint8, bool or float; convert it with .astype")
    if values.ndim not in (2, 3, 4):
        remedy = (
            "reshape it, or read each example as a vector with --layout=vector" if values.ndim > 4 else "reshape it"
        )
        raise UserError(f"{where} has shape {values.shape}, expected [n, h, w], [n, h, w, c] or [n, d]; {remedy}")
    if values.size == 0:
        raise UserError(f"{where} is empty (shape {values.shape}); give at least one example")


def arranged(where: str, values: np.ndarray, layout: str) -> np.ndarray:
    """Return a user's array with the axes [n, d], [n, h, w] or [n, h, w, c], without copying or checking its values.

    Args:
      where: named in errors.
      values: the array.
      layout: how its axes are read. "hwc": [n, h, w, c], or [n, h, w] of one channel; "chw": [n, c, h, w]; "vector": each example
        as one vector, whatever its axes. "auto" reads four axes as "hwc" and refuses them where they look like "chw": fewer entries
        along the first than along the last, which has more than four.
    Raises: UserError where the axes do not fit the layout, or tell of another one.
    Example:
      >>> arranged("a.npz: x", np.zeros([5, 3, 8, 9]), "chw").shape, arranged("a.npz: x", np.zeros([5, 4, 6]), "vector").shape
      ((5, 8, 9, 3), (5, 24))
    """
    shape = values.shape
    if layout == "vector":
        if isinstance(values, np.memmap) and not values.flags.c_contiguous:
            raise UserError(
                f"{where} is stored in Fortran order, so that --layout=vector would read all of it into the memory; store "
                "np.ascontiguousarray(x)"
            )
        return values.reshape(len(values), -1) if values.ndim > 1 and values.size else values
    if layout == "chw" and values.ndim != 4:
        raise UserError(f"--layout=chw: {where} has shape {shape}, expected [n, c, h, w]; leave the flag out")
    if layout == "hwc" and values.ndim not in (3, 4):
        raise UserError(
            f"--layout=hwc: {where} has shape {shape}, expected [n, h, w, c] or [n, h, w]; leave the flag out"
        )
    if layout == "auto" and values.ndim == 4 and shape[1] < shape[3] and shape[3] > 4:
        raise UserError(
            f"{where} has shape {shape}, which looks like [n, c, h, w]: --layout=chw reads {shape[1]} channels of "
            f"{shape[2]}x{shape[3]}, --layout=hwc {shape[3]} channels of {shape[1]}x{shape[2]}, --layout=vector vectors"
        )
    return values.transpose(0, 2, 3, 1) if layout == "chw" else values


def _shape(values: np.ndarray) -> tuple[int, ...]:
    """Return the shape of one stored example: images have a channel axis."""
    return (*values.shape[1:], 1) if values.ndim == 3 else values.shape[1:]


def _family(values: np.ndarray) -> str:
    return {"b": "bool", "i": "integer", "u": "integer", "f": "float"}[values.dtype.kind]


def _summarise(where: str, values: np.ndarray, chunks: Iterable[np.ndarray]) -> Summary:
    """Summarise the values, reading no more of them than the result depends on."""
    summary, family = Summary(), _family(values)
    done, bad, first_bad, missing = 0, 0, (), False
    for all_of_chunk in chunks if family != "bool" else ():
        chunk = all_of_chunk
        if family == "float" and not np.isfinite(chunk).all():
            refused = np.isinf(chunk) if values.ndim == 2 else ~np.isfinite(chunk)  # NaN is a missing entry of a vector
            where_bad = np.argwhere(refused)
            first_bad = first_bad or (
                (done + int(where_bad[0][0]), *where_bad[0][1:].tolist()) if len(where_bad) else ()
            )
            bad += len(where_bad)
            missing, chunk = True, chunk[np.isfinite(chunk)]
        done += len(all_of_chunk)
        if bad or not chunk.size:
            continue
        unit = family == "float" and summary.grid and chunk.min() >= 0 and chunk.max() <= 1
        summary = Summary(
            min(summary.low, chunk.min()),
            max(summary.high, chunk.max()),
            summary.bits and bool(np.all((chunk == 0) | (chunk == 1))),
            summary.extremes and family == "integer" and bool(np.all((chunk == 0) | (chunk == 255))),
            unit and _on_grid(chunk),
        )
        if values.dtype == np.uint8 and values.ndim > 2 and not (summary.bits or summary.extremes):
            break  # nothing in the rest could change this
    if bad:
        raise UserError(
            f"{where} has {bad} values that are {'infinite' if values.ndim == 2 else 'NaN or infinite'}, the first at index "
            f"{first_bad}; remove these examples or replace the values"
        )
    if missing and summary.high < summary.low:
        raise UserError(f"{where}: all values are NaN, missing; give observed ones")
    return summary._replace(missing=missing)


def _integers(
    where: str, raw: Mapping[str, np.ndarray], summaries: Mapping[str, Summary], kind: str, *, images: bool
) -> Values:
    for name, summary in summaries.items():
        if summary.low < 0 or summary.high > 255:
            raise UserError(
                f"{where}: {name} is {raw[name].dtype} with values from {summary.low} to {summary.high}, expected 0 to 255; "
                "rescale it to uint8, or convert vectors of real numbers to float32"
            )
    if all(summary.bits for summary in summaries.values()):
        return Values("binary", 2, "bytes")
    if all(summary.extremes for summary in summaries.values()):
        return Values("binary", 2, "top")
    if images:
        return Values(kind, 256, "bytes")
    return Values(kind, 1 + max(int(summary.high) for summary in summaries.values()), "bytes")  # such as counts


def _floats(where: str, summaries: Mapping[str, Summary], kind: str, *, images: bool) -> Values:
    low = min(float(summary.low) for summary in summaries.values())
    high = max(float(summary.high) for summary in summaries.values())
    bits = all(summary.bits for summary in summaries.values())
    missing = any(summary.missing for summary in summaries.values())
    narrow = (
        not images and high - low < 0.1 and not bits
    )  # on a scale of their own, such as probabilities of rare events
    if low < 0 or high > 1 or narrow or missing:
        if images:
            raise UserError(
                f"{where}: float images hold values from {low:g} to {high:g}, expected 0 to 1; {_to_unit_interval(low, high)}, "
                "or read vectors of real numbers with --layout=vector"
            )
        if max(-low, high) > float(np.finfo(np.float32).max):
            raise UserError(f"{where}: values from {low:g} to {high:g} do not fit in float32; rescale them")
        return Values("real", None, "floats", missing)
    if bits:
        return Values("binary", 2, "bytes")
    if all(summary.grid for summary in summaries.values()):
        return Values(kind, 256, "grid")
    return Values(kind, None, "floats")


def _to_unit_interval(low: float, high: float) -> str:
    """Say how values from ``low`` to ``high`` are mapped to [0, 1]."""
    if low >= 0:
        top = max(255, 2 ** math.ceil(math.log2(high + 1)) - 1)  # 4095 of 12 bits
        return f"divide by the largest possible value, such as x / {top}"
    if low >= -1 and high <= 1:
        return "store (x + 1) / 2"
    return "map the least and the largest possible value to 0 and 1, as (x - low) / (high - low) does"


def _on_grid(values: np.ndarray) -> bool:
    """Tell whether every value is k/255 for an integer k, up to the rounding of its dtype (at least float32's)."""
    level = np.round(values.astype(np.float32) * 255)
    rounding = np.finfo(values.dtype).eps + 2 * np.finfo(np.float32).eps
    return bool(np.all(np.abs(values - level / np.float32(255)) <= rounding * np.maximum(values, 1 / 255)))
