"""Runs side by side for programs and eyes: all their numbers as CSV, and one metric as bars with its errors over seeds."""

from __future__ import annotations

import csv
import io
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from vaex.errors import UserError, nearest
from vaex.files import atomic_path
from vaex.plots.records import Bars
from vaex.results.compare import METRICS, differing_settings, settings_of_record, summary_records

PROTOCOL = ("dataset", "split", "protocol", "likelihood")


def rows(summaries: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each run and each value of what it varies.

    A row has the run, the protocol of its numbers, every setting that differs between rows, steps, number of seeds, and each
    metric with its standard error over seeds, None for one seed.

    Args:
      summaries: name -> summary, from ``vaex.results.compare.read_runs``.
    """
    shown = differing_settings(summaries)
    records = []
    for name, summary, record in summary_records(summaries):
        settings = settings_of_record(summary, record)
        metrics = {key: value for key, value in record.items() if isinstance(value, Mapping) and "mean" in value}
        records.append(
            {
                "run": name,
                **{key: summary["evaluation"]["split"] if key == "split" else summary[key] for key in PROTOCOL},
                **{key: settings.get(key) for key in shown},
                "steps": summary["steps"],
                "seeds": record["seeds"],
                **{
                    column: number
                    for key, value in metrics.items()
                    for column, number in ((key, value["mean"]), (f"{key}_standard_error", value["standard_error"]))
                },
            }
        )
    return records


def as_csv(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return ``rows`` as CSV, whose first line names the columns; what a row lacks is empty."""
    all_rows = rows(summaries)
    columns = list(dict.fromkeys(column for row in all_rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(all_rows)
    return text.getvalue()


def write_csv(path: str | os.PathLike[str], summaries: Mapping[str, Mapping[str, Any]]) -> pathlib.Path:
    """Write ``as_csv`` to a file, atomically; return its path."""
    path = pathlib.Path(path).expanduser()
    with atomic_path(path) as temporary:
        temporary.write_text(as_csv(summaries))
    return path


def bars(summaries: Mapping[str, Mapping[str, Any]], metric: str = "elbo") -> list[Bars]:
    """Return a metric of all rows as bars with standard errors over seeds, a panel for each protocol and likelihood.

    Args:
      summaries: name -> summary, from ``vaex.results.compare.read_runs``.
      metric: its name in summary.json.
    Raises: UserError where no row has it.
    """
    all_rows = rows(summaries)
    if not any(isinstance(row.get(metric), int | float) for row in all_rows):
        numbers = {key for row in all_rows for key, value in row.items() if isinstance(value, float)}
        known = {name for name in numbers if not name.endswith("_standard_error")}
        raise UserError(f"compare: no run has the metric {metric!r}; {nearest(metric, known or METRICS)}")
    panels: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in all_rows:
        if row.get(metric) is not None:
            panels.setdefault(tuple(row[key] for key in PROTOCOL), []).append(row)
    shown, several = (
        differing_settings(summaries),
        len(summaries) > len({pathlib.Path(name).name for name in summaries}),
    )
    return [
        Bars(
            [row[metric] for row in chosen],
            tuple(_label(row, shown, several=several) for row in chosen),
            y_label=metric.replace("_", " "),
            title=f"{key[0]}\n{key[3]}",
            errors=[row[f"{metric}_standard_error"] or 0.0 for row in chosen],
        )
        for key, chosen in panels.items()
    ]


def _label(row: Mapping[str, Any], shown: list[str], *, several: bool) -> str:
    """The settings that differ; the run where there are none."""
    settings = "\n".join(f"{name}={row[name]}" for name in shown if row.get(name) is not None)
    run = row["run"] if several else pathlib.Path(row["run"]).name
    return settings or run
