"""Decoded arrays kept as files: written once, checked by their sha256 at every start, made anew when they don't match."""

from __future__ import annotations

import hashlib
import json
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from vaex.files import atomic_path, write_json

MANIFEST = "manifest.json"


def write(folder: pathlib.Path, fingerprint: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Keep ``arrays`` as one .npy file each (they can be memory-mapped), and a manifest, last, that makes them valid.

    Each file is whole or absent. Processes that write the same data at once don't disturb one another, since their files
    are equal.

    Args:
      folder: made if needed.
      fingerprint: of what the arrays were decoded from.
      arrays: name -> array.
      facts: values for JSON to keep with them.
    Raises: OSError where the disk refuses; no valid cache is left then.
    Example: see ``read``.
    """
    checksums = {}
    for name, values in arrays.items():
        with atomic_path(folder / f"{name}.npy") as temporary:
            with temporary.open("wb") as file:
                np.save(file, values, allow_pickle=False)
            checksums[name] = _checksum(temporary)
    write_json(folder / MANIFEST, {"fingerprint": fingerprint, "sha256": checksums, "facts": dict(facts)})


def read(folder: pathlib.Path, fingerprint: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """What ``write`` kept under this fingerprint, or None where there is nothing, something else, or damage.

    Damage is warned of: it may be the disk's.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as name:
      ...     write(pathlib.Path(name), "v1", {"train_x": np.arange(3)}, {"labels": 2})
      ...     read(pathlib.Path(name), "v1"), read(pathlib.Path(name), "v2")
      (({'train_x': array([0, 1, 2])}, {'labels': 2}), None)
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        known, checksums, facts = manifest["fingerprint"], dict(manifest["sha256"]), dict(manifest["facts"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return _damaged(folder / MANIFEST, f"it cannot be read: {error}")
    if known != fingerprint:
        return None
    arrays = {}
    for name, expected in checksums.items():
        path = folder / f"{name}.npy"
        try:
            if _checksum(path) != expected:
                return _damaged(path, "its sha256 does not match")
            arrays[name] = np.load(path, allow_pickle=False)
        except OSError as error:
            return _damaged(path, f"it cannot be read: {error.strerror or error}")
    return arrays, facts


def _checksum(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: pathlib.Path, reason: str) -> None:
    warnings.warn(f"{path}: {reason}; the data is decoded again", stacklevel=3)
