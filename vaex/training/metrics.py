"""What a run writes while it trains: rows of metrics and timings."""

from __future__ import annotations

import json
import pathlib
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vaex.files import atomic_path
from vaex.training.progress import Progress

CHECKSUM = "crc32"  # of a row's other entries as JSON, in hexadecimal digits


class Rows:
    """A file of JSON lines, each with its "step"; appended whole lines only, cut back to a step on resume.

    Args:
      path: the file.
      keep_until: rows of later steps, and a torn last line, are removed.
    """

    def __init__(self, path: pathlib.Path, *, keep_until: int) -> None:
        self.path = path
        rows = [row for row in read_rows(path) if row["step"] <= keep_until]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(_line(row) for row in rows))

    def append(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add rows; they are on disk when this returns, as far as the operating system goes."""
        if rows:
            try:
                with self.path.open("a") as file:
                    file.write("".join(_line(row) for row in rows))
            except OSError as error:
                error.filename = error.filename or str(self.path)
                raise


def _line(row: Mapping[str, object]) -> str:
    return json.dumps({**row, CHECKSUM: _checksum(row)}, allow_nan=False) + "\n"


def _checksum(row: Mapping[str, object]) -> str:
    return f"{zlib.crc32(json.dumps(row, allow_nan=False).encode()):08x}"


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a JSON lines file; none where it is missing.

    A last line that is torn, as a process that was killed leaves it, is left out; so is any other line that is no row, or another
    one than was written, as its checksum tells, with a warning that names it. Rows come without their checksums.
    """
    if not path.exists():
        return []
    *lines, torn = path.read_bytes().decode(errors="replace").split("\n")
    read = [_row(line) for line in lines]
    last = _row(torn[: torn.rfind("}") + 1])
    # earlier versions wrote no checksums
    checked = any(row is not None and CHECKSUM in row for row in [*read, last])
    rows = [row if row is not None and _is_as_written(row, checked=checked) else None for row in read]
    unreadable = [number for number, row in enumerate(rows, start=1) if row is None]
    if last is not None and _is_as_written(last, checked=checked):  # but for the end of its line
        rows.append(last)
    if unreadable:
        which = ", ".join(map(str, unreadable[:5])) + (", ..." if len(unreadable) > 5 else "")
        warnings.warn(f"{path}: cannot read line {which}, left out; the other rows are kept", stacklevel=2)
    return [{name: value for name, value in row.items() if name != CHECKSUM} for row in rows if row is not None]


def _row(line: str) -> dict[str, Any] | None:
    """The row that a line holds, None where it holds none."""
    try:
        row = json.loads(line, parse_constant=_refuse)
        json.dumps(row, allow_nan=False)  # 1e999 is read as infinite
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _is_as_written(row: Mapping[str, Any], *, checked: bool) -> bool:
    """Return True if the checksum of a row is right, or there is none in the whole file, nor text that may be one."""
    values = {name: value for name, value in row.items() if name != CHECKSUM}
    if checked:
        return row.get(CHECKSUM) == _checksum(values)
    return not any(isinstance(value, str) for value in values.values())


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def metric_rows(names: Sequence[str], rows: np.ndarray, first_row: int, log_every: int) -> list[dict[str, Any]]:
    """Rows of a chunk [p, r, m] as records: "step" and, for each metric, a list with one number per member, or None where
    it is not finite, since JSON has no nan.

    Args:
      names: of the m metrics; "finite" is left out, since training stops where it is not 1.
      rows: means over windows of ``log_every`` steps.
      first_row: the number of windows before the first of these.
      log_every: steps per window.
    """
    records = []
    for index in range(rows.shape[1]):
        record: dict[str, Any] = {"step": (first_row + index + 1) * log_every}
        for column, name in enumerate(names):
            if name != "finite":
                values = rows[:, index, column].astype(np.float32)
                record[name] = [float(value) if np.isfinite(value) else None for value in values]
        records.append(record)
    return records


class RowSink(Protocol):
    """Takes rows, each with its "step"."""

    def append(self, rows: Sequence[Mapping[str, object]]) -> None: ...


class Writer:
    """What a run writes and shows while it trains: rows of metrics, timings and the progress.

    Args:
      rows: takes the rows of metrics.
      timings: takes a row for each chunk of steps.
      names, log_every: of the metrics and their rows.
      progress: shown, unless it is None.
      callbacks: called with the rows of each chunk that finished some.
    """

    def __init__(
        self,
        rows: RowSink,
        timings: RowSink,
        names: Sequence[str],
        log_every: int,
        progress: Progress | None,
        callbacks: Sequence[Callable[[Sequence[Mapping[str, Any]]], None]] = (),
    ) -> None:
        self._rows, self._timings = rows, timings
        self._names, self._log_every, self._progress = tuple(names), log_every, progress
        self._callbacks = tuple(callbacks)

    def report(self, first: int, stop: int, rows: np.ndarray, last: np.ndarray, seconds: float) -> None:
        """After the steps ``first`` to ``stop``: means of finished windows ``rows`` [p, r, m], ``last`` metrics [p, m]."""
        records = metric_rows(self._names, rows, first // self._log_every, self._log_every)
        self._rows.append(records)
        timing = {"step": stop, "steps": stop - first, "seconds": round(seconds, 6), "time": round(time.time(), 3)}
        self._timings.append([timing])
        if self._progress is not None:
            trained = last[~np.isnan(last).all(axis=1)]  # without members that have diverged
            means = dict(zip(self._names, np.mean(trained, axis=0), strict=True))
            self._progress.update(stop, stop - first, seconds, means)
        for callback in self._callbacks if records else ():
            callback(records)

    def append(self, row: Mapping[str, object]) -> None:
        """Add a row that is no window of training, such as one of validation."""
        self._rows.append([row])
        for callback in self._callbacks:
            callback([row])

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.close()
