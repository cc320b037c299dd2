"""Decoded arrays kept as files: written once, piece by piece, checked at every start, made anew when they don't match."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from vaex.data.storage import checksums
from vaex.data.storage.checksums import Record, Running
from vaex.errors import UserError
from vaex.files import atomic_path, held, write_json

MANIFEST = "manifest.json"


class Refused(OSError):
    """The disk refuses what should be cached: known from trouble with what is decoded."""


class Memory:
    """Facts that take a pass over all cached data, such as its hash: kept in the manifest once they are known.

    Example:
      >>> memory = Memory(pathlib.Path("/nonexistent"), "v1", {"hash": "b566"})
      >>> memory.recall("hash", lambda: 1 / 0)
      'b566'
    """

    def __init__(self, folder: pathlib.Path, fingerprint: str, known: Mapping[str, Any]):
        self._folder, self._fingerprint, self._known = folder, fingerprint, dict(known)

    def recall(self, name: str, compute: Callable[[], Any]) -> Any:
        """The fact ``name``, a value for JSON; computed where it is not known yet. A disk that refuses to keep it is ignored."""
        if name not in self._known:
            self._known[name] = compute()
            with contextlib.suppress(OSError, ValueError, KeyError):  # read-only, full, or being made anew
                manifest = json.loads((self._folder / MANIFEST).read_text())
                if manifest["fingerprint"] == self._fingerprint:
                    manifest["known"][name] = self._known[name]
                    write_json(self._folder / MANIFEST, manifest)
        return self._known[name]


class Kept(NamedTuple):
    """Cached arrays, the facts kept with them, and the memory of more.

    Example:
      >>> Kept({"train_x": np.zeros(2)}, {"label_names": []}).memory is None
      True
    """

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]
    memory: Memory | None = None


class Writer:
    """Arrays on their way to the disk; see ``writing``. ``facts``: values for JSON to keep with them."""

    def __init__(self, folder: pathlib.Path, files: contextlib.ExitStack):
        self._folder, self._stack = folder, files
        self._files: dict[str, tuple[Any, int, Running]] = {}
        self.facts: dict[str, Any] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Callable[[np.ndarray], None]:
        """Begin an array; what comes back appends examples to it, any number at a time."""
        temporary = self._stack.enter_context(atomic_path(self._folder / f"{name}.npy"))
        file = self._stack.enter_context(temporary.open("wb"))
        header, running, kind = io.BytesIO(), Running(), np.dtype(dtype)
        described = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(header, described)
        self._files[name] = file, len(header.getvalue()) + math.prod(shape) * kind.itemsize, running

        def append(content: Any) -> None:
            running.update(content)
            try:
                file.write(content)
            except OSError as error:
                raise Refused(*error.args) from None

        append(header.getvalue())
        return lambda examples: append(np.ascontiguousarray(examples, kind).reshape(-1).view(np.uint8).data)

    def finish(self) -> dict[str, Record]:
        """Everything onto the disk itself; the files' records.

        Raises: ValueError for an array that lacks examples or has too many.
        """
        records = {}
        for name, (file, size, running) in self._files.items():
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a power cut could leave the name on an empty file
            status = os.fstat(file.fileno())
            if status.st_size != size:
                raise ValueError(f"{name}: {status.st_size} bytes were written, expected {size}")
            records[name] = Record(running.finished(), size, status.st_mtime_ns)
        return records


@contextlib.contextmanager
def writing(folder: pathlib.Path, fingerprint: str) -> Iterator[Writer]:
    """Keep arrays as one .npy file each, written piece by piece, and a manifest, last, that makes them valid.

    What the folder held is removed first: it is of no use any more, and the disk may not hold both. Each file is whole or
    absent, and without its manifest none counts, so neither a kill nor a full disk leaves anything that is taken for whole.

    Args:
      folder: made if needed.
      fingerprint: of what the arrays are decoded from.
    Raises: Refused where the disk refuses, and for any other OSError of the block.
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
            writer = Writer(folder, files)
            yield writer
            records = writer.finish()
        arrays = {name: record._asdict() for name, record in records.items()}
        manifest = {"fingerprint": fingerprint, "arrays": arrays, "facts": writer.facts, "known": {}}
        write_json(folder / MANIFEST, manifest)
    except BaseException as error:
        with contextlib.suppress(OSError):
            _clear(folder)  # arrays without a manifest only fill the disk
        if isinstance(error, OSError) and not isinstance(error, Refused):
            raise Refused(*error.args) from None
        raise


def _clear(folder: pathlib.Path) -> None:
    for path in (folder / MANIFEST, *folder.glob("*.npy")):
        if not path.name.startswith("."):  # another process may be writing it
            path.unlink(missing_ok=True)


def read(folder: pathlib.Path, fingerprint: str) -> Kept | None:
    """What was written under this fingerprint, or None where there is nothing, something else, or damage.

    Damage is warned of: it may be the disk's. Files are checked as ``checksums.verified`` says; small ones are loaded,
    large ones memory-mapped.

    Example:
      >>> read(pathlib.Path("/nonexistent"), "v1") is None
      True
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["fingerprint"] != fingerprint:
            return None
        records = {name: Record(**record) for name, record in manifest["arrays"].items()}
        facts, known = dict(manifest["facts"]), dict(manifest["known"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _damaged(folder / MANIFEST, f"it cannot be read: {error}")
    arrays = {}
    for name, record in records.items():
        path = folder / f"{name}.npy"
        try:
            found = checksums.verified(path, record)
            if found is None:
                return _damaged(path, "its sha256 does not match")
            large = record.size > checksums.LARGE
            arrays[name] = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)
        except OSError as error:
            return _damaged(path, f"it cannot be read: {error.strerror or error}")
        if large and found != record:  # found whole once more, after a full read; the next start need not repeat it
            manifest["arrays"][name] = found._asdict()
            with contextlib.suppress(OSError):
                write_json(folder / MANIFEST, manifest)
    return Kept(arrays, facts, Memory(folder, fingerprint, known))


def read_or_fill(folder: pathlib.Path, fingerprint: str, fill: Callable[[Writer], None]) -> Kept:
    """What is kept under this fingerprint, or what ``fill`` writes; by one process at a time, the others wait and read.

    Raises: Refused where the disk refuses; what ``fill`` raises. Nothing half-written is left, nor folders made in vain.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as name:
      ...     fill = lambda writer: writer.array("train_x", (3,), np.uint8)(np.arange(3))
      ...     read_or_fill(pathlib.Path(name, "cache"), "v1", fill).arrays
      {'train_x': array([0, 1, 2], dtype=uint8)}
    """
    found = read(folder, fingerprint)
    if found is not None:
        return found
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder, wait=True) as waited:
            found = read(folder, fingerprint) if waited else None
            if found is None:
                with writing(folder, fingerprint) as writer:
                    fill(writer)
                found = read(folder, fingerprint)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where another process has put something
            for path in made:
                path.rmdir()
        if isinstance(error, OSError) and not isinstance(error, Refused):
            raise Refused(*error.args) from None
        raise
    if found is None:
        raise UserError(f"{folder}: another process changed it while it was written; start again")
    return found


def _damaged(path: pathlib.Path, reason: str) -> None:
    warnings.warn(f"{path}: {reason}; the data is decoded again", stacklevel=3)
