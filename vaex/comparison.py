"""Finished runs side by side: one table for each protocol and likelihood, so that no column mixes numbers that don't compare."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from vaex.errors import UserError
from vaex.files import read_json

METRICS = ("elbo", "reconstruction", "cross_entropy", "kl", "log_likelihood", "bits_per_dimension", "active_units")


def read_runs(directories: Sequence[str | os.PathLike[str]]) -> dict[str, dict[str, Any]]:
    """Directory -> its summary.json.

    Raises: UserError for a directory that holds no finished run.
    """
    found = {}
    for directory in map(pathlib.Path, directories):
        try:
            summary = read_json(directory.expanduser() / "summary.json")
        except (OSError, ValueError):
            raise UserError(f"{directory}: holds no finished run (no summary.json that can be read)") from None
        if not isinstance(summary, dict) or not {"protocol", "likelihood", "results", "evaluation"} <= set(summary):
            raise UserError(f"{directory}: its summary.json is not that of a run")
        found[str(directory)] = summary
    return found


def compare(summaries: dict[str, dict[str, Any]]) -> str:
    """Tables of runs, a row for each run and each value of what it varies: means and standard errors over its seeds.

    Runs share a table only where data set, protocol, split and likelihood are the same. Log-likelihoods share a column only
    where also the number of importance samples and of images are.

    Args:
      summaries: name -> summary, from ``read_runs``.
    Returns: text, one table after the other under a line that says what its numbers are.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, summary in summaries.items():
        key = (summary["dataset"], summary["evaluation"]["split"], summary["protocol"], summary["likelihood"])
        groups.setdefault(key, []).append(name)
    parts = []
    for (dataset, split, protocol, likelihood), names in groups.items():
        heading = f"{dataset}, {split} split; protocol: {protocol}; likelihood: {likelihood}; nats per example"
        parts.append(f"{heading}\n{_table({name: summaries[name] for name in names})}")
    return "\n\n".join(parts)


def _table(summaries: dict[str, dict[str, Any]]) -> str:
    records = [(name, summary, record) for name, summary in summaries.items() for record in summary["results"]]
    columns = list(dict.fromkeys(_column(summary, m) for _, summary, record in records for m in METRICS if m in record))
    lines = [["run", "varied", "steps", "seeds", *columns]]
    for name, summary, record in records:
        varied = " ".join(f"{key}={value}" for key, value in record.items() if isinstance(value, str))
        cells = {
            _column(summary, metric): cell(record[metric]["mean"], record[metric]["standard_error"], digits=5)
            for metric in METRICS
            if metric in record
        }
        row = [pathlib.Path(name).name, varied or "-", str(summary["steps"]), str(record["seeds"])]
        lines.append([*row, *(cells.get(column, "-") for column in columns)])
    return aligned(lines)


def _column(summary: dict[str, Any], metric: str) -> str:
    if metric not in ("log_likelihood", "bits_per_dimension"):
        return metric
    facts = summary["evaluation"]
    return f"{metric} (K={facts['importance_samples']}, n={facts['log_likelihood_examples']})"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, columns aligned to the right.

    Example:
      >>> print(aligned([["beta", "elbo"], ["1", "-108.5"]]))
      beta    elbo
         1  -108.5
    """
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def cell(mean: float | None, error: float | None = None, *, digits: int = 4) -> str:
    """A mean and its standard error, as far as they are known.

    Example:
      >>> cell(-88.4812, 0.24), cell(None)
      ('-88.48 ± 0.24', '-')
    """
    if mean is None:
        return "-"
    return f"{mean:.{digits}g}" if error is None else f"{mean:.{digits}g} ± {error:.2g}"
