"""Files that are written whole or not at all."""

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
    """A temporary path beside ``path``, moved onto it when the block ends well and removed when it does not.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     with atomic_path(folder + "/a.txt") as temporary:
      ...         _ = temporary.write_text("whole")
      ...     pathlib.Path(folder, "a.txt").read_text()
      'whole'
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinities are refused: they are not JSON.

    Raises: ValueError for a value that is not finite.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value of a JSON file."""
    return json.loads(pathlib.Path(path).read_text())
