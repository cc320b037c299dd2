"""Whether a file is still what was written: sha256 over its pieces, and its size and time to know it again by."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

PIECE = 1 << 24  # bytes under one checksum
# Up to this size a file is read and checked in full at every start, and loaded: a quarter of a second, and memory that every
# machine has. CIFAR-10 lies below it; what lies above would be felt at every start, and is mapped instead.
LARGE = 1 << 28
THREADS = min(4, os.cpu_count() or 1)


class Record(NamedTuple):
    """What is known of a whole file: the sha256 of each PIECE, its size, and its time of change when last found whole.

    Example:
      >>> Record(["9f86d081..."], 4, 0).size
      4
    """

    sha256: list[str]
    size: int
    mtime_ns: int


class Running:
    """Checksums of bytes that are written one after the other.

    Example:
      >>> running = Running()
      >>> running.update(b"te")
      >>> running.update(b"st")
      >>> [checksum[:8] for checksum in running.finished()]
      ['9f86d081']
    """

    def __init__(self) -> None:
        self._done: list[str] = []
        self._digest, self._filled = hashlib.sha256(), 0

    def update(self, content: Any) -> None:
        """More bytes, as any contiguous buffer."""
        rest = memoryview(content).cast("B")
        while len(rest):
            part = rest[: PIECE - self._filled]
            self._digest.update(part)
            self._filled += len(part)
            rest = rest[len(part) :]
            if self._filled == PIECE:
                self._done.append(self._digest.hexdigest())
                self._digest, self._filled = hashlib.sha256(), 0

    def finished(self) -> list[str]:
        """The checksums of all pieces, the last of which may be shorter."""
        return [*self._done, self._digest.hexdigest()] if self._filled else list(self._done)


def verified(path: pathlib.Path, record: Record) -> Record | None:
    """The record of a file that is still what was written, with its present time; None where it is not.

    A file up to LARGE is read in full. A larger one is read in full where its time has changed since it was last found
    whole (it was copied, or written to); else only its first and last piece are, where a torn write shows. What this
    can't notice is a disk that alters the middle of a large file behind the file system's back.

    Raises: OSError where it can't be read.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "a")
      ...     _ = path.write_bytes(b"test")
      ...     running = Running()
      ...     running.update(b"test")
      ...     good = verified(path, Record(running.finished(), 4, 0))
      ...     _ = path.write_bytes(b"tset")
      ...     good is not None, verified(path, good)
      (True, None)
    """
    status = path.stat()
    if status.st_size != record.size or len(record.sha256) != -(-record.size // PIECE):
        return None
    pieces: Iterable[int] = range(len(record.sha256))
    if record.size > LARGE and status.st_mtime_ns == record.mtime_ns:
        pieces = {0, len(record.sha256) - 1}

    def matches(piece: int) -> bool:
        with path.open("rb") as file:
            file.seek(piece * PIECE)
            return hashlib.sha256(file.read(PIECE)).hexdigest() == record.sha256[piece]

    with ThreadPoolExecutor(THREADS, "vaex-check") as threads:
        whole = all(threads.map(matches, pieces))
    return record._replace(mtime_ns=status.st_mtime_ns) if whole else None
