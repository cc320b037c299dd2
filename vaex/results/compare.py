"""Finished runs side by side: one table for each protocol and likelihood, so that no column mixes numbers that don't compare."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vaex.errors import UserError
from vaex.files import is_as_written, read_json

if TYPE_CHECKING:
    import numpy as np

METRICS = (
    "elbo",
    "reconstruction",
    "cross_entropy",
    "kl",
    "elbo_same_examples",
    "log_likelihood",
    "bits_per_dimension",
    "active_units",
)
# of a run directory: "log_likelihood" [p, n], of each member and example, and "rows" [n], the examples' numbers in the split
LOG_LIKELIHOODS = "log_likelihood.npz"


class LogLikelihoods(NamedTuple):
    """Log-likelihood of each member and example, ``values`` [p, n], float64, nats, NaN for a member that has diverged; ``rows``
    [n], the examples' numbers."""

    values: np.ndarray
    rows: np.ndarray


def read_runs(directories: Sequence[str | os.PathLike[str]]) -> dict[str, dict[str, Any]]:
    """Directory -> its summary.json, with the model's "options" from config.json where that can be read.

    Raises: UserError for a directory that holds no finished run, or numbers that are not those that were written.
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
        if not is_as_written(summary):
            raise UserError(
                f"{directory}: its summary.json holds other values than were written; the run's own command evaluates it again"
            )
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            summary["options"] = dict(read_json(directory.expanduser() / "config.json")["identity"]["config"])
        summaries[str(directory)] = summary
    return summaries


def read_log_likelihoods(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, LogLikelihoods]:
    """Directory -> the log-likelihood of each member and example.

    Runs are left out whose model has no density, or whose file is missing, damaged, or not that of their summary.
    """
    import numpy as np

    log_likelihoods = {}
    for directory, summary in summaries.items():
        try:
            with (pathlib.Path(directory).expanduser() / LOG_LIKELIHOODS).open("rb") as file:
                arrays = np.load(file, allow_pickle=False)
                values = arrays["log_likelihood"].astype(np.float64)
                # version 1 of the evaluation took the first examples
                rows = arrays["rows"] if "rows" in arrays else np.arange(values.shape[-1])
        except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
            continue
        members = summary["members"]
        sound = np.array(["diverged" not in member for member in members])
        means = [member.get("log_likelihood") for member in members if "diverged" not in member]
        shape = len(members), summary["evaluation"]["log_likelihood_examples"]
        if (
            None not in means
            and values.shape == shape
            and rows.shape == shape[1:]
            and np.allclose(values[sound].mean(axis=1), means, rtol=1e-6, atol=1e-6)
        ):
            log_likelihoods[directory] = LogLikelihoods(values, rows)
    return log_likelihoods


def compare(summaries: dict[str, dict[str, Any]], log_likelihoods: Mapping[str, LogLikelihoods] | None = None) -> str:
    """Tables of runs, a row for each run and each value of what it varies: means and standard errors over its seeds.

    Runs share a table only where data set, protocol, split and likelihood are the same. Log-likelihoods share a column only
    where also the number of importance samples and of images are, and then their paired differences stand below, of runs that
    were evaluated on the same images. Hyperparameters and options that differ between rows are shown.

    Args:
      summaries: name -> summary, from ``read_runs``.
      log_likelihoods: name -> those of its examples, from ``read_log_likelihoods``; without them nothing is paired.
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
    records = summary_records(summaries)
    columns = list(dict.fromkeys(_column(summary, m) for _, summary, record in records for m in METRICS if m in record))
    lines = [["run", "differs", "steps", "seeds", *columns]]
    for (name, summary, record), differing in zip(records, _differing(summaries), strict=True):
        cells = {
            _column(summary, metric): cell(record[metric]["mean"], record[metric]["standard_error"], digits=5)
            for metric in METRICS
            if metric in record
        }
        row = [pathlib.Path(name).name, differing or "-", str(summary["steps"]), str(record["seeds"])]
        lines.append([*row, *(cells.get(column, "-") for column in columns)])
    return aligned(lines)


def summary_records(
    summaries: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """(name, summary, record) of each row."""
    return [(name, summary, record) for name, summary in summaries.items() for record in summary["results"]]


def differing_settings(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings that differ between rows, or that a run varies."""
    settings = [settings_of_record(summary, record) for _, summary, record in summary_records(summaries)]
    varied = {
        name for _, _, record in summary_records(summaries) for name, value in record.items() if isinstance(value, str)
    }
    values: dict[str, set[str]] = {}
    for row in settings:
        for name, value in row.items():
            values.setdefault(name, set()).add(value)
    return [name for name in values if name in varied or len(values[name]) > 1]


def _differing(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The settings of each row that differ from those of another row which has them, and what its run varies."""
    settings = [settings_of_record(summary, record) for _, summary, record in summary_records(summaries)]
    shown = differing_settings(summaries)
    return [" ".join(f"{name}={row[name]}" for name in shown if name in row) for row in settings]


def settings_of_record(summary: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    """What the numbers of a record depend on: hyperparameters, options of the model, batch size, data seed."""
    member = next(member for member in summary["members"] if _belongs(record, member))
    options = {name: _text(value) for name, value in summary.get("options", {}).items()}
    run = {name: str(summary[name]) for name in ("batch_size", "data_seed") if name in summary}
    return {**member["hparams"], **options, **run}


def _text(value: object) -> str:
    """A JSON value as the command line has it, where that is simple.

    Example:
      >>> _text([64, 32]), _text("mlp"), _text(True)
      ('64x32', 'mlp', 'true')
    """
    if isinstance(value, list):
        return "x".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def _belongs(record: Mapping[str, Any], member: Mapping[str, Any]) -> bool:
    """Return True if a member is one of the seeds of a record."""
    return {key: value for key, value in record.items() if isinstance(value, str)}.items() <= member["hparams"].items()


class _Row(NamedTuple):
    """Row of a paired table: log-likelihoods [n], averaged over the seeds of a record."""

    name: str
    differing: str
    seeds: int
    column: str
    values: np.ndarray


def _paired_tables(summaries: Mapping[str, dict[str, Any]], log_likelihoods: Mapping[str, LogLikelihoods]) -> list[str]:
    """A table of differences for each set of rows with the same examples and number of importance samples."""
    sets: dict[tuple[Any, ...], dict[tuple[Any, ...], list[_Row]]] = {}
    for (name, summary, record), differing in zip(summary_records(summaries), _differing(summaries), strict=True):
        if name in log_likelihoods and record["seeds"]:
            values, rows = log_likelihoods[name]
            column, seeds = _column(summary, "log_likelihood"), record["seeds"]
            row = _Row(pathlib.Path(name).name, differing, seeds, column, _of_record(summary, record, values))
            data = summary.get("data_hash"), summary["evaluation"]["importance_samples"], len(rows)
            examples = _version(summary), tuple(rows.tolist())
            sets.setdefault(data, {}).setdefault(examples, []).append(row)
    tables = []
    for of_data in sets.values():
        tables += [_paired(rows) for rows in of_data.values() if len(rows) > 1]
        ordered = sorted(of_data.values(), key=len, reverse=True)
        others = ", ".join(dict.fromkeys(row.name for rows in ordered[1:] for row in rows))
        if others:
            tables.append(
                f"not paired with {ordered[0][0].name}: {others} (evaluated on other examples, or other draws of them)"
            )
    missing = [name for name, summary, record in summary_records(summaries) if "log_likelihood" in record]
    missing = [pathlib.Path(name).name for name in dict.fromkeys(missing) if name not in log_likelihoods]
    if missing and sets:
        tables.append(
            f"not paired: {', '.join(missing)} (no {LOG_LIKELIHOODS} that belongs to the summary; the run's own command "
            "evaluates it again)"
        )
    return tables


def _of_record(summary: Mapping[str, Any], record: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    """The log-likelihood of each example, averaged over the seeds of a record."""
    chosen = ["diverged" not in member and _belongs(record, member) for member in summary["members"]]
    return values[chosen].mean(axis=0)


def _paired(rows: Sequence[_Row]) -> str:
    reference = rows[0]
    first = f"{reference.name} {reference.differing}".strip()
    lines = [["run", "differs", "seeds", "difference", "in standard errors"]]
    for row in rows[1:]:
        mean, error = paired_difference(row.values, reference.values)
        known = math.isfinite(mean) and math.isfinite(error)
        ratio = f"{mean / error:+.1f}" if known and error > 0 else "-"
        difference = f"{mean:+.3g}" + (f" ± {error:.2g}" if known else "")
        lines.append([row.name, row.differing or "-", str(row.seeds), difference, ratio])
    count = len(reference.values)
    sentences = [
        f"Above 0 is better than {first}. Differences are taken example by example, of the same values; ± is the standard error",
        f"of their mean over the {count} examples: what other such examples would change, not other training seeds.",
    ]
    if any(row.seeds > 1 for row in rows):
        sentences.append("Of several seeds, the log-likelihood of each example is averaged over the seeds first.")
    heading = f"{reference.column}, paired: each row minus {first}, nats per example"
    return "\n".join([heading, aligned(lines), *sentences])


def _column(summary: Mapping[str, Any], metric: str) -> str:
    if metric not in ("elbo_same_examples", "log_likelihood", "bits_per_dimension"):
        return metric
    evaluation = summary["evaluation"]
    samples = "" if metric.startswith("elbo") else f"K={evaluation['importance_samples']}, "
    first = "first " if _version(summary) == 1 else ""  # so other examples have another column
    return f"{metric} ({samples}n={first}{evaluation['log_likelihood_examples']})"


def _version(summary: Mapping[str, Any]) -> int:
    """Version of the choice of examples and of the draws that go with them."""
    return summary["evaluation"].get("examples_version", 1)


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
      >>> cell(-88.4812, 0.24), cell(None), cell(0.1, 1e-17)
      ('-88.48 ± 0.24', '-', '0.1 ± 0')
    """
    if mean is None:
        return "-"
    if error is not None and error < 1e-12 * abs(mean):
        error = 0.0  # of equal numbers, whose mean was rounded
    return f"{mean:.{digits}g}" if error is None else f"{mean:.{digits}g} ± {error:.2g}"
