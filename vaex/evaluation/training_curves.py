"""Training curves: rows of ``metrics.jsonl`` in, a panel of ``Curves`` per metric out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from vaex.plots.records import Curves

NATS = ("elbo", "bound", "kl", "reconstruction", "log_likelihood", "loss")  # metrics that end so are nats
ABBREVIATIONS = ("elbo", "kl", "iwae", "mmd")  # written in capitals

VALIDATION = "validation_"  # begins the names of metrics of the validation split

Value = float | int | str | None  # JSON's numbers, strings and null
Row = Mapping[str, Value | list[Value]]


def training_curves(
    rows: Sequence[Row], *, members: Sequence[str] = (), metrics: Sequence[str] = (), x: str = "step"
) -> dict[str, Curves]:
    """One panel per metric with a line per population member, from the rows of ``metrics.jsonl``.

    A row that lacks a metric, or has null for it, leaves a gap. Metrics of the validation split, "validation_NAME", are marked in
    the panel of NAME.

    Args:
      rows: dicts with ``x`` and metrics; a metric is a number or a list with one entry per member.
      members: their names; "member 0", ... by default.
      metrics: which to show, in this order; by default all that are numbers, in the order of their first appearance.
      x: the key of the horizontal axis.
    Returns: metric -> ``Curves``; ``vaex.plots.save(list(panels.values()), path)`` draws them in one figure.
    Raises: ValueError for no rows, a row without ``x``, an unknown metric, or lists of different lengths.
    Example:
      >>> rows = [{"step": 0, "elbo": [-90.0, -80.0]}, {"step": 100, "elbo": [-60.0, None]}]
      >>> panel = training_curves(rows, members=("beta=1", "beta=4"))["elbo"]
      >>> {name: line.tolist() for name, line in panel.lines.items()}, panel.y_label
      ({'beta=1': [-90.0, -60.0], 'beta=4': [-80.0, nan]}, 'nats')
    """
    if not rows:
        raise ValueError(
            "training_curves: got no rows, expected at least one; leave the figure out before the first one"
        )
    for position, row in enumerate(rows):
        if x not in row:
            raise ValueError(f"training_curves: row {position} has no {x!r}, expected it beside {', '.join(row)}")
    validation = [row for row in rows if any(name.startswith(VALIDATION) for name in row)]
    rows = [row for row in rows if row not in validation] or rows
    known = dict.fromkeys(name for row in rows for name, value in row.items() if name != x and _is_numeric(value))
    unknown = [name for name in metrics if name not in known]
    if unknown:
        raise ValueError(f"training_curves: no row has {', '.join(unknown)}, expected some of {', '.join(known)}")
    steps = np.array([row[x] for row in rows], np.float64)
    panels = {}
    for name in metrics or known:
        table = _table(name, [row.get(name) for row in rows])
        names = tuple(members) or tuple(f"member {member}" for member in range(table.shape[1]))
        if len(names) != table.shape[1] or len(set(names)) != len(names):
            raise ValueError(
                f"training_curves: {name} has {table.shape[1]} members, expected as many different names, "
                f"got {', '.join(names)}"
            )
        unit = "nats" if any(name.split(" ")[0].endswith(suffix) for suffix in NATS) else ""
        lines, marks = dict(zip(names, table.T, strict=True)), {}
        held_out = [row for row in validation if VALIDATION + name in row]
        if held_out:
            values = _table(name, [row[VALIDATION + name] for row in held_out])
            at = np.array([row[x] for row in held_out], np.float64)
            marks = {member: (at, column) for member, column in zip(names, values.T, strict=True)}
        heading = _heading(name) + (" (dashed: validation)" if marks else "")
        panels[name] = Curves(steps, lines, x, unit, heading, marks=marks)
    return panels


def _heading(name: str) -> str:
    """Return the metric's name as a title: abbreviations in capitals, else a capital first letter."""
    first, *rest = [part.upper() if part in ABBREVIATIONS else part for part in name.split("_")]
    return " ".join([first[:1].upper() + first[1:], *rest])


def _is_numeric(value: Value | list[Value]) -> bool:
    entries = value if isinstance(value, list) else [value]
    return all(isinstance(entry, int | float) or entry is None for entry in entries)


def _table(name: str, column: Sequence[Value | list[Value]]) -> np.ndarray:
    """[rows, members] float64 with NaN for what is missing."""
    lists = [value if isinstance(value, list) else None if value is None else [value] for value in column]
    widths = {len(entries) for entries in lists if entries is not None} or {1}
    if len(widths) > 1:
        raise ValueError(
            f"training_curves: {name} has {min(widths)} to {max(widths)} entries, expected one per member in every row"
        )
    width = widths.pop()
    entries = [[None] * width if row is None else row for row in lists]
    return np.array([[math.nan if entry is None else float(entry) for entry in row] for row in entries], np.float64)
