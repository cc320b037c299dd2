"""Trained runs from their directories: ``run = vaex.load("runs/...")``."""

from __future__ import annotations

import operator
import os
import pathlib
from typing import Any, overload

from vaex.api.run import Run
from vaex.api.trained_model import TrainedModel
from vaex.configuration.settings import replace_run
from vaex.errors import UserError
from vaex.ops.widths import in_single_width
from vaex.runs import setup
from vaex.runs.config_file import read_config, read_spec, restore_settings
from vaex.runs.directory import finished_summary
from vaex.runs.stage_loop import recorded_divergences
from vaex.runs.store import DirectoryStore
from vaex.runs.stored import stored_state
from vaex.runs.train import MEASURED


@overload
def load(
    directory: str | os.PathLike[str],
    *,
    member: None = None,
    step: int | None = None,
    trust: bool = False,
    **own: Any,
) -> Run: ...


@overload
def load(
    directory: str | os.PathLike[str], *, member: int, step: int | None = None, trust: bool = False, **own: Any
) -> TrainedModel: ...


@in_single_width
def load(
    directory: str | os.PathLike[str],
    *,
    member: int | None = None,
    step: int | None = None,
    trust: bool = False,
    **own: Any,
) -> Run | TrainedModel:
    """Load a trained run from its newest checkpoint, with averaged parameters if it averages them.

    Args:
      directory: the run directory, as printed by training or given by ``out``.
      member: index of a member in the population, counted from 0 in the order of summary.json; by default the whole run.
      step: of the checkpoint to read, of those kept (``--keep``) of the last stage; by default the newest, or the best if kept.
      trust: whether to import the modules of your own networks, likelihoods or schedules that the run names, which executes their
        code. Otherwise they must have been imported before.
      **own: encoder, decoder, optimizer that the run was trained with, if they have no name by which they could be imported.
    Returns: the run, or one member of it.
    Raises: UserError if the directory holds no run, no such member or no checkpoint yet, or a run of another version.
    """
    folder = pathlib.Path(directory).expanduser()
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"load: {folder} holds no config.json; give the run directory that training printed")
    content = read_config(path)
    settings = restore_settings(setup.standardized_as_recorded(content), own, trust=trust)
    if member is not None and not 0 <= operator.index(member) < len(settings.members):
        raise UserError(f"load: member={member}, but {folder} has {len(settings.members)} member(s), counted from 0")
    try:
        spec = read_spec(content)
    except KeyError as error:
        raise UserError(f"load: {path} lacks data.{error.args[0]}; it was written by another version of vaex") from None
    if "binarization_noise" not in content["data"]:
        settings = setup.with_earlier_default(settings, spec)
    if content.get("validate_every"):  # earlier versions recorded only the metric
        kept = {name: content[name] for name in ("keep", "validate_every", "patience") if name in content}
        settings = replace_run(settings, **kept)
    recipe, store = setup.build_recipe(settings, spec), DirectoryStore(folder)
    for index, stage in enumerate(recipe.stages):
        if not (store.folder(setup.stage_place(recipe, index)) / "checkpoints").is_dir():
            which = f" of the stage {stage.name}" if len(recipe.stages) > 1 else ""
            raise UserError(f"load: {folder} holds no checkpoint{which} yet; train the run first")
    state = stored_state(store, settings, recipe, spec, step)
    summary = finished_summary(folder / "summary.json") if step is None else None
    diverged = recorded_divergences(content)
    run = Run(settings, spec, recipe, state, store, summary=summary, measured=_measured(summary), diverged=diverged)
    return run if member is None else run[member]


def _measured(summary: dict[str, Any] | None) -> dict[str, Any]:
    """Return how the run was trained, as far as its summary says."""
    return {name: summary[name] for name in MEASURED if summary is not None and name in summary}
