"""A user's arrays in an .npz file."""

from __future__ import annotations

import hashlib
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vaex.data.conditions import CONDITION_NAMES
from vaex.data.spec import Dataset
from vaex.data.storage import cache, host_memory, values
from vaex.data.storage.archive import load, mapped, member, opened, pieces
from vaex.data.storage.assemble import RawSplit, assemble
from vaex.data.storage.cache import CacheWriter, DiskRefused, Kept, KeptValues
from vaex.data.storage.decoded import CACHE, LAYOUT, data_folder
from vaex.data.storage.known_factors import FACTOR_NAMES, FACTORS
from vaex.data.storage.layouts import ARRAYS, arranged
from vaex.data.storage.lengths import LENGTHS, without_padding
from vaex.data.storage.masks import MASK, masked
from vaex.data.storage.splits import SPLITS
from vaex.errors import UserError, nearest

NAMES = tuple(
    f"{name}{end}" for name in ("x", "y", FACTORS, LENGTHS, MASK) for end in ("", *(f"_{split}" for split in SPLITS))
)
REMEDY = f'write it with np.savez("data.npz", x=images), x of shape {ARRAYS}'
Path = str | pathlib.Path
# names in dSprites and in files like it -> ours; those that are left out, of which the metadata is pickled
ALIASES, LEFT_OUT = {"imgs": "x", "latents_classes": FACTORS}, ("metadata", "latents_values")
DSPRITES = ("color", "shape", "scale", "orientation", "posX", "posY")  # columns of its latents_classes


def load_npz(
    path: Path, data_dir: str | os.PathLike[str] | None = None, reading: values.Reading = values.AS_THEY_ARE
) -> Dataset:
    """Load an .npz file: array ``x`` or ``x_train``, perhaps ``x_validation`` and ``x_test``, and labels ``y`` or ``y_train``, ...

    ``factors`` or ``factors_train``, ... [n, f] are known factors of the examples, integers, and ``factor_names`` [f] their names.
    y of real numbers [n], or of numbers [n, m], are conditions, and ``condition_names`` [m] their names.
    dSprites' ``imgs`` and ``latents_classes`` are read as x and factors, and its pickled metadata is never opened.
    ``lengths`` or ``lengths_train``, ... [n] are those of series, which lack the rest.

    Values are recognised as ``values.recognise`` says. A missing validation or test split is split off the training
    examples, a tenth each, in an order that depends on their number alone (``splits.split_off``); the protocol says so.
    A file that would take more than ``host_memory.SHARE`` of the free memory stays on the disk: uncompressed arrays are
    memory-mapped in the file, and compressed ones are decompressed once, into vaex_cache in ``data_dir``.

    Args:
      path: of the file.
      data_dir: where compressed arrays are decompressed.
      reading: how axes, values and labels are read.
    Raises: UserError for data that vaex cannot use, with the remedy.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(folder + "/stripes.npz", x=np.tile(np.eye(8), [5, 1, 1]).reshape(5, 8, 8))
      ...     load_npz(folder + "/stripes.npz").spec.protocol
      'stripes_3_1_1_carved_validation_test binary'
    """
    path = pathlib.Path(path).expanduser()
    arrays, kept_values = _read(path, data_dir, reading.layout)
    x_names, y_names = _by_split(path, arrays, "x"), _by_split(path, arrays, "y")
    if "train" not in x_names:
        raise UserError(f"{path}: has no array x or x_train; {REMEDY}")
    for split, y_name in y_names.items():
        if split not in x_names:
            raise UserError(f"{path}: has {y_name} but no x_{split}; give both or neither")
    raw = {
        split: RawSplit(name, arranged(f"{path}: {name}", arrays[name], reading.layout))
        for split, name in x_names.items()
    }
    kept_values = kept_values.under(reading.name) if kept_values and reading.name else kept_values
    for split, name in y_names.items():
        raw[split] = raw[split]._replace(y_name=name, y=arrays[name])
    for split, name in _by_split(path, arrays, FACTORS).items():
        if split not in x_names:
            raise UserError(f"{path}: has {name} but no x_{split}; give both or neither")
        raw[split] = raw[split]._replace(factors_name=name, factors=np.asarray(arrays[name]))
    for kind in (LENGTHS, MASK):
        for split, name in _by_split(path, arrays, kind).items():
            if split not in x_names:
                raise UserError(f"{path}: has {name} but no x_{split}; give both or neither")
            where, array = f"{path}: {name}", np.asarray(arrays[name])
            array = arranged(where, array, reading.layout) if kind == MASK else array
            without = masked if kind == MASK else without_padding
            raw[split] = raw[split]._replace(x=without(where, raw[split].x, array))
    names = arrays.get(FACTOR_NAMES)
    return assemble(
        str(path),
        path.stem,
        raw,
        protocol=path.stem,
        kept_values=kept_values,
        factor_names=names,
        condition_names=arrays.get(CONDITION_NAMES),
        reading=reading,
    )


def _by_split(path: pathlib.Path, arrays: dict[str, np.ndarray], letter: str) -> dict[str, str]:
    """Return the name of each split's array in the file; x stands for x_train."""
    if letter in arrays and f"{letter}_train" in arrays:
        raise UserError(f"{path}: has both {letter} and {letter}_train, which mean the same; keep one")
    names = {split: f"{letter}_{split}" for split in SPLITS}
    if letter in arrays:
        names["train"] = letter
    return {split: name for split, name in names.items() if name in arrays}


def _read(
    path: pathlib.Path, data_dir: str | os.PathLike[str] | None, layout: str
) -> tuple[dict[str, np.ndarray], KeptValues | None]:
    """Read the arrays of the file after checking their names; those of a large file stay on the disk."""
    with opened(path, REMEDY) as archive:
        names = _our_names(path, archive.files)
        contents: Any = archive.zip
        if sum(info.file_size for info in contents.infolist()) > host_memory.SHARE * host_memory.free_memory():
            arrays, kept_values = _left_on_disk(path, archive, names, data_dir, layout)
        else:
            arrays, kept_values = {name: load(path, archive, name, REMEDY) for name in names}, None
    arrays = {names[name]: array for name, array in arrays.items()}
    if "imgs" in names and FACTORS in arrays and arrays[FACTORS].shape[-1:] == (len(DSPRITES),):
        arrays.setdefault(FACTOR_NAMES, np.array(DSPRITES))
    return arrays, kept_values


def _our_names(path: pathlib.Path, files: Sequence[str]) -> dict[str, str]:
    """Return the names of the arrays that are read -> ours, with a warning where they differ.

    Raises: UserError for a name that means nothing.
    """
    if "imgs" in files and not set(files) & {"x", "x_train"}:
        left_out = [name for name in LEFT_OUT if name in files]
        read = ", ".join(f"{name} as {ours}" for name, ours in ALIASES.items() if name in files)
        rest = f"; {' and '.join(left_out)} left out" if left_out else ""
        warnings.warn(f"{path}: reads {read}{rest}", stacklevel=4)
        files = [name for name in files if name not in left_out]
    else:
        read = ""
    unknown = [
        name for name in files if name not in (*NAMES, CONDITION_NAMES, FACTOR_NAMES, *(ALIASES if read else ()))
    ]
    if unknown:
        hint = nearest(unknown[0], (*NAMES, CONDITION_NAMES, FACTOR_NAMES))
        raise UserError(f"{path}: has an array called {unknown[0]!r}; {hint}. Rename it or leave it out")
    return {name: ALIASES.get(name, name) if read else name for name in files}


def _left_on_disk(
    path: pathlib.Path,
    archive: np.lib.npyio.NpzFile,
    names: Mapping[str, str],
    data_dir: str | os.PathLike[str] | None,
    layout: str,
) -> tuple[dict[str, np.ndarray], KeptValues | None]:
    """Memory-map arrays in the file; decompress compressed ones into the cache first.

    All are read once and compared with the zip's checksums, and again only where the file's size or time has changed.
    """
    members = [member(path, archive, name, REMEDY) for name in names]
    for array in members:
        if names[array.name].startswith("x"):
            where, zeros = f"{path}: {array.name}", np.broadcast_to(np.zeros((), array.dtype), array.shape)
            values.check(where, arranged(where, zeros, layout))
        if array.fortran and array.start is None:
            raise UserError(
                f"{path}: {array.name} is compressed, in Fortran order, and too large for the memory; write it with "
                "np.ascontiguousarray, or with np.savez"
            )
    root, status = data_folder(data_dir), path.stat()
    place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
    fingerprint = f"{LAYOUT}:{status.st_size}:{status.st_mtime_ns}"

    def fill(writer: CacheWriter) -> None:
        for array in members:
            append = writer.array(array.name, array.shape, array.dtype) if array.start is None else None
            for piece in pieces(archive, array):
                if append:
                    append(piece)

    folder = root / CACHE / f"npz_{path.stem}_{place}"
    try:
        kept = cache.read_or_fill(folder, fingerprint, fill)
    except DiskRefused as error:
        if any(array.start is None for array in members):
            raise UserError(
                f"--data_dir={root}: {path} is too large for the memory, and cannot be decompressed there "
                f"({error.strerror or error}); free space, give another --data_dir, or write the file with np.savez"
            ) from None
        warnings.warn(
            f"{folder}: cannot be written ({error.strerror or error}); every start will check {path} in full",
            stacklevel=2,
        )
        kept = Kept({}, {}, None)
    mappings = {array.name: mapped(path, array) for array in members if array.start is not None}
    return {**kept.arrays, **mappings}, kept.values
