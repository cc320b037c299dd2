"""Recordings of runs: their compact form, and what differs between two of them.

A recording is ``{"machine": what bits depend on, "runs": {name: run}}``; ``recorded_numbers.py`` makes it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

Run: TypeAlias = dict[str, Any]  # "flags", "arrays" or digests of them, "metrics", "summary"
Recording: TypeAlias = dict[str, Any]
PARAMETERS = "state/variables/params/"  # in the tree of a checkpoint
SHOWN = 6  # entries of each list of differences


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and leaf of a tree, beside None, in the order of the paths."""
    if isinstance(tree, list | tuple):
        tree = {str(index): branch for index, branch in enumerate(tree)}
    if isinstance(tree, dict):
        for name in sorted(tree):
            yield from leaves(tree[name], f"{path}/{name}" if path else name)
    elif tree is not None:
        yield path, tree


def numeric_leaves(tree: Any) -> Iterator[tuple[str, float]]:
    """Return path and leaf of the numbers in a tree."""
    return (pair for pair in leaves(tree) if isinstance(pair[1], int | float))


def compact(recording: Recording) -> Recording:
    """Return the small form of a recording, enough to tell whether runs end with equal numbers; a compact one stays as it is."""
    return recording | {"runs": {name: compact_run(run) for name, run in recording["runs"].items()}}


def compact_run(run: Run) -> Run:
    """Return a run's small form: its digests, each stage's last row, and the results averaged over seeds."""
    if "arrays" not in run:
        return run
    arrays, results = run["arrays"], run["summary"].items()
    return {
        "flags": run["flags"],
        "parameters": digest_lines(f"{path} {text}" for path, text in arrays.items() if is_parameter(path)),
        "everything": digest_lines(arrays.values()),
        "metrics": {stage: rounded(dict(numeric_leaves(rows[-1]))) for stage, rows in run["metrics"].items()},
        "summary": rounded({path: number for path, number in results if not path.startswith("members/")}),
    }


def is_parameter(path: str) -> bool:
    """Return whether a recorded array holds parameters of a stage."""
    return path.partition("/")[2].startswith(PARAMETERS)


def digest_lines(lines: Iterable[str]) -> str:
    """Return one digest of texts, whatever their order."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def rounded(numbers: dict[str, float]) -> dict[str, float]:
    """Round numbers to six significant digits."""
    return {name: float(f"{number:.6g}") for name, number in numbers.items()}


def compare(before: Recording, after: Recording) -> dict[str, list[str]]:
    """Compare the runs that both recordings hold; compact forms are compared where either is one.

    Returns: run -> lines that describe differences, none where the runs end with equal bits.
    """
    if any("arrays" not in run for recording in (before, after) for run in recording["runs"].values()):
        before, after = compact(before), compact(after)
    both = [name for name in before["runs"] if name in after["runs"]]
    return {name: differences(before["runs"][name], after["runs"][name]) for name in both}


def differences(before: Run, after: Run) -> list[str]:
    """Describe the differences between two recordings of a run, both full or both compact."""
    lines = []
    if before["flags"] != after["flags"]:
        lines.append(f"other flags: {before['flags']} -> {after['flags']}")
    if "arrays" in before:
        lines += different_arrays(before["arrays"], after["arrays"])
    else:
        lines += [f"other {digest}" for digest in ("parameters", "everything") if before[digest] != after[digest]]
    for stage in sorted({*before["metrics"], *after["metrics"]}):
        rows = (metrics_rows(run["metrics"].get(stage, [])) for run in (before, after))
        lines += different_rows(stage, *rows)
    return lines + different_numbers("summary", before["summary"], after["summary"])


def different_arrays(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Describe the arrays that differ; arrays other than parameters may have another name."""
    paths = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    if not any(map(is_parameter, paths)) and sorted(before.values()) == sorted(after.values()):
        return []
    texts = [f"{path}: {state_of_array(before.get(path), after.get(path))}" for path in paths]
    return first_of(texts, f"arrays differ, of {len({*before, *after})}")


def state_of_array(before: str | None, after: str | None) -> str:
    """Describe how an array has changed, by its digests."""
    if before is None or after is None:
        return "is new" if before is None else "is gone"
    kinds = before.rpartition(" ")[0], after.rpartition(" ")[0]
    return "other bits" if kinds[0] == kinds[1] else " -> ".join(kinds)


def moved_arrays(before: Run, after: Run) -> int:
    """Count the arrays of two equal runs that have another name; 0 for compact forms, which do not say."""
    return len(set(before["arrays"]) - set(after["arrays"])) if "arrays" in before and "arrays" in after else 0


def metrics_rows(metrics: list[Any] | Mapping[str, Any]) -> list[dict[str, float]]:
    """Return the rows of a stage as flat dictionaries; a compact recording holds the last one only."""
    return [dict(numeric_leaves(row)) for row in (metrics if isinstance(metrics, list) else [metrics])]


def different_rows(stage: str, before: list[dict[str, float]], after: list[dict[str, float]]) -> list[str]:
    """Describe the first row of a stage's metrics that differs."""
    if len(before) != len(after):
        return [f"{stage}: {len(before)} -> {len(after)} rows of metrics"]
    for old, new in zip(before, after, strict=True):
        if lines := different_numbers(f"{stage}, the row of step {old.get('step', 0):.0f}", old, new):
            return lines
    return []


def different_numbers(where: str, before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Describe the numbers that differ, with the relative difference."""
    texts = []
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            texts.append(f"{name} {'is gone' if name in before else 'is new'}")
        elif distance := relative_difference(before[name], after[name]):
            texts.append(f"{name} {before[name]:.9g} -> {after[name]:.9g} ({distance:.1e})")
    return first_of(texts, f"of {len({*before, *after})} numbers of {where} differ")


def relative_difference(before: float, after: float) -> float:
    """Return |before - after| relative to the larger; infinite where only one is finite, 0 for equal numbers and two NaNs."""
    if before == after or (math.isnan(before) and math.isnan(after)):
        return 0.0
    share = abs(before - after) / max(abs(before), abs(after))
    return math.inf if math.isnan(share) else share


def first_of(texts: list[str], what: str) -> list[str]:
    """Return a line with the count and the first few texts; nothing for no texts."""
    more = [f"  and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return [f"{len(texts)} {what}", *(f"  {text}" for text in texts[:SHOWN]), *more] if texts else []


def report(before: Recording, after: Recording) -> bool:
    """Print the comparison of each run, and return whether all runs that both recordings hold are equal."""
    for name in sorted({*before["machine"], *after["machine"]}):
        old, new = before["machine"].get(name), after["machine"].get(name)
        if old != new:
            print(f"recorded on different machines, whose bits do not compare: {name} {old} -> {new}")
    compared = compare(before, after)
    for name, lines in compared.items():
        moved = moved_arrays(before["runs"][name], after["runs"][name])
        equal = "equal bits" + (f", {moved} arrays under other names" if moved else "")
        print(f"{name}: {'differs' if lines else equal}", *lines, sep="\n    ")
    for name in sorted({*before["runs"], *after["runs"]} - {*compared}):
        print(f"{name}: in one recording only")
    return bool(compared) and not any(compared.values())
