"""Data sets that tensorflow-datasets has prepared: where they lie, and their decoded arrays, kept beside them."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Mapping

import numpy as np

from vaex.data.storage import cache
from vaex.data.storage.cache import Kept, Refused, Writer
from vaex.data.storage.decoding import Decoded, Prepared, decode
from vaex.data.storage.resizing import words
from vaex.data.storage.store import InMemory, Store
from vaex.errors import UserError

CACHE = "vaex_cache"
LAYOUT = "2"  # of the cached arrays; a change makes every cache stale


def root_folder(data_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    """Where prepared data sets live: ``data_dir``, or TFDS's own choice.

    Example:
      >>> root_folder("data").as_posix()
      'data'
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or pathlib.Path("~", "tensorflow_datasets")
    return pathlib.Path(chosen).expanduser()


def find_prepared(root: pathlib.Path, name: str, config: str = "") -> Prepared | None:
    """The newest prepared version of a data set below ``root``; of its only prepared config, where none is named.

    Raises: UserError where several configs are prepared and none is named.
    Example:
      >>> find_prepared(pathlib.Path("/nonexistent"), "mnist") is None
      True
    """
    version = _newest(root / name / config)
    if version or config:
        return Prepared(root, name, config, version) if version else None
    configs = [folder.name for folder in folders(root / name) if _newest(folder)]
    if len(configs) > 1:
        raise UserError(
            f"--dataset=tfds:{name}: choose one of its configs: {', '.join(f'tfds:{name}:{c}' for c in configs)}"
        )
    return find_prepared(root, name, configs[0]) if configs else None


def is_prepared(folder: pathlib.Path) -> bool:
    """Whether any version or config of a data set is prepared in its folder.

    Example:
      >>> is_prepared(pathlib.Path("/nonexistent"))
      False
    """
    return bool(_newest(folder)) or any(_newest(config) for config in folders(folder))


def read_prepared(prepared: Prepared, size: tuple[int, int] | None = None) -> Decoded:
    """The decoded arrays of a prepared data set, from the cache beside it, or decoded and then cached.

    Args:
      prepared: where it lies.
      size: height and width to which images are cut and resized, or None; each size has a cache of its own.
    Raises: UserError where the data can't be read or used. Warns where it can't be cached.
    Example:
      >>> read_prepared(Prepared(pathlib.Path("/nonexistent"), "mnist", "", "3.0.1"))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: /nonexistent/mnist/3.0.1: dataset_info.json cannot be read (No such file or directory); ...
    """
    folder = prepared.folder / f"{CACHE}{words(size)}"
    fingerprint = _fingerprint(prepared.folder)
    try:
        fill = _filling(lambda store: decode(prepared, store, size))
        return _decoded(cache.read_or_fill(folder, fingerprint, fill))
    except Refused as error:
        reason = error.strerror or error
    store = InMemory(str(folder))
    decoded = _by_split(store.arrays, decode(prepared, store, size))
    warnings.warn(f"{folder}: decoded data cannot be kept ({reason}); every start will decode it", stacklevel=2)
    return decoded


def read_kept(folder: pathlib.Path, fingerprint: str) -> Decoded | None:
    """Decoded data out of the cache in ``folder``, or None where there is none under this fingerprint.

    Example:
      >>> read_kept(pathlib.Path("/nonexistent"), "v1") is None
      True
    """
    kept = cache.read(folder, fingerprint)
    return None if kept is None else _decoded(kept)


def keep(root: pathlib.Path, name: str, fingerprint: str, fill: Callable[[Store], tuple[str, ...]]) -> Decoded:
    """What is kept in ``root/vaex_cache/name``, or decoded into it: data that is no TFDS data set.

    Args:
      root: as from ``root_folder``.
      name: of the folder.
      fingerprint: for ``read_kept`` to know it by.
      fill: puts arrays "train_x", "train_y", ... into the store, and gives the names of the classes.
    Raises: UserError where the disk refuses; nothing half-written is left.
    Example:
      >>> import tempfile
      >>> def fill(store):
      ...     store.array("train_x", (2, 4), np.uint8)(np.zeros([2, 4]))
      ...     return "a", "b"
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     keep(pathlib.Path(folder), "zeros", "v1", fill).label_names
      ('a', 'b')
    """
    try:
        return _decoded(cache.read_or_fill(root / CACHE / name, fingerprint, _filling(fill)))
    except Refused as error:
        raise UserError(
            f"--data_dir={root}: {name} cannot be written there ({error.strerror or error}); free space or give another "
            "--data_dir"
        ) from None


def _filling(fill: Callable[[Store], tuple[str, ...]]) -> Callable[[Writer], None]:
    """For ``cache.read_or_fill``: the names of the classes become a fact."""

    def write(writer: Writer) -> None:
        writer.facts["label_names"] = fill(writer)

    return write


def _decoded(kept: Kept) -> Decoded:
    decoded = _by_split(kept.arrays, kept.facts["label_names"])
    mapped = any(isinstance(values, np.memmap) for values in kept.arrays.values())
    return decoded._replace(memory=kept.memory if mapped else None)


def _by_split(arrays: Mapping[str, np.ndarray], label_names: tuple[str, ...]) -> Decoded:
    splits: dict[str, dict[str, np.ndarray]] = {}
    for key, values in arrays.items():
        split, name = key.split("_")
        splits.setdefault(split, {})[name] = values
    return Decoded(splits, tuple(label_names))


def folders(parent: pathlib.Path) -> list[pathlib.Path]:
    """The folders in ``parent``, sorted; none where it does not exist.

    Example:
      >>> folders(pathlib.Path("/nonexistent"))
      []
    """
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _newest(parent: pathlib.Path) -> str:
    """The highest version below ``parent`` that holds a data set, or ""."""
    names = [path.name for path in folders(parent) if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    whole = [name for name in names if (parent / name / "dataset_info.json").is_file()]
    return max(whole, key=lambda name: tuple(map(int, name.split("."))), default="")


def _fingerprint(folder: pathlib.Path) -> str:
    """Of the description that TFDS keeps with the data, which counts examples and bytes of every file."""
    try:
        described = (folder / "dataset_info.json").read_bytes()
        json.loads(described)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{folder}: dataset_info.json cannot be read ({reason}); remove this folder and prepare it again"
        ) from None
    return f"{LAYOUT}:{hashlib.sha256(described).hexdigest()}"
