"""Values of a user's raw arrays: recognised as levels or as continuous, checked, and converted to stored values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import numpy as np

from vaex.data.storage import levels as grids
from vaex.data.storage.layouts import ARRAYS
from vaex.data.storage.mapped_rows import MappedRows
from vaex.data.storage.splits import in_chunks
from vaex.errors import UserError


class Reading(NamedTuple):
    """How a user's arrays are read: ``layout`` and ``value_range`` as in ``vaex.data.load``, and the number of the first class.

    Example:
      >>> Reading("chw").name, Reading().name
      ('chw_', '')
    """

    layout: str = "auto"
    value_range: str = "auto"
    first_label: int = 0

    @property
    def name(self) -> str:
        """Beginning of the names under which the results of passes over all examples are kept."""
        return "".join(f"{part}_" for part in (self.layout, self.value_range) if part != "auto")


AS_THEY_ARE = Reading()
MOST_COUNTS = 2**16  # a count is smaller


class Values(NamedTuple):
    """Kind of a data set's values: ``kind``, ``levels``, ``missing`` and ``value_range`` as in ``Spec``; and how they are stored.

    ``conversion``: as ``levels.converter`` takes it.

    Example:
      >>> Values("binary", 2, "bytes").levels
      2
    """

    kind: str
    levels: int | None
    conversion: str
    missing: bool = False
    value_range: tuple[float, ...] = ()


class Summary(NamedTuple):
    """Summary of all values of one array.

    ``bits``: all are 0 or 1; ``extremes``: all are 0 or 255; ``tops``: those of ``levels.TOPS`` of which all are k/top up to
    rounding; ``missing``: some are NaN, which the others leave out.

    Example:
      >>> Summary(0, 255).high
      255
    """

    low: float = math.inf
    high: float = -math.inf
    bits: bool = True
    extremes: bool = True
    tops: tuple[int, ...] = grids.TOPS
    missing: bool = False


def recognise(
    where: str,
    raw: Mapping[str, np.ndarray],
    chunks: Iterable[np.ndarray] | None = None,
    value_range: str = "auto",
) -> Values:
    """Recognise the values of a user's raw arrays, read a chunk at a time.

    Recognised, over all arrays together: bools; integers 0..255 (binary where all are 0 or 1, or all 0 or 255; vectors, such as
    counts, have as many levels as their largest value needs; images of larger ones those of 10, 12, 14 or 16 bits, of negative
    ones all from the least to the largest); floats in
    [0, 1] (binary where all are 0 or 1; 8-bit where all are k/255 up to rounding, images also of more bits; else continuous);
    vectors and series of other
    floats, those that fill less than a tenth of [0, 1], and those with missing entries, NaN (kind "real").

    Args:
      where: named in errors.
      raw: name -> array as ``layouts.arranged`` returns it; of one trailing shape. Names appear in errors.
      chunks: all examples of the only array, where the caller reads them anyway.
      value_range: "auto"; "real" for vectors and series of any numbers; or LOW:HIGH, which become 0 and 1, as values beyond do.
    Raises: UserError for a dtype, rank, shape or value that vaex cannot use.
    Example:
      >>> recognise("a.npz", {"x": np.array([[0, 255], [255, 0]])})
      Values(kind='binary', levels=2, conversion='top', missing=False, value_range=())
    """
    bounds = grids.checked_range(value_range)
    for name, values in raw.items():
        check(f"{where}: {name}", values)
    first, example = next(iter(raw.items()))
    for name, values in raw.items():
        if values.shape[1:] != example.shape[1:]:
            raise UserError(
                f"{where}: {name} has examples of shape {values.shape[1:]}, but {first} of {example.shape[1:]}; "
                "all splits need one shape"
            )
        if _family(values) != _family(example):
            raise UserError(
                f"{where}: {name} is {values.dtype}, but {first} is {example.dtype}; store all splits in one dtype"
            )
    images, family = example.ndim > 3, _family(example)
    kind = "color" if images and example.shape[-1] > 1 else "grey"
    window = () if bounds == "real" else bounds
    if window and family == "integer" and (levels := grids.window_levels(*window)):
        conversion = grids.windowed(*window)
        return Values("binary" if levels == 2 else kind, levels, conversion, value_range=window)
    begin = f"range:{window[0]!r}:{window[1]!r}|" if window else ""
    mapped = grids.converter(begin + "floats") if window else None
    summaries = {
        name: _summarise(f"{where}: {name}", values, chunks or in_chunks(values), mapped)
        for name, values in raw.items()
    }
    if bounds == "real":
        return _real(where, summaries, images=images)
    if family == "bool":
        return Values("binary", 2, "bytes")
    if family == "integer" and not window:
        return _integers(where, raw, summaries, kind, images=images)
    reading = _floats(where, summaries, kind, images=images, series=example.ndim == 3)
    return reading._replace(conversion=begin + reading.conversion, value_range=window)


def stored(values: Values, raw: np.ndarray) -> np.ndarray:
    """Convert raw values to stored ones, uint8, uint16 or float32; memory-mapped ones to ``MappedRows``.

    Example:
      >>> stored(Values("binary", 2, "top"), np.array([[0, 255], [255, 0]])).tolist()
      [[0, 1], [1, 0]]
    """
    convert, shape = grids.converter(values.conversion), raw.shape[1:]
    if isinstance(raw, np.memmap):
        dtype = convert(raw[:1]).dtype
        rows = MappedRows(raw, np.arange(len(raw)), lambda some: convert(some.reshape(-1, *shape)), shape, dtype)
        return cast(np.ndarray, rows)
    if convert(raw[:1]).dtype == raw.dtype and values.conversion in ("bytes", "counts", "floats"):
        return raw
    return np.concatenate([convert(chunk) for chunk in in_chunks(raw)])


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
    if values.size == 0:
        raise UserError(f"{where} is empty (shape {values.shape}); give at least one example")
    if values.ndim not in (2, 3, 4, 5):
        remedy = (
            "reshape it, or read each example as a vector with --layout=vector" if values.ndim > 5 else "reshape it"
        )
        raise UserError(f"{where} has shape {values.shape}, expected {ARRAYS}; {remedy}")


def _family(values: np.ndarray) -> str:
    return {"b": "bool", "i": "integer", "u": "integer", "f": "float"}[values.dtype.kind]


def _summarise(
    where: str, values: np.ndarray, chunks: Iterable[np.ndarray], mapped: grids.Convert | None = None
) -> Summary:
    """Summarise the values, or what ``mapped`` makes of them, reading no more of them than the result depends on."""
    summary, family = Summary(), _family(values)
    done, bad, first_bad, missing = 0, 0, (), False
    for all_of_chunk in chunks if family != "bool" else ():
        chunk = all_of_chunk
        if family == "float" and not np.isfinite(chunk).all():
            refused = np.isinf(chunk) if values.ndim < 4 else ~np.isfinite(chunk)  # NaN is a missing entry
            where_bad = np.argwhere(refused)
            first_bad = first_bad or (
                (done + int(where_bad[0][0]), *where_bad[0][1:].tolist()) if len(where_bad) else ()
            )
            bad += len(where_bad)
            missing, chunk = True, chunk[np.isfinite(chunk)]
        done += len(all_of_chunk)
        if bad or not chunk.size:
            continue
        chunk = chunk if mapped is None else mapped(chunk)
        unit = chunk.dtype.kind == "f" and chunk.min() >= 0 and chunk.max() <= 1
        summary = Summary(
            min(summary.low, chunk.min()),
            max(summary.high, chunk.max()),
            summary.bits and bool(np.all((chunk == 0) | (chunk == 1))),
            summary.extremes and family == "integer" and bool(np.all((chunk == 0) | (chunk == 255))),
            grids.on_grids(chunk, summary.tops, mapped=mapped is not None) if unit else (),
        )
        if values.dtype == np.uint8 and values.ndim > 3 and not (summary.bits or summary.extremes):
            break  # nothing in the rest could change this
    if bad:
        first_bad = first_bad[:-1] if values.ndim > 3 and values.shape[-1] == 1 else first_bad
        raise UserError(
            f"{where} has {bad} values that are {'infinite' if values.ndim < 4 else 'NaN or infinite'}, the first at index "
            f"{first_bad}; remove these examples or replace the values"
        )
    if missing and summary.high < summary.low:
        raise UserError(f"{where}: all values are NaN, missing; give observed ones")
    return summary._replace(missing=missing)


def _integers(
    where: str, raw: Mapping[str, np.ndarray], summaries: Mapping[str, Summary], kind: str, *, images: bool
) -> Values:
    low, high = (int(pick(getattr(s, end) for s in summaries.values())) for pick, end in ((min, "low"), (max, "high")))
    if all(summary.bits for summary in summaries.values()):
        return Values("binary", 2, "bytes")
    if all(summary.extremes for summary in summaries.values()):
        return Values("binary", 2, "top")
    if images and (low < 0 or high > 255) and (window := grids.natural_window(low, high)):
        declared = () if window[0] == 0 else window
        return Values(kind, grids.window_levels(*window), grids.windowed(*window), value_range=declared)
    if low == 0 and 255 < high < MOST_COUNTS and all(_are_counts(array, high) for array in raw.values()):
        return Values(kind, 1 + high, "counts")
    for name, summary in summaries.items():
        if summary.low < 0 or summary.high > 255:
            remedy = "declare a window, such as --value_range=-1000:1000" if images else "read it as --value_range=real"
            raise UserError(
                f"{where}: {name} is {raw[name].dtype} with values from {summary.low} to {summary.high}, expected 0 to 255; "
                f"{remedy}, or rescale it to uint8"
            )
    if images:
        return Values(kind, 256, "bytes")
    return Values(kind, 1 + max(int(summary.high) for summary in summaries.values()), "bytes")  # such as counts


def _real(where: str, summaries: Mapping[str, Summary], *, images: bool) -> Values:
    if images:
        raise UserError(
            f"--value_range=real: is for vectors and series, and {where} holds images or volumes; give their range, LOW:HIGH"
        )
    _check_fits(where, *(max(abs(float(s.low)), abs(float(s.high))) for s in summaries.values()))
    return Values("real", None, "floats", any(summary.missing for summary in summaries.values()))


def _check_fits(where: str, *largest: float) -> None:
    if max(largest) > float(np.finfo(np.float32).max):
        raise UserError(f"{where}: values up to {max(largest):g} do not fit in float32; rescale them")


def _floats(where: str, summaries: Mapping[str, Summary], kind: str, *, images: bool, series: bool) -> Values:
    low = min(float(summary.low) for summary in summaries.values())
    high = max(float(summary.high) for summary in summaries.values())
    bits = all(summary.bits for summary in summaries.values())
    missing = any(summary.missing for summary in summaries.values())
    narrow = (
        not images and high - low < 0.1 and not bits
    )  # on a scale of their own, such as probabilities of rare events
    if bits and missing and series:
        return Values("binary", None, "floats", missing)
    if low < 0 or high > 1 or narrow or missing:
        if images:
            raise UserError(
                f"{where}: float images hold values from {low:g} to {high:g}, expected 0 to 1; {_range_of(low, high)}, or read "
                "real numbers as series [n, t, c] with --kind=series, or as vectors with --layout=vector"
            )
        _check_fits(where, -low, high)
        return Values("real", None, "floats", missing)
    if bits:
        return Values("binary", 2, "bytes")
    tops = set(grids.TOPS if images else grids.TOPS[:1]).intersection(*(set(s.tops) for s in summaries.values()))
    if tops:
        return Values(kind, 1 + min(tops), "grid" if min(tops) == grids.TOPS[0] else f"grid:{min(tops)}")
    return Values(kind, None, "floats")


def _range_of(low: float, high: float) -> str:
    """Name the range that values from ``low`` to ``high`` probably have."""
    if low >= 0:
        top = max(255, 2 ** math.ceil(math.log2(high + 1)) - 1)  # 4095 of 12 bits
        return f"give the possible ones, such as --value_range=0:{top}"
    if low >= -1 and high <= 1:
        return "give the possible ones, --value_range=-1:1"
    return f"give the possible ones, such as --value_range={math.floor(low)}:{math.ceil(high)}"


def _are_counts(raw: np.ndarray, largest: int) -> bool:
    """Tell whether vectors of integers [n, d] beyond 255 look like counts: at most a tenth of them lie above three quarters of the
    largest, and the mean variance of columns is at least 0.7 of their mean (of up to a million values, evenly spread)."""
    if raw.ndim != 2:
        return False
    some = np.asarray(raw[:: max(1, raw.size // 2**20)], np.float64)
    dispersed = np.mean(some.var(axis=0)) >= 0.7 * np.mean(some) > 0
    return bool(dispersed and np.mean(some > 0.75 * largest) <= 0.1)
