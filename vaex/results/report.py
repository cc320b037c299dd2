"""Results as text: a table of members and their means over seeds, the protocol of its numbers, speed and files."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from vaex.results.compare import aligned, cell

TABLE = (
    "elbo",
    "reconstruction",
    "cross_entropy",
    "kl",
    "elbo_same_examples",
    "log_likelihood",
    "bits_per_dimension",
    "active_units",
    "accuracy",
    "generative_accuracy",
    "knn_label_agreement",
)


MEANS = " (reconstructions and samples are means of p(x|z); --show=sample draws from it)"
NOTED = ("training_elbo", "training_prediction_bound", "training_cross_entropy", "training_reconstruction",
         "log_likelihood_above_elbo")  # fmt: skip


def diagnostics(members: Sequence[dict[str, Any]], statistics: Sequence[str] = ()) -> list[str]:
    """Return the names of the metrics that the model adds to ``TABLE``: those of which a member has standard errors, and statistics
    of batches.

    Args:
      members: numbers of each.
      statistics: names of those that are statistics of a batch.
    Example:
      >>> diagnostics([{"kl": 3.0, "kl_standard_error": 0.1, "jacobian_norm": 2.0, "jacobian_norm_standard_error": 0.2}])
      ['jacobian_norm']
    """
    names = dict.fromkeys(name for member in members for name in member)
    added = (name for name in names if f"{name}_standard_error" in names or name in statistics)
    return [name for name in added if name not in (*TABLE, *NOTED)]


def table(summary: dict[str, Any]) -> str:
    """Return the results as a plain table: a row per member, ± the standard error over examples (of statistics of batches, over
    batches), and below several seeds their mean ± its standard error over seeds.

    The last columns are the model's own diagnostics.
    """
    records = summary["results"]
    varied = [name for name, value in records[0].items() if isinstance(value, str)]
    known = set().union(*records)
    statistics = summary.get("batch_statistics", {}).get("names", ())
    shown = [name for name in (*TABLE, *diagnostics(summary["members"], statistics)) if name in known]
    lines = [[*varied, "seed", *shown]]
    for record in records:
        values = [str(record[name]) for name in varied]
        members = [m for m in summary["members"] if all(m["hparams"][name] == record[name] for name in varied)]
        for member in members:
            lines.append([*values, str(member["seed"]), *(_with_error(member, name) for name in shown)])
        if len(members) > 1:
            unknown = {"mean": None, "standard_error": None}
            pairs = (record.get(name, unknown) for name in shown)
            lines.append([*values, "mean", *(cell(pair["mean"], pair["standard_error"]) for pair in pairs)])
    return aligned(lines)


def by_class(summary: dict[str, Any]) -> str:
    """Return metrics of the examples of each class as a table, a row for each member and class; "" without labels.

    Example:
      >>> record = {"class": "cat", "examples": 9, "elbo": -3.25, "elbo_standard_error": 0.5}
      >>> print(by_class({"members": [{"seed": 0, "by_class": [record]}]}))
      seed  class  examples         elbo
         0    cat         9  -3.25 ± 0.5
    """
    records = [(str(member["seed"]), record) for member in summary["members"] for record in member.get("by_class", ())]
    known = set().union(*(record for _, record in records))
    shown = [name for name in TABLE if name in known]
    lines = [
        [seed, record["class"], str(record["examples"]), *(_with_error(record, name) for name in shown)]
        for seed, record in records
    ]
    return aligned([["seed", "class", "examples", *shown], *lines]) if lines else ""


def _with_error(member: dict[str, Any], name: str) -> str:
    errors = (member.get(f"{name}_standard_error{suffix}") for suffix in ("", "_over_batches"))
    return cell(member.get(name), next((error for error in errors if error is not None), None))


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
        f"likelihood: {summary['likelihood']}{', of x given its ' + summary['given'] if 'given' in summary else ''}",
    ]
    if any(member["log_likelihood"] is not None for member in summary["members"]):
        count, samples = evaluation["log_likelihood_examples"], evaluation["importance_samples"]
        has_same = any("elbo_same_examples" in member for member in summary["members"])
        of_same = "; elbo_same_examples: the ELBO of these" if has_same else ""
        chosen = f"{count} examples" + (" chosen at random" if count < evaluation["examples"] else "")
        parts.append(f"log_likelihood: importance-weighted, K = {samples}, on {chosen}{of_same}")
    parts.append("±: standard error over examples, or over seeds where a row is their mean")
    if "batch_statistics" in summary:
        parts.append(_batch_statistics(summary["batch_statistics"]))
    return "; ".join(parts)


def _batch_statistics(statistics: dict[str, Any]) -> str:
    """Return what the statistics of batches are statistics of.

    Example:
      >>> _batch_statistics({"names": ["mmd"], "batches": 2, "examples": [500, 501]})
      'mmd: mean over 2 batches of 500 to 501 examples, ± over these batches'
    """
    low, high = statistics["examples"]
    size, batches = f"{low} examples" if low == high else f"{low} to {high} examples", statistics["batches"]
    means = f"mean over {batches} batches of {size}, ± over these batches" if batches > 1 else f"of one batch of {size}"
    return f"{', '.join(statistics['names'])}: {means}"


def notes(summary: dict[str, Any]) -> list[str]:
    """Return what is said of the numbers in words, a line each.

    Example:
      >>> notes({"notes": ["the objective is no bound on log p(x)"]})
      ['note: the objective is no bound on log p(x)']
    """
    return [f"note: {text}" for text in summary.get("notes", ())]


def show(directory: pathlib.Path | None, summary: dict[str, Any]) -> None:
    """Print the results of a run, and where its files are."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(table(summary))
    if summary.get("balanced"):
        print(by_class(summary))
    print(protocol_line(summary))
    for line in notes(summary):
        print(line)
    if summary.get("steps_per_second"):
        print(speed(summary))
    if directory is None:
        return
    if (directory / "figures").is_dir():
        means = summary["evaluation"].get("figures") == "mean"
        print(f"figures: {directory / 'figures'}{MEANS if means else ''}")
    print(f"in Python: run = vaex.load({str(directory)!r})")
