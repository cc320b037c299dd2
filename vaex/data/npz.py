"""A user's own arrays from an .npz file."""

from __future__ import annotations

import pathlib
import zipfile
import zlib

import numpy as np

from vaex.data.arrays import SPLITS
from vaex.data.assemble import Part, assemble
from vaex.data.spec import Dataset
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
    x_names, y_names = _by_split(path, found, "x"), _by_split(path, found, "y")
    if "train" not in x_names:
        raise UserError(f"{path}: has no array x or x_train; {REMEDY}")
    for split, y_name in y_names.items():
        if split not in x_names:
            raise UserError(f"{path}: has {y_name} but no x_{split}; give both or neither")
    parts = {split: Part(name, found[name]) for split, name in x_names.items()}
    for split, name in y_names.items():
        parts[split] = parts[split]._replace(y_name=name, y=found[name])
    return assemble(str(path), path.stem, parts, protocol=path.stem)


def _by_split(path: pathlib.Path, found: dict[str, np.ndarray], letter: str) -> dict[str, str]:
    """The names of the splits' arrays in the file; x alone stands for x_train."""
    if letter in found and f"{letter}_train" in found:
        raise UserError(f"{path}: has both {letter} and {letter}_train, which mean the same; keep one")
    names = {split: f"{letter}_{split}" for split in SPLITS}
    if letter in found:
        names["train"] = letter
    return {split: name for split, name in names.items() if name in found}


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
