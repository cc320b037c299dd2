"""Decoded arrays kept as files: written once, piece by piece, checked at every start, and rewritten where a check fails."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from vaex.data.storage import checksums
from vaex.data.storage.checksums import FileRecord, RunningChecksums
from vaex.data.storage.writers import Append
from vaex.errors import UserError
from vaex.files import atomic_path, held, write_json

MANIFEST = "manifest.json"


class DiskRefused(OSError):
    """The disk refuses to keep a cache; a class of its own, apart from errors in reading what is decoded."""


class KeptValues:
    """Results of passes over all cached data, such as its hash, kept in the manifest once they are computed.

    Example:
      >>> values = KeptValues(pathlib.Path("/nonexistent"), "v1", {"hash": "b566"})
      >>> values.get("hash", lambda: 1 / 0)
      'b566'
    """

    def __init__(self, folder: pathlib.Path, fingerprint: str, known: Mapping[str, Any], prefix: str = ""):
        self._folder, self._fingerprint, self._known, self._prefix = folder, fingerprint, dict(known), prefix

    def under(self, prefix: str) -> KeptValues:
        """Return the values whose names begin with ``prefix``: those of the same arrays when they are read in another way."""
        return KeptValues(self._folder, self._fingerprint, self._known, prefix)

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the value ``name``, fit for JSON; compute it where it is not kept yet, and keep it if the disk allows."""
        name = f"{self._prefix}{name}"
        if name not in self._known:
            self._known[name] = compute()
            with contextlib.suppress(OSError, ValueError, KeyError):  # read-only, full, or being rewritten
                manifest = json.loads((self._folder / MANIFEST).read_text())
                if manifest["fingerprint"] == self._fingerprint:
                    manifest["known"][name] = self._known[name]
                    write_json(self._folder / MANIFEST, manifest)
        return self._known[name]


class Kept(NamedTuple):
    """Cached arrays, the metadata written with them, and the values kept since (None without a cache).

    Example:
      >>> Kept({"train_x": np.zeros(2)}, {"label_names": []}).values is None
      True
    """

    arrays: dict[str, np.ndarray]
    metadata: dict[str, Any]
    values: KeptValues | None = None


class CacheWriter:
    """Arrays on their way to the disk; see ``writing``. ``metadata``: values for JSON that are kept with them."""

    def __init__(self, folder: pathlib.Path, files: contextlib.ExitStack):
        self._folder, self._stack = folder, files
        self._files: dict[str, tuple[BinaryIO, int, RunningChecksums]] = {}
        self.metadata: dict[str, Any] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Append:
        """Begin an array, as ``writers.ArrayWriter`` says."""
        temporary = self._stack.enter_context(atomic_path(self._folder / f"{name}.npy"))
        file = self._stack.enter_context(temporary.open("wb"))
        header, running, kind = io.BytesIO(), RunningChecksums(), np.dtype(dtype)
        described = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(header, described)
        self._files[name] = file, len(header.getvalue()) + math.prod(shape) * kind.itemsize, running

        def append(content: bytes | memoryview) -> None:
            running.update(content)
            try:
                file.write(content)
            except OSError as error:
                raise DiskRefused(*error.args) from None

        append(header.getvalue())
        return lambda examples: append(np.ascontiguousarray(examples, kind).reshape(-1).view(np.uint8).data)

    def finish(self) -> dict[str, FileRecord]:
        """Flush all files to the disk itself and return their records.

        Raises: ValueError for an array that lacks examples or has too many.
        """
        records = {}
        for name, (file, size, running) in self._files.items():
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a power cut could leave the name on an empty file
            status = os.fstat(file.fileno())
            if status.st_size != size:
                raise ValueError(f"{name}: {status.st_size} bytes were written, expected {size}")
            records[name] = FileRecord(running.finished(), size, status.st_mtime_ns)
        return records


@contextlib.contextmanager
def writing(folder: pathlib.Path, fingerprint: str) -> Iterator[CacheWriter]:
    """Write arrays piece by piece, one .npy file each, and last a manifest that makes them valid.

    The folder's previous contents are removed first: they are stale, and the disk may not hold both. Each file is complete or
    absent, and no file counts without the manifest, so neither a kill nor a full disk leaves a cache that looks complete.

    Args:
      folder: created if needed.
      fingerprint: of what the arrays are decoded from.
    Raises: DiskRefused where the disk refuses, and for any other OSError of the block.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as name:
      ...     with writing(pathlib.Path(name), "v1") as writer:
      ...         append = writer.array("train_x", (3, 2), np.uint8)
      ...         append(np.zeros([1, 2]))
      ...         append(np.ones([2, 2]))
      ...     read(pathlib.Path(name), "v1").arrays["train_x"].tolist()
      [[0, 0], [1, 1], [1, 1]]
    """
    try:
        _clear(folder)
        with contextlib.ExitStack() as files:
            writer = CacheWriter(folder, files)
            yield writer
            records = writer.finish()
        arrays = {name: record._asdict() for name, record in records.items()}
        manifest = {"fingerprint": fingerprint, "arrays": arrays, "facts": writer.metadata, "known": {}}
        write_json(folder / MANIFEST, manifest)
    except BaseException as error:
        with contextlib.suppress(OSError):
            _clear(folder)  # arrays without a manifest only fill the disk
        if isinstance(error, OSError) and not isinstance(error, DiskRefused):
            raise DiskRefused(*error.args) from None
        raise


def _clear(folder: pathlib.Path) -> None:
    for path in (folder / MANIFEST, *folder.glob("*.npy")):
        if not path.name.startswith("."):  # another process may be writing it
            path.unlink(missing_ok=True)


def read(folder: pathlib.Path, fingerprint: str) -> Kept | None:
    """Read what was written under this fingerprint; None where there is no such cache, or it is damaged.

    Damage raises a warning, since the disk may be failing. Files are checked as ``checksums.verified`` says; small ones are
    loaded, large ones memory-mapped.

    Example:
      >>> read(pathlib.Path("/nonexistent"), "v1") is None
      True
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["fingerprint"] != fingerprint:
            return None
        records = {name: FileRecord(**record) for name, record in manifest["arrays"].items()}
        metadata, known = dict(manifest["facts"]), dict(manifest["known"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _damaged(folder / MANIFEST, f"it cannot be read: {error}")
    arrays = {}
    for name, record in records.items():
        path = folder / f"{name}.npy"
        try:
            verified = checksums.verified(path, record)
            if verified is None:
                return _damaged(path, "its sha256 does not match")
            large = record.size > checksums.LARGE
            arrays[name] = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)
        except OSError as error:
            return _damaged(path, f"it cannot be read: {error.strerror or error}")
        if (
            large and verified != record
        ):  # intact, after a full read: with its new time the next start need not repeat it
            manifest["arrays"][name] = verified._asdict()
            with contextlib.suppress(OSError):
                write_json(folder / MANIFEST, manifest)
    return Kept(arrays, metadata, KeptValues(folder, fingerprint, known))


def read_or_fill(folder: pathlib.Path, fingerprint: str, fill: Callable[[CacheWriter], None]) -> Kept:
    """Read what is kept under this fingerprint, or let ``fill`` write it: one process at a time, while others wait and read.

    Raises: DiskRefused where the disk refuses; what ``fill`` raises. Neither partial files nor empty new folders are left.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as name:
      ...     fill = lambda writer: writer.array("train_x", (3,), np.uint8)(np.arange(3))
      ...     read_or_fill(pathlib.Path(name, "cache"), "v1", fill).arrays
      {'train_x': array([0, 1, 2], dtype=uint8)}
    """
    kept = read(folder, fingerprint)
    if kept is not None:
        return kept
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder, wait=True) as waited:
            kept = read(folder, fingerprint) if waited else None
            if kept is None:
                with writing(folder, fingerprint) as writer:
                    fill(writer)
                kept = read(folder, fingerprint)
    except BaseException as error:
        with contextlib.suppress(OSError):  # another process has put something there
            for path in new_folders:
                path.rmdir()
        if isinstance(error, OSError) and not isinstance(error, DiskRefused):
            raise DiskRefused(*error.args) from None
        raise
    if kept is None:
        raise UserError(f"{folder}: another process changed it while it was written; start again")
    return kept


def _damaged(path: pathlib.Path, reason: str) -> None:
    warnings.warn(f"{path}: {reason}; the data is decoded again", stacklevel=3)
