"""Atomic writing of files: a file is complete or absent."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import uuid
from collections.abc import Iterator
from typing import Any

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}(\..*)?")  # names of files that are being written


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a temporary path beside ``path``, which replaces it when the block succeeds and is removed when it raises.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     with atomic_path(folder + "/a.txt") as temporary:
      ...         _ = temporary.write_text("text")
      ...     pathlib.Path(folder, "a.txt").read_text()
      'text'
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # of a write: a full disk
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write ``value`` as indented JSON, atomically.

    Raises: ValueError for NaN and infinities, which JSON does not have.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file of these bytes, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read the value of a JSON file.

    Raises: OSError where it cannot be read, ValueError where it holds no JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("values nested too deeply") from None
