"""A user's own arrays from an .npz file."""

from __future__ import annotations

import pathlib
import zipfile
import zlib

import numpy as np

from vaex.data import arrays, values
from vaex.data.spec import Dataset, Spec, with_protocol
from vaex.errors import UserError, nearest

NAMES = ("x", "x_train", "x_validation", "x_test", "y", "y_train", "y_validation", "y_test")
REMEDY = 'write it with np.savez("data.npz", x=images), x of shape [n, h, w], [n, h, w, c] or [n, d]'


def load_npz(path: str | pathlib.Path) -> Dataset:
    """The data of an .npz file: array ``x`` or ``x_train``, and where there are such ``x_validation``, ``x_test``; labels
    ``y`` or ``y_train``, ...

    Values are recognised as ``values.store`` says. A missing validation or test split is carved out of the training
    examples, a tenth each, in an order that depends on their number alone (``arrays.carve``), and the protocol says so.

    Raises: UserError for anything that can't be used, with the remedy.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(folder + "/stripes.npz", x=np.tile(np.eye(8), [5, 1, 1]).reshape(5, 8, 8))
      ...     load_npz(folder + "/stripes.npz").spec.protocol
      'stripes_3_1_1_carved_validation_test binary'
    """
    path = pathlib.Path(path).expanduser()
    found = _read(path)
    raw, raw_labels = _by_split(path, found, "x"), _by_split(path, found, "y")
    if "train" not in raw:
        raise UserError(f"{path}: has no array x or x_train; {REMEDY}")
    stored, kind, levels = values.store(str(path), {_called(found, "x", split): array for split, array in raw.items()})
    splits = {split: {"x": stored[_called(found, "x", split)]} for split in raw}
    for split, array in raw_labels.items():
        if split not in raw:
            raise UserError(f"{path}: has {_called(found, 'y', split)} but no x_{split}; give both or neither")
        splits[split]["y"] = arrays.labels(f"{path}: {_called(found, 'y', split)}", array, len(raw[split]))
    unlabelled = [split for split in raw if split not in raw_labels]
    if raw_labels and unlabelled:
        raise UserError(
            f"{path}: has labels, but no y_{' and no y_'.join(unlabelled)}; label every split (-1 means unlabelled) or none"
        )
    missing = tuple(split for split in arrays.SPLITS if split not in raw)
    splits |= arrays.carve(splits["train"], missing, str(path))
    splits = {split: splits[split] for split in arrays.SPLITS}
    sizes = "_".join(str(len(splits[split]["x"])) for split in arrays.SPLITS)
    carved = f"_carved_{'_'.join(missing)}" if missing else ""
    classes = arrays.count_classes(str(path), splits)
    shape = splits["train"]["x"].shape[1:]
    spec = Spec(path.stem, shape, kind, levels=levels, num_classes=classes, data_hash=arrays.data_hash(splits))
    return Dataset(splits, with_protocol(spec, f"{path.stem}_{sizes}{carved}"))


def _called(found: dict[str, np.ndarray], letter: str, split: str) -> str:
    """The name of a split's array in the file: x stands for x_train."""
    return letter if split == "train" and letter in found else f"{letter}_{split}"


def _by_split(path: pathlib.Path, found: dict[str, np.ndarray], letter: str) -> dict[str, np.ndarray]:
    if letter in found and f"{letter}_train" in found:
        raise UserError(f"{path}: has both {letter} and {letter}_train, which mean the same; keep one")
    names = {split: _called(found, letter, split) for split in arrays.SPLITS}
    return {split: found[name] for split, name in names.items() if name in found}


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of the file, once all their names are known ones."""
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path, which starts from {pathlib.Path.cwd()}")
    if not path.is_file():
        raise UserError(f"{path}: is not a file; give the path of an .npz file")
    try:
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path}: is not an .npz file, or was cut short; {REMEDY}")
        with np.load(path, allow_pickle=False) as archive:
            unknown = [name for name in archive.files if name not in NAMES]
            if unknown:
                raise UserError(
                    f"{path}: has an array called {unknown[0]!r}; {nearest(unknown[0], NAMES)}. Rename it or leave it out"
                )
            return {name: _member(path, archive, name) for name in archive.files}
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions"
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: is damaged ({error}); write or copy it again") from None


def _member(path: pathlib.Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        array = archive[name]
    except ValueError as error:
        if "pickle" in str(error):
            raise UserError(f"{path}: {name} holds pickled Python objects, which are never loaded; {REMEDY}") from None
        raise UserError(f"{path}: {name} cannot be read ({error}); {REMEDY}") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: {name} is not an array; {REMEDY}")
    return array
