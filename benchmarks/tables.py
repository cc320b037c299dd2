"""Rows of measurements as Markdown tables and figures, and side by side with those of other machines."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaex.errors import UserError
from vaex.files import read_json

if TYPE_CHECKING:
    from vaex.plots.records import Bars

Row = dict[str, Any]
BLOCK = ("model", "batch_size", "precision")  # rows of one block were measured together
CONTESTANT = ("framework", "strategy", "population")
MOST_PANELS = 9


def number(value: float | None, unit: str = "", digits: int = 3) -> str:
    """Format a number to ``digits`` significant digits; "-" where it is unknown.

    Example:
      >>> number(12345.6), number(0.98765, "x"), number(None)
      ('12,300', '0.988x', '-')
    """
    if value is None or value != value:
        return "-"
    if value == 0:
        return f"0{unit}"
    places = digits - 1 - int(np.floor(np.log10(abs(value))))
    return f"{round(value, places):,.{max(places, 0)}f}{unit}"


def percent(value: float | None) -> str:
    """Format a fraction in per cent; "-" where it is unknown.

    Example:
      >>> percent(0.0312), percent(None)
      ('3.1%', '-')
    """
    return "-" if value is None or value != value else f"{value:.1%}"


def spread(value: float | None) -> str:
    """Format a relative spread; "-" where repeats were too few for one.

    Example:
      >>> spread(0.014), spread(float("nan"))
      ('±1.4%', '-')
    """
    return f"±{value:.1%}" if value is not None and value == value else "-"


def without_nan(value: Any) -> Any:
    """Replace NaN, which is not JSON, by None in a tree of lists and dicts.

    Example:
      >>> without_nan({"spread": [float("nan"), 1.5]})
      {'spread': [None, 1.5]}
    """
    if isinstance(value, dict):
        return {name: without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value


def table(columns: Mapping[str, Sequence[str]]) -> str:
    """Return a Markdown table of columns of cells.

    Example:
      >>> print(table({"batch": ["64", "128"], "steps/s": ["12", "7"]}))
      | batch | steps/s |
      |---|---|
      | 64 | 12 |
      | 128 | 7 |
    """
    lines = [list(columns), *zip(*columns.values(), strict=True)]
    text = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([text[0], f"|{'|'.join(['---'] * len(columns))}|", *text[1:]])


def contestant(row: Row, *, resolved: bool = True) -> str:
    """Describe a contestant in a few words; ``resolved`` adds the strategy that "auto" chose.

    Example:
      >>> row = {"framework": "vaex", "strategy": "auto", "population": 8, "run_as": "members", "devices": 2}
      >>> contestant(row), contestant(row, resolved=False)
      ('vaex, auto (members on 2 devices)', 'vaex, auto')
      >>> contestant({"framework": "torch", "strategy": "", "population": 1})
      'torch'
    """
    if row["population"] == 1:
        return row["framework"]
    text = f"{row['framework']}, {row['strategy']}"
    if not resolved or row["strategy"] != "auto" or not row.get("run_as"):
        return text
    return f"{text} ({row['run_as']}{f' on {n} devices' if (n := row.get('devices') or 1) > 1 else ''})"


def blocks(rows: Sequence[Row]) -> dict[tuple, list[Row]]:
    """Group the rows that were measured together, in order."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in BLOCK), []).append(row)
    return groups


def markdown(rows: Sequence[Row]) -> str:
    """Return a table for each block, under a line with its name and the peaks of the device."""
    parts = []
    for (model, batch_size, precision), block in blocks(rows).items():
        first = block[0]
        parts.append(
            f"{model}, batch {batch_size}, {precision}. Measured beside it: products {number(first['product_peak'] / 1e9)} "
            f"GFLOP/s, copies {number(first['copy_peak'] / 1e9)} GB/s.\n\n{_block_table(block)}"
        )
    return "\n\n".join(parts)


def _block_table(block: Sequence[Row]) -> str:
    def column(name: str, show: Any) -> list[str]:
        return [
            row.get("failure") or "" if row.get("failure") and name == "steps_per_second" else show(row)
            for row in block
        ]

    def value(name: str, show: Any = number) -> list[str]:
        return column(name, lambda row: show(row.get(name)))

    return table(
        {
            "what": [contestant(row) for row in block],
            "models": [str(row["population"]) for row in block],
            "steps/s": value("steps_per_second"),
            "spread": value("spread", spread),
            "examples/s": value("examples_per_second"),
            "model-examples/s": value("model_examples_per_second"),
            "per-model rate against one alone": value("per_model_ratio", lambda ratio: number(ratio, "x")),
            "vaex is as fast": value("vaex_ratio", lambda ratio: number(ratio, "x")),
            "compile, s": value("compile_seconds"),
            "memory, MB": value("memory_bytes", lambda size: number(size and size / 1e6)),
            "GFLOP a step": value("flops_per_step", lambda flops: number(flops and flops / 1e9)),
            "in products": value("products_per_step", lambda flops: number(flops and flops / 1e9)),
            "of product peak": value("product_fraction", percent),
            "of bandwidth": value("bandwidth_fraction", percent),
            "repeats dropped": column("dropped", lambda row: f"{row.get('dropped', '-')} of {row['repeats']}"),
        }
    )


def figure(rows: Sequence[Row]) -> list[Bars]:
    """Return bars of the model-examples per second of each block; the first nine blocks."""
    from vaex.plots.records import Bars

    panels = []
    for (model, batch_size, precision), block in list(blocks(rows).items())[:MOST_PANELS]:
        labels = tuple(
            contestant(row, resolved=False) + (f" {row['population']}" if row["population"] > 1 else "")
            for row in block
        )
        heights = [float(row.get("model_examples_per_second") or "nan") for row in block]
        title = f"{model}, batch {batch_size}" + ("" if precision == "float32" else f", {precision}")
        panels.append(Bars(np.array(heights), labels, y_label="model-examples/s", title=title))
    return panels


def read_results(paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read results of earlier runs: name of the machine -> results.

    Raises: UserError for a file that no run of throughput.py wrote.
    """
    machines: dict[str, dict[str, Any]] = {}
    for path in map(pathlib.Path, paths):
        try:
            results = read_json(path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"--compare: {path} cannot be read ({error}); give the JSON files of earlier runs"
            ) from None
        if not isinstance(results, dict) or not {"machine", "rows"} <= set(results) or "benchmark" not in results:
            raise UserError(f"--compare: {path} is not what throughput.py writes; give its throughput.json")
        if results["benchmark"] != "throughput":
            raise UserError(f"--compare: {path} is of {results['benchmark']}.py, expected throughput.py")
        name = results["machine"]["device"]
        machines[name if name not in machines else f"{name} ({path})"] = results
    return machines


def compare(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of the model-examples per second of each row on each machine.

    Args:
      results: from ``read_results``; a row that a machine lacks is "not measured" there.
    """
    keys = list(
        dict.fromkeys(
            tuple(row[name] for name in (*BLOCK, *CONTESTANT)) for run in results.values() for row in run["rows"]
        )
    )
    keys.sort(key=lambda key: [str(part) for part in key[:1]])  # by model; else as they were measured
    columns: dict[str, list[str]] = {name: [] for name in ("model", "batch", "precision", "what", "models")}
    for model, batch_size, precision, framework, strategy, members in keys:
        what = contestant({"framework": framework, "strategy": strategy, "population": members})
        cells = (model, str(batch_size), precision, what, str(members))
        for column, cell in zip(columns.values(), cells, strict=True):
            column.append(cell)
    for machine, run in results.items():
        rows = {tuple(row[name] for name in (*BLOCK, *CONTESTANT)): row for row in run["rows"]}
        columns[machine] = [_compared(rows.get(key)) for key in keys]
    return table(columns)


def _compared(row: Row | None) -> str:
    if row is None:
        return "not measured"
    if row.get("failure"):
        return row["failure"]
    return f"{number(row['model_examples_per_second'])} {spread(row['spread'])}"
