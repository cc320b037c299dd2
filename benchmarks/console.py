"""Parts that the benchmarks' command lines share: lists of values as flags, progress, and the origin of results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tables import Row

from vaex.errors import UserError


def names(text: str) -> tuple[str, ...]:
    """Split names at commas; each is kept once.

    Example:
      >>> names("mlp, conv64,mlp")
      ('mlp', 'conv64')
    """
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def counts(text: str) -> tuple[int, ...]:
    """Split positive whole numbers at commas; each is kept once.

    Raises: argparse.ArgumentTypeError for anything else.
    Example:
      >>> counts("64,128")
      (64, 128)
    """
    try:
        values = tuple(dict.fromkeys(int(part) for part in names(text)))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers joined by commas, such as 64,128") from None
    if not values or min(values) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected positive numbers, such as 64,128")
    return values


def tell(text: str) -> None:
    """Rewrite the current line of a terminal; silent elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a line of progress that stays."""
    tell("")
    print(text, file=sys.stderr, flush=True)


def guarded(name: str, work: Callable[[], None], kept: str = "") -> int:
    """Run a benchmark and return its exit code: 0 done, 2 a refused flag (one line says why), 130 interrupted.

    Args:
      name: of the benchmark.
      work: the whole benchmark.
      kept: what an interruption leaves, such as "finished axes are in results".
    """
    try:
        work()
    except UserError as error:
        tell("")
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say(f"{name}: interrupted" + (f"; {kept}" if kept else ""))
        return 130
    return 0


def warn_of_load(rows: Sequence[Row]) -> None:
    """Warn of rows during all of whose repeats other programs were at work."""
    tell("")
    spoiled = sum(row.get("dropped") == row["repeats"] for row in rows)
    if spoiled:
        say(
            f"other programs were at work during all repeats of {spoiled} of {len(rows)} rows, which therefore compare nothing"
        )


def heading(machine: dict[str, Any]) -> str:
    """Return a line that names the machine and the versions behind the results.

    Example:
      >>> heading({"device": "some GPU", "cpu_cores": 16, "python": "3.12.1", "jax": "0.11.2"})
      'some GPU, 16 CPU cores; python 3.12.1, jax 0.11.2'
    """
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "jax", "torch") if machine.get(name))
    return f"{machine['device']}, {machine['cpu_cores']} CPU cores; {versions}"
