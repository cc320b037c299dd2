"""The directory of a run: made ours, cleared, and described in config.json."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import vaex
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.files import make_writable, read_json, write_json
from vaex.runs import identity
from vaex.runs.compare import LOG_LIKELIHOODS
from vaex.runs.setup import Experiment


def claim(experiment: Experiment) -> bool:
    """Make the run directory ours: a new one, or one that holds the same configuration.

    Returns: whether it held a run already.
    Raises: UserError for a directory that cannot be written, holds something else, or another configuration.
    """
    directory, path = experiment.directory, experiment.directory / "config.json"
    make_writable(directory)
    if experiment.settings.run.overwrite and path.exists():
        clear(directory)
        return False
    if not path.exists():
        strangers = [entry.name for entry in directory.iterdir() if not entry.name.startswith(".")]
        if strangers:
            raise UserError(
                f"--out={directory}: holds other files ({', '.join(sorted(strangers)[:3])}) but no run; choose another directory"
            )
        return False
    old = identity.read(path)
    changed = identity.differences(old["identity"], identity.identity(experiment.settings))
    if old["data"]["data_hash"] != experiment.spec.data_hash:
        changed.append(f"data: {old['data']['data_hash']} -> {experiment.spec.data_hash}")
    if changed:
        raise UserError(
            f"--out={directory} holds a run of another configuration: {'; '.join(changed)}. Choose another --out, "
            "or start again with --overwrite"
        )
    return True


FOLDERS = ("checkpoints", "stages", "profile")
FILES = (LOG_LIKELIHOODS, "summary.json", "timings.jsonl", "metrics.jsonl", "config.json")  # as they are removed
OURS = (*FILES, *FOLDERS, "figures")


def clear(directory: pathlib.Path) -> None:
    """Remove what a run has written, and nothing else; config.json last, so a half-cleared run is still known as one.

    Raises: UserError where the directory's config.json is not a run's.
    """
    path = directory / "config.json"
    try:
        ours = identity.is_run(read_json(path))
    except (OSError, ValueError):  # damaged: a run's, where nothing else lies beside it
        ours = all(entry.name in OURS or entry.name.startswith(".") for entry in directory.iterdir())
    if not ours:
        raise UserError(f"--out={directory}: its config.json is not that of a run; choose another directory")
    for picture in (directory / "figures").rglob("*.png"):
        picture.unlink()
    for folder in sorted((directory / "figures").rglob("*"), reverse=True):
        _remove_empty(folder)
    _remove_empty(directory / "figures")
    for name in FOLDERS:
        if (directory / name).is_dir() and not (directory / name).is_symlink():
            shutil.rmtree(directory / name)
    for name in (*FOLDERS, *FILES):
        (directory / name).unlink(missing_ok=True)


def _remove_empty(folder: pathlib.Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def write_config(experiment: Experiment, strategy: str) -> None:
    """config.json: all that rebuilding the model takes."""
    facts = {
        "vaex": vaex.__version__,
        "identity": identity.identity(experiment.settings),
        "data": {"path": experiment.settings.data.dataset, **experiment.spec._asdict()},
        "population_strategy": strategy,
    }
    write_json(experiment.directory / "config.json", facts)


ADDED = ("num_training_examples",)  # to Spec, after runs had been written


def load_spec(facts: dict[str, Any]) -> Spec:
    """The Spec that ``write_config`` stored; what earlier versions did not store has its default."""
    fields = (name for name in Spec._fields if name in facts["data"] or name not in ADDED)
    stored = ((name, facts["data"][name]) for name in fields)
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in stored}
    return Spec(**values)
