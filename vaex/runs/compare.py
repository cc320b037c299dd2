"""Finished runs side by side: one table for each protocol and likelihood, so that no column mixes numbers that don't compare."""

from __future__ import annotations

import math
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vaex.errors import UserError
from vaex.files import read_json

if TYPE_CHECKING:
    import numpy as np

METRICS = ("elbo", "reconstruction", "cross_entropy", "kl", "log_likelihood", "bits_per_dimension", "active_units")
LOG_LIKELIHOODS = "log_likelihood.npz"  # of a run directory: "log_likelihood" [p, n], of each member and example


def read_runs(directories: Sequence[str | os.PathLike[str]]) -> dict[str, dict[str, Any]]:
    """Directory -> its summary.json.

    Raises: UserError for a directory that holds no finished run.
    """
    summaries = {}
    for directory in map(pathlib.Path, directories):
        try:
            summary = read_json(directory.expanduser() / "summary.json")
        except (OSError, ValueError):
            raise UserError(f"{directory}: holds no finished run (no summary.json that can be read)") from None
        if not isinstance(summary, dict) or not {"protocol", "likelihood", "results", "members", "evaluation"} <= set(
            summary
        ):
            raise UserError(f"{directory}: its summary.json is not that of a run")
        summaries[str(directory)] = summary
    return summaries


def read_log_likelihoods(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Directory -> the log-likelihood of each member and example, [p, n], float64, nats.

    Runs are left out whose model has no density, or whose file is missing, damaged, or not that of their summary.
    """
    import numpy as np

    log_likelihoods = {}
    for directory, summary in summaries.items():
        try:
            with (pathlib.Path(directory).expanduser() / LOG_LIKELIHOODS).open("rb") as file:
                values = np.load(file, allow_pickle=False)["log_likelihood"].astype(np.float64)
        except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
            continue
        means = [member.get("log_likelihood") for member in summary["members"]]
        shape = len(means), summary["evaluation"]["log_likelihood_examples"]
        if (
            None not in means
            and values.shape == shape
            and np.allclose(values.mean(axis=1), means, rtol=1e-6, atol=1e-6)
        ):
            log_likelihoods[directory] = values
    return log_likelihoods


def compare(summaries: dict[str, dict[str, Any]], log_likelihoods: Mapping[str, np.ndarray] | None = None) -> str:
    """Tables of runs, a row for each run and each value of what it varies: means and standard errors over its seeds.

    Runs share a table only where data set, protocol, split and likelihood are the same. Log-likelihoods share a column only
    where also the number of importance samples and of images are, and then their paired differences stand below.

    Args:
      summaries: name -> summary, from ``read_runs``.
      log_likelihoods: name -> [p, n], from ``read_log_likelihoods``; without them nothing is paired.
    Returns: text, one table after the other under a line that says what its numbers are.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, summary in summaries.items():
        key = (summary["dataset"], summary["evaluation"]["split"], summary["protocol"], summary["likelihood"])
        groups.setdefault((*key, summary.get("given", "")), []).append(name)
    parts = []
    for (dataset, split, protocol, likelihood, given), names in groups.items():
        heading = f"{dataset}, {split} split; protocol: {protocol}; likelihood: {likelihood}; nats per example"
        chosen = {name: summaries[name] for name in names}
        parts.append(f"{heading}{f', given its {given}' if given else ''}\n{_table(chosen)}")
        parts += [] if log_likelihoods is None else _paired_tables(chosen, log_likelihoods)
    return "\n\n".join(parts)


def paired_difference(values: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Mean of ``values - reference`` over examples [n] and its standard error, nan for one example alone.

    Example:
      >>> import numpy as np
      >>> paired_difference(np.array([-80.0, -90.0, -100.0]), np.array([-81.0, -92.0, -103.0]))[0]
      2.0
    """
    from vaex.evaluation.likelihood import estimate

    return estimate(values - reference)[:2]


def _table(summaries: dict[str, dict[str, Any]]) -> str:
    records = _records(summaries)
    columns = list(dict.fromkeys(_column(summary, m) for _, summary, record in records for m in METRICS if m in record))
    lines = [["run", "varied", "steps", "seeds", *columns]]
    for name, summary, record in records:
        cells = {
            _column(summary, metric): cell(record[metric]["mean"], record[metric]["standard_error"], digits=5)
            for metric in METRICS
            if metric in record
        }
        row = [pathlib.Path(name).name, _varied(record) or "-", str(summary["steps"]), str(record["seeds"])]
        lines.append([*row, *(cells.get(column, "-") for column in columns)])
    return aligned(lines)


def _records(summaries: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """(name, summary, record) of each row."""
    return [(name, summary, record) for name, summary in summaries.items() for record in summary["results"]]


def _varied(record: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in record.items() if isinstance(value, str))


def _paired_tables(summaries: Mapping[str, dict[str, Any]], log_likelihoods: Mapping[str, np.ndarray]) -> list[str]:
    """A table of differences for each set of rows with the same examples and number of importance samples."""
    groups: dict[tuple[Any, ...], list[tuple[str, Mapping[str, Any], np.ndarray]]] = {}
    for name, summary, record in _records(summaries):
        if name in log_likelihoods:
            key = summary.get("data_hash"), _column(summary, "log_likelihood")
            groups.setdefault(key, []).append((name, record, _of_record(summary, record, log_likelihoods[name])))
    missing = [name for name, summary, record in _records(summaries) if "log_likelihood" in record]
    missing = [pathlib.Path(name).name for name in dict.fromkeys(missing) if name not in log_likelihoods]
    tables = [_paired(column, rows) for (_, column), rows in groups.items() if len(rows) > 1]
    if missing and groups:
        tables.append(
            f"not paired: {', '.join(missing)} (no {LOG_LIKELIHOODS} that belongs to the summary; the run's own command "
            "evaluates it again)"
        )
    return tables


def _of_record(summary: Mapping[str, Any], record: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    """The log-likelihood of each example, averaged over the seeds of a record."""
    varied = {key: value for key, value in record.items() if isinstance(value, str)}
    belongs = [varied.items() <= member["hparams"].items() for member in summary["members"]]
    return values[belongs].mean(axis=0)


def _paired(column: str, rows: Sequence[tuple[str, Mapping[str, Any], np.ndarray]]) -> str:
    name, record, reference = rows[0]
    first = " ".join([pathlib.Path(name).name, _varied(record)]).strip()
    lines = [["run", "varied", "seeds", "difference", "in standard errors"]]
    for name, record, values in rows[1:]:
        mean, error = paired_difference(values, reference)
        known = math.isfinite(mean) and math.isfinite(error)
        ratio = f"{mean / error:+.1f}" if known and error > 0 else "-"
        difference = f"{mean:+.3g}" + (f" ± {error:.2g}" if known else "")
        lines.append([pathlib.Path(name).name, _varied(record) or "-", str(record["seeds"]), difference, ratio])
    sentences = [
        f"Above 0 is better than {first}. Differences are taken example by example, of the same values; ± is the standard error",
        f"of their mean over the {len(reference)} examples: what other such examples would change, not other training seeds.",
    ]
    if any(record["seeds"] > 1 for _, record, _ in rows):
        sentences.append("Of several seeds, the log-likelihood of each example is averaged over the seeds first.")
    heading = f"{column}, paired: each row minus {first}, nats per example"
    return "\n".join([heading, aligned(lines), *sentences])


def _column(summary: Mapping[str, Any], metric: str) -> str:
    if metric not in ("log_likelihood", "bits_per_dimension"):
        return metric
    evaluation = summary["evaluation"]
    return f"{metric} (K={evaluation['importance_samples']}, n={evaluation['log_likelihood_examples']})"


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
