"""Flags that scripts have in common, for ``argparse``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from vaex.configuration.declare import fields
from vaex.configuration.run_options import DataOptions

Number = TypeVar("Number", int, float)
FOLDERS = ("data_dir", "manual_dir")


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--data_dir`` and ``--manual_dir``: where data sets lie."""
    known = fields(DataOptions)
    for name in FOLDERS:
        parser.add_argument(f"--{name}", metavar="DIR", help=known[name].declaration.doc)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add what a script that opens runs takes: ``--data_dir``, ``--manual_dir`` and ``--trust``."""
    add_data_flags(parser)
    parser.add_argument(
        "--trust", action="store_true", help="import modules of your own that the run names, which runs their code"
    )


def folders(flags: argparse.Namespace) -> dict[str, str]:
    """Return the folders of data that were given, by the names of their flags."""
    return {name: getattr(flags, name) for name in FOLDERS if getattr(flags, name)}


def numbers(text: str) -> list[float]:
    """Parse numbers joined by commas.

    Raises: argparse.ArgumentTypeError for anything else.
    Example:
      >>> numbers("0.5,2")
      [0.5, 2.0]
    """
    return _entries(text, float, "numbers")


def whole_numbers(text: str) -> list[int]:
    """Parse whole numbers joined by commas.

    Raises: argparse.ArgumentTypeError for anything else.
    Example:
      >>> whole_numbers("1,10")
      [1, 10]
    """
    return _entries(text, int, "whole numbers")


def _entries(text: str, kind: Callable[[str], Number], name: str) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected {name} joined by commas") from None
