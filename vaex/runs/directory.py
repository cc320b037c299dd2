"""The directory of a run: claimed, cleared, and where it stands."""

from __future__ import annotations

import enum
import pathlib
import shutil
import warnings
from collections.abc import Mapping
from typing import Any

from vaex import plots
from vaex.errors import UserError
from vaex.files import is_as_written, make_writable, read_json, write_json
from vaex.files.digests import DIGEST
from vaex.plots.records import FigureRecord
from vaex.results.compare import LOG_LIKELIHOODS
from vaex.runs.config_file import differences, identity, is_run, read_config, with_defaults
from vaex.runs.setup import Experiment, standardized_as_recorded
from vaex.training.checkpoint import DIGESTS

FOLDERS = ("checkpoints", "best", "samplers", "stages", "profile", "tensorboard", "wandb", "tables")
FILES = (LOG_LIKELIHOODS, "summary.json", "timings.jsonl", "metrics.jsonl", "config.json")  # as they are removed
OURS = (*FILES, *FOLDERS, "figures")
DRAWN = "drawn.json"  # names of the figures that vaex has drawn, beside them


class Standing(enum.IntEnum):
    """State of a run directory: finished, with all that the settings ask for; new; or begun."""

    FINISHED = 0
    NEW = 1
    BEGUN = 2


def claim(directory: pathlib.Path, experiment: Experiment, evaluation: Mapping[str, Any]) -> Standing:
    """Claim the run directory, and tell where it stands.

    Args:
      directory: of the run.
      experiment: that is to be run there.
      evaluation: which evaluation the settings ask for, as ``summary.json`` records it.
    Raises: UserError for a directory that cannot be written, holds something else or another configuration, or is trained
      beyond the settings' steps.
    """
    has_run = _claim_files(directory, experiment)
    summary = finished_summary(directory / "summary.json")
    if summary is not None and summary["steps"] > experiment.steps:
        raise UserError(
            f"{directory} is trained to step {summary['steps']} already, beyond --steps={experiment.steps}; give at "
            "least that many steps, another --out, or --overwrite to start again"
        )
    if summary is None or experiment.settings.run.profile or not is_trained(summary, experiment):
        return Standing.BEGUN if has_run else Standing.NEW
    if covers(summary["evaluation"], evaluation):
        return Standing.FINISHED
    return Standing.BEGUN if has_run else Standing.NEW


def _claim_files(directory: pathlib.Path, experiment: Experiment) -> bool:
    """Return whether the directory holds a run of this configuration; it is cleared first where the settings say so."""
    path = directory / "config.json"
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
    old = read_config(path)
    recorded = with_defaults(standardized_as_recorded(old), experiment.settings)
    changed = differences(recorded, identity(experiment.settings))
    if old["data"]["data_hash"] != experiment.spec.data_hash:
        changed.append(f"data: {old['data']['data_hash']} -> {experiment.spec.data_hash}")
    elif old["data"].get("binarize") != experiment.spec.binarize:  # the default of earlier versions
        changed.append(f"binarize: {old['data'].get('binarize')} -> {experiment.spec.binarize}")
    if changed:
        raise UserError(
            f"--out={directory} holds a run of another configuration: {'; '.join(changed)}. Choose another --out, "
            "or start again with --overwrite"
        )
    return True


def finished_summary(path: pathlib.Path) -> dict[str, Any] | None:
    """The summary of a finished run, or None, also where it is damaged (it is then written anew), which may take a warning."""
    try:
        summary = read_json(path)
    except (OSError, ValueError):
        return None
    needed = {"steps": int, "evaluation": dict, "results": list, "members": list}
    complete = isinstance(summary, dict) and all(isinstance(summary.get(name), kind) for name, kind in needed.items())
    if not complete:
        return None
    if not is_as_written(summary):
        warnings.warn(f"{path}: holds other values than were written, and is left out", stacklevel=2)
        return None
    return {name: value for name, value in summary.items() if name != DIGEST}


def is_trained(summary: Mapping[str, Any], experiment: Experiment) -> bool:
    """Return True if every stage of a finished run has been trained as far as the experiment asks for."""
    return summary["steps"] == experiment.steps and summary.get("stage_steps", {}) == experiment.later_steps


def covers(done: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Return True if an evaluation that was done holds all of one that is asked for; figures that are there need not be asked for.

    Example:
      >>> covers({"split": "test", "figures": "mean"}, {"split": "test", "figures": None})
      True
    """
    return all(done.get(name) == value for name, value in asked.items() if name != "figures" or value is not None)


def save_figure(directory: pathlib.Path, name: str, figure: FigureRecord) -> None:
    """Draw a figure into a run's figures, as ``name``, and note that it is ours."""
    folder = directory / "figures"
    plots.save(figure, folder / name)
    write_json(folder / DRAWN, sorted({*_drawn(folder), name}))


def _drawn(folder: pathlib.Path) -> list[str]:
    """Return the names of the figures that vaex has drawn; [] where none are noted."""
    try:
        names = read_json(folder / DRAWN)
    except (OSError, ValueError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def clear(directory: pathlib.Path) -> None:
    """Remove what a run has written, and nothing else; config.json last, so a half-cleared run is still known as one.

    Raises: UserError where the directory's config.json is not a run's.
    """
    path = directory / "config.json"
    try:
        ours = is_run(read_json(path))
    except (OSError, ValueError):  # damaged: a run's, where its checkpoints are ours and nothing else lies beside them
        ours = (directory / "checkpoints" / DIGESTS).is_file() and all(
            entry.name in OURS or entry.name.startswith(".") for entry in directory.iterdir()
        )
    if not ours:
        raise UserError(f"--out={directory}: its config.json is not that of a run; choose another directory")
    _clear_figures(directory / "figures")
    for name in FOLDERS:
        if (directory / name).is_dir() and not (directory / name).is_symlink():
            shutil.rmtree(directory / name)
    for name in (*FOLDERS, *FILES):
        (directory / name).unlink(missing_ok=True)


def _clear_figures(folder: pathlib.Path) -> None:
    """Remove the figures that vaex has drawn, and folders that this leaves empty; links are neither followed nor removed."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for name in _drawn(folder):
        place = folder / name
        inside = place.resolve().is_relative_to(folder.resolve())
        if inside and place.suffix == ".png" and not place.is_symlink():
            place.unlink(missing_ok=True)
            _remove_empty(place.parent)
    (folder / DRAWN).unlink(missing_ok=True)
    _remove_empty(folder)


def _remove_empty(folder: pathlib.Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()
