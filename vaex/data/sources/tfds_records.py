"""Records that tensorflow-datasets (TFDS) has written: where they lie, and which version is the newest."""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
from typing import NamedTuple

from vaex.data.storage.decoded import LAYOUT, subfolders
from vaex.errors import UserError


class TfdsRecords(NamedTuple):
    """A data set in TFDS's format on disk: ``root/name[/config]/version``.

    Example:
      >>> TfdsRecords(pathlib.Path("data"), "mnist", "", "3.0.1").folder.as_posix()
      'data/mnist/3.0.1'
    """

    root: pathlib.Path
    name: str
    config: str
    version: str

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the record files and of dataset_info.json."""
        return self.root / self.name / self.config / self.version


def find_records(root: pathlib.Path, name: str, config: str = "") -> TfdsRecords | None:
    """Find the newest version of a data set below ``root``; without ``config``, of its only config that has records.

    Raises: UserError where several configs have records and ``config`` names none.
    Example:
      >>> find_records(pathlib.Path("/nonexistent"), "mnist") is None
      True
    """
    version = _newest(root / name / config)
    if version or config:
        return TfdsRecords(root, name, config, version) if version else None
    configs = [folder.name for folder in subfolders(root / name) if _newest(folder)]
    if len(configs) > 1:
        raise UserError(
            f"--dataset=tfds:{name}: choose one of its configs: {', '.join(f'tfds:{name}:{c}' for c in configs)}"
        )
    return find_records(root, name, configs[0]) if configs else None


def has_records(folder: pathlib.Path) -> bool:
    """Tell whether a data set's folder holds records of any version or config.

    Example:
      >>> has_records(pathlib.Path("/nonexistent"))
      False
    """
    return bool(_newest(folder)) or any(_newest(config) for config in subfolders(folder))


def fingerprint(records: TfdsRecords) -> str:
    """Return the hash of the description that TFDS writes beside the records, which counts examples and bytes of every file.

    Raises: UserError where the description cannot be read.
    """
    try:
        description = (records.folder / "dataset_info.json").read_bytes()
        json.loads(description)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{records.folder}: dataset_info.json cannot be read ({reason}); remove this folder and prepare it again"
        ) from None
    return f"{LAYOUT}:{hashlib.sha256(description).hexdigest()}"


def _newest(parent: pathlib.Path) -> str:
    """Return the highest version below ``parent`` that holds a data set, or ""."""
    names = [path.name for path in subfolders(parent) if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    complete = [name for name in names if (parent / name / "dataset_info.json").is_file()]
    return max(complete, key=lambda name: tuple(map(int, name.split("."))), default="")
