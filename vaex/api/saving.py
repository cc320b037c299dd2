"""Copies of a run: its directory, or what it holds in memory, in another folder."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from vaex import files
from vaex.configuration.settings import Settings
from vaex.errors import UserError
from vaex.runs.config_file import check_recordable
from vaex.runs.directory import OURS
from vaex.runs.store import DirectoryStore, MemoryStore, Store


def save_run(
    directory: str | os.PathLike[str], settings: Settings, store: Store, summary: Mapping[str, Any] | None
) -> pathlib.Path:
    """Write a run into an empty folder, and return the folder.

    Raises: UserError where the folder holds something already.
    """
    folder = pathlib.Path(directory).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"save: {folder} is not empty; choose another directory")
    check_recordable(settings)
    files.make_writable(folder)
    if store.directory is not None:
        for name in OURS:
            source = store.directory / name
            if source.is_dir():
                shutil.copytree(source, folder / name)
            elif source.exists():
                shutil.copy2(source, folder / name)
        return folder
    if isinstance(store, MemoryStore):
        store.copy_to(DirectoryStore(folder))
    if summary is not None:
        files.write_json(folder / "summary.json", files.with_digest(summary))
    return folder
