"""Decoded data sets: their arrays, and the cache in which they are kept between starts."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from vaex.data.storage import cache
from vaex.data.storage.cache import CacheWriter, DiskRefused, Kept, KeptValues
from vaex.data.storage.writers import ArrayWriter
from vaex.errors import UserError

CACHE = "vaex_cache"  # folder in the data folder
LAYOUT = "2"  # of the cached arrays; a change makes every cache stale
SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}

Decode = Callable[[ArrayWriter], tuple[str, ...]]  # writes arrays "train_x", "train_y", ...; returns the class names


class Decoded(NamedTuple):
    """Decoded splits of a data set.

    ``splits``: "train" and perhaps "validation" and "test" -> {"x": images [n, h, w, c], "y": [n] where labelled}.
    ``label_names``: names of the classes. ``skipped``: files that were left out. ``kept_values``: results of passes over all
    examples, kept in the cache; None where every array was small enough to be loaded.

    Example:
      >>> Decoded({"train": {"x": np.zeros([2, 8, 8, 1], np.uint8)}}).label_names
      ()
    """

    splits: dict[str, dict[str, np.ndarray]]
    label_names: tuple[str, ...] = ()
    kept_values: KeptValues | None = None
    skipped: tuple[str, ...] = ()


def data_folder(data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    """Return the folder of data sets: ``data_dir``, else $TFDS_DATA_DIR, else ~/tensorflow_datasets, as TFDS chooses.

    Example:
      >>> data_folder("data").as_posix()
      'data'
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or pathlib.Path("~", "tensorflow_datasets")
    return pathlib.Path(chosen).expanduser()


def subfolders(parent: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders in ``parent``, sorted; none where ``parent`` does not exist.

    Example:
      >>> subfolders(pathlib.Path("/nonexistent"))
      []
    """
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def read_kept(folder: pathlib.Path, fingerprint: str) -> Decoded | None:
    """Read a decoded data set from the cache in ``folder``; None where nothing is kept under this fingerprint.

    Example:
      >>> read_kept(pathlib.Path("/nonexistent"), "v1") is None
      True
    """
    kept = cache.read(folder, fingerprint)
    return None if kept is None else _decoded(kept)


def read_or_decode(folder: pathlib.Path, fingerprint: str, decode: Decode) -> Decoded:
    """Read a decoded data set from the cache in ``folder``, or decode it into the cache.

    Raises: DiskRefused where the cache cannot be written; what ``decode`` raises.
    """

    def fill(writer: CacheWriter) -> None:
        writer.metadata["label_names"] = decode(writer)

    return _decoded(cache.read_or_fill(folder, fingerprint, fill))


def keep(root: pathlib.Path, name: str, fingerprint: str, decode: Decode) -> Decoded:
    """Read a data set that is no TFDS data set from ``root/vaex_cache/name``, or decode it into that folder.

    Args:
      root: as from ``data_folder``.
      name: of the folder.
      fingerprint: of what is decoded; another fingerprint makes the cache stale.
      decode: writes arrays "train_x", "train_y", ... and returns the names of the classes.
    Raises: UserError where the disk refuses; no partial files are left.
    Example:
      >>> import tempfile
      >>> def decode(writer):
      ...     writer.array("train_x", (2, 4), np.uint8)(np.zeros([2, 4]))
      ...     return "a", "b"
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     keep(pathlib.Path(folder), "zeros", "v1", decode).label_names
      ('a', 'b')
    """
    try:
        return read_or_decode(root / CACHE / name, fingerprint, decode)
    except DiskRefused as error:
        raise UserError(
            f"--data_dir={root}: {name} cannot be written there ({error.strerror or error}); free space or give another "
            "--data_dir"
        ) from None


def by_split(arrays: Mapping[str, np.ndarray], label_names: tuple[str, ...]) -> Decoded:
    """Sort arrays called "train_x", "train_y", ... by split.

    Example:
      >>> by_split({"train_y": np.arange(2)}, ("a", "b")).splits
      {'train': {'y': array([0, 1])}}
    """
    splits: dict[str, dict[str, np.ndarray]] = {}
    for key, values in arrays.items():
        split, name = key.split("_")
        splits.setdefault(split, {})[name] = values
    return Decoded(splits, tuple(label_names))


def _decoded(kept: Kept) -> Decoded:
    decoded = by_split(kept.arrays, kept.metadata["label_names"])
    mapped = any(isinstance(values, np.memmap) for values in kept.arrays.values())
    skipped = tuple(kept.metadata.get("skipped", ()))
    return decoded._replace(kept_values=kept.values if mapped else None, skipped=skipped)
