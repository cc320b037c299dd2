"""Results as text: a table of members and their means over seeds, the protocol of its numbers, speed and files."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from vaex.runs.compare import aligned, cell

TABLE = (
    "elbo",
    "reconstruction",
    "cross_entropy",
    "kl",
    "log_likelihood",
    "bits_per_dimension",
    "active_units",
    "accuracy",
    "generative_accuracy",
    "knn_label_agreement",
)


def diagnostics(members: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of the metrics that the model adds to ``TABLE``: those of which a member has standard errors.

    Example:
      >>> diagnostics([{"kl": 3.0, "kl_standard_error": 0.1, "jacobian_norm": 2.0, "jacobian_norm_standard_error": 0.2}])
      ['jacobian_norm']
    """
    names = dict.fromkeys(name for member in members for name in member)
    return [name for name in names if f"{name}_standard_error" in names and name not in TABLE]


def table(summary: dict[str, Any]) -> str:
    """Return the results as a plain table: a row per member, and below several seeds their mean ± its standard error.

    The last columns are the model's own diagnostics.
    """
    records = summary["results"]
    varied = [name for name, value in records[0].items() if isinstance(value, str)]
    known = set().union(*records)
    shown = [name for name in (*TABLE, *diagnostics(summary["members"])) if name in known]
    lines = [[*varied, "seed", *shown]]
    for record in records:
        values = [str(record[name]) for name in varied]
        members = [m for m in summary["members"] if all(m["hparams"][name] == record[name] for name in varied)]
        for member in members:
            lines.append([*values, str(member["seed"]), *(cell(member.get(name)) for name in shown)])
        if len(members) > 1:
            unknown = {"mean": None, "standard_error": None}
            pairs = (record.get(name, unknown) for name in shown)
            lines.append([*values, "mean", *(cell(pair["mean"], pair["standard_error"]) for pair in pairs)])
    return aligned(lines)


def speed(summary: dict[str, Any]) -> str:
    """Return how long training took to compile (or to load, where the cache held the program), and how fast it ran.

    Example:
      >>> speed({"compile_seconds": 4.102, "steps_per_second": 2140.4})
      'compiled in 4.1 s, trained at 2,140 steps/s'
    """
    return f"compiled in {summary['compile_seconds']:.1f} s, trained at {summary['steps_per_second']:,.0f} steps/s"


def protocol_line(summary: dict[str, Any]) -> str:
    """Return the protocol and the likelihood under which the table's numbers were measured, in one line."""
    evaluation = summary["evaluation"]
    parts = [
        f"nats per example; {summary['dataset']}, {evaluation['split']} split ({evaluation['examples']} examples)",
        f"protocol: {summary['protocol']}",
        f"likelihood: {summary['likelihood']}{', of x given its label' if 'given' in summary else ''}",
    ]
    if summary["members"][0]["log_likelihood"] is not None:
        count, samples = evaluation["log_likelihood_examples"], evaluation["importance_samples"]
        parts.append(f"log_likelihood: importance-weighted, K = {samples}, on {count} examples")
    return "; ".join(parts)


def show(directory: pathlib.Path | None, summary: dict[str, Any]) -> None:
    """Print the results of a run, and where its files are."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(table(summary))
    print(protocol_line(summary))
    if summary.get("steps_per_second"):
        print(speed(summary))
    if directory is None:
        return
    if (directory / "figures").is_dir():
        print(f"figures: {directory / 'figures'}")
    print(f"in Python: run = vaex.load({str(directory)!r})")
