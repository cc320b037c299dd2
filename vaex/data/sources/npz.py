"""A user's own arrays from an .npz file."""

from __future__ import annotations

import hashlib
import os
import pathlib
import warnings
from typing import Any

import numpy as np

from vaex.data.spec import Dataset
from vaex.data.storage import cache, machine, values
from vaex.data.storage.archive import load, mapped, member, opened, pieces
from vaex.data.storage.arrays import SPLITS
from vaex.data.storage.assemble import Part, assemble
from vaex.data.storage.cache import Kept, Memory, Refused, Writer
from vaex.data.storage.prepared import CACHE, LAYOUT, root_folder
from vaex.errors import UserError, nearest

NAMES = ("x", "x_train", "x_validation", "x_test", "y", "y_train", "y_validation", "y_test")
REMEDY = 'write it with np.savez("data.npz", x=images), x of shape [n, h, w], [n, h, w, c] or [n, d]'


def load_npz(path: str | pathlib.Path, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The data of an .npz file: array ``x`` or ``x_train``, and where there are such ``x_validation``, ``x_test``; labels
    ``y`` or ``y_train``, ...

    Values are recognised as ``values.recognise`` says. A missing validation or test split is carved out of the training
    examples, a tenth each, in an order that depends on their number alone (``arrays.carve``), and the protocol says so.
    A file that would take more than ``machine.SHARE`` of the free memory stays on the disk: what is not compressed is mapped
    where it lies, and the rest is decompressed once, into vaex_cache in ``data_dir``.

    Raises: UserError for anything that can't be used, with the remedy.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(folder + "/stripes.npz", x=np.tile(np.eye(8), [5, 1, 1]).reshape(5, 8, 8))
      ...     load_npz(folder + "/stripes.npz").spec.protocol
      'stripes_3_1_1_carved_validation_test binary'
    """
    path = pathlib.Path(path).expanduser()
    found, memory = _read(path, data_dir)
    x_names, y_names = _by_split(path, found, "x"), _by_split(path, found, "y")
    if "train" not in x_names:
        raise UserError(f"{path}: has no array x or x_train; {REMEDY}")
    for split, y_name in y_names.items():
        if split not in x_names:
            raise UserError(f"{path}: has {y_name} but no x_{split}; give both or neither")
    parts = {split: Part(name, found[name]) for split, name in x_names.items()}
    for split, name in y_names.items():
        parts[split] = parts[split]._replace(y_name=name, y=found[name])
    return assemble(str(path), path.stem, parts, protocol=path.stem, memory=memory)


def _by_split(path: pathlib.Path, found: dict[str, np.ndarray], letter: str) -> dict[str, str]:
    """The names of the splits' arrays in the file; x alone stands for x_train."""
    if letter in found and f"{letter}_train" in found:
        raise UserError(f"{path}: has both {letter} and {letter}_train, which mean the same; keep one")
    names = {split: f"{letter}_{split}" for split in SPLITS}
    if letter in found:
        names["train"] = letter
    return {split: name for split, name in names.items() if name in found}


def _read(path: pathlib.Path, data_dir: str | os.PathLike[str] | None) -> tuple[dict[str, np.ndarray], Memory | None]:
    """The arrays of the file, once all their names are known ones; those of a large file stay on the disk."""
    with opened(path, REMEDY) as archive:
        unknown = [name for name in archive.files if name not in NAMES]
        if unknown:
            raise UserError(
                f"{path}: has an array called {unknown[0]!r}; {nearest(unknown[0], NAMES)}. Rename it or leave it out"
            )
        contents: Any = archive.zip
        if sum(info.file_size for info in contents.infolist()) > machine.SHARE * machine.free_memory():
            return _left_on_disk(path, archive, data_dir)
        return {name: load(path, archive, name, REMEDY) for name in archive.files}, None


def _left_on_disk(
    path: pathlib.Path, archive: np.lib.npyio.NpzFile, data_dir: str | os.PathLike[str] | None
) -> tuple[dict[str, np.ndarray], Memory | None]:
    """Arrays mapped where they lie in the file; compressed ones are decompressed into the cache first.

    All are read once and compared with the zip's own checksums, and again only when the file's size or time has changed.
    """
    members = [member(path, archive, name, REMEDY) for name in archive.files]
    for found in members:
        if found.name.startswith("x"):
            values.check(f"{path}: {found.name}", np.broadcast_to(np.zeros((), found.dtype), found.shape))
        if found.fortran and found.start is None:
            raise UserError(
                f"{path}: {found.name} is compressed, in Fortran order, and too large for the memory; write it with "
                "np.ascontiguousarray, or with np.savez"
            )
    root, status = root_folder(data_dir), path.stat()
    place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
    fingerprint = f"{LAYOUT}:{status.st_size}:{status.st_mtime_ns}"

    def fill(writer: Writer) -> None:
        for found in members:
            append = writer.array(found.name, found.shape, found.dtype) if found.start is None else None
            for piece in pieces(archive, found):
                if append:
                    append(piece)

    folder = root / CACHE / f"npz_{path.stem}_{place}"
    try:
        kept = cache.read_or_fill(folder, fingerprint, fill)
    except Refused as error:
        if any(found.start is None for found in members):
            raise UserError(
                f"--data_dir={root}: {path} is too large for the memory, and cannot be decompressed there "
                f"({error.strerror or error}); free space, give another --data_dir, or write the file with np.savez"
            ) from None
        warnings.warn(
            f"{folder}: cannot be written ({error.strerror or error}); every start will check {path} in full",
            stacklevel=2,
        )
        kept = Kept({}, {}, None)
    mappings = {found.name: mapped(path, found) for found in members if found.start is not None}
    return {**kept.arrays, **mappings}, kept.memory
