"""What the benchmarks' command lines share: lists of values as flags, progress, and where results come from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tables import Row

from vaex.errors import UserError


def names(text: str) -> tuple[str, ...]:
    """Words joined by commas, each once.

    Example:
      >>> names("mlp, conv64,mlp")
      ('mlp', 'conv64')
    """
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def counts(text: str) -> tuple[int, ...]:
    """Positive whole numbers joined by commas, each once.

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
    """A line that rewrites itself on a terminal; silent elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """A line of progress that stays."""
    tell("")
    print(text, file=sys.stderr, flush=True)


def guarded(name: str, work: Callable[[], None], kept: str = "") -> int:
    """The exit code of a benchmark's ``work``: 0 done, 2 where a flag is refused (one line says why), 130 interrupted.

    Args:
      name: of the benchmark.
      work: all of it.
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
    """Say so where other programs were at work during every repeat of a row."""
    tell("")
    spoiled = sum(row.get("dropped") == row["repeats"] for row in rows)
    if spoiled:
        say(
            f"other programs were at work during all repeats of {spoiled} of {len(rows)} rows, which therefore compare nothing"
        )


def heading(machine: dict[str, Any]) -> str:
    """A line that says where results come from.

    Example:
      >>> heading({"device": "some GPU", "cpu_cores": 16, "python": "3.12.1", "jax": "0.11.2"})
      'some GPU, 16 CPU cores; python 3.12.1, jax 0.11.2'
    """
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "jax", "torch") if machine.get(name))
    return f"{machine['device']}, {machine['cpu_cores']} CPU cores; {versions}"
