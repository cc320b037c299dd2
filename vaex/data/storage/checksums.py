"""Checks that a file is still what was written: sha256 of its pieces, its size and its time of change."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

PIECE = 1 << 24  # bytes under one checksum
# Up to this size a file is read and checked in full at every start, and loaded: a quarter of a second, and memory that every
# machine has. CIFAR-10 lies below; reading larger files would delay every start, so they are mapped instead.
LARGE = 1 << 28
THREADS = min(4, os.cpu_count() or 1)


class FileRecord(NamedTuple):
    """Record of an intact file: the sha256 of each PIECE, the size, and the time of change when it was last verified.

    Example:
      >>> FileRecord(["9f86d081..."], 4, 0).size
      4
    """

    sha256: list[str]
    size: int
    mtime_ns: int


class RunningChecksums:
    """Checksums of a stream of bytes, piece by piece.

    Example:
      >>> running = RunningChecksums()
      >>> running.update(b"te")
      >>> running.update(b"st")
      >>> [checksum[:8] for checksum in running.finished()]
      ['9f86d081']
    """

    def __init__(self) -> None:
        self._done: list[str] = []
        self._digest, self._filled = hashlib.sha256(), 0

    def update(self, content: bytes | memoryview) -> None:
        """Add bytes from any contiguous buffer."""
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
        """Return the checksums of all pieces, the last of which may be shorter."""
        return [*self._done, self._digest.hexdigest()] if self._filled else list(self._done)


def verified(path: pathlib.Path, record: FileRecord) -> FileRecord | None:
    """Return the record of an intact file with its present time of change; None where the file differs from ``record``.

    A file up to LARGE is read in full. A larger one is read in full where its time has changed since it was last verified
    (it was copied, or written to); else only its first and last piece are, where a torn write shows. A disk that alters
    the middle of a large file without the file system's knowledge goes unnoticed.

    Raises: OSError where the file cannot be read.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, "a")
      ...     _ = path.write_bytes(b"test")
      ...     running = RunningChecksums()
      ...     running.update(b"test")
      ...     good = verified(path, FileRecord(running.finished(), 4, 0))
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
        intact = all(threads.map(matches, pieces))
    return record._replace(mtime_ns=status.st_mtime_ns) if intact else None
