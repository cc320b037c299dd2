"""What a run says while it works, and to whom: a terminal, a notebook, or nobody."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple, TextIO

Say = Callable[[str], None]


class Console(NamedTuple):
    """How a run reports while it works.

    Attributes:
      say: prints a line that belongs to the run's output.
      warn: prints a line that is no result.
      tell: prints a line over the last one.
      progress: whether a bar, or lines where there is no terminal, show how far training is.
    """

    say: Say
    warn: Say
    tell: Say
    progress: bool = True


def _silent(text: str) -> None:
    """Print nothing."""


def print_line(text: str) -> None:
    """Print one line on standard error."""
    print(f"vaex: {' '.join(text.split())}", file=sys.stderr, flush=True)


def rewriting_line(stream: TextIO) -> Say:
    """Return a function that prints a line over the last one on a terminal, and nothing elsewhere."""

    def tell(text: str) -> None:
        if stream.isatty():
            print(f"\r\x1b[K{text}", end="", file=stream, flush=True)

    return tell


def command_line() -> Console:
    """Return the console of a command: output on standard output, everything else on standard error."""
    return Console(print, print_line, rewriting_line(sys.stderr))


def in_python(*, progress: bool) -> Console:
    """Return the console of a call from Python: all on standard error, or warnings only."""
    if not progress:
        return Console(_silent, print_line, _silent, progress=False)
    return Console(lambda text: print(text, file=sys.stderr, flush=True), print_line, rewriting_line(sys.stderr))
