"""Checked settings: a model with its options, the members of its population, and the options of the run, data and evaluation."""

from __future__ import annotations

import dataclasses
import itertools
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

from vaex.configuration.flags import DataFlags, EvaluationFlags, RunFlags, parse_seeds

DEFAULTS = {"dataset": "digits", "steps": 4000, "batch_size": 128}


class Member(NamedTuple):
    """One member of a population: its seed and the text of each hyperparameter."""

    seed: int
    hparams: dict[str, str]


class Settings(NamedTuple):
    """A checked command line. ``config`` is the model's static Config; ``members`` the grid, seeds varying fastest;
    ``varied`` the hyperparameters that differ in it; ``defaults`` the model's data set, steps and batch size.

    ``run.batch_size`` is None until the data is known, where no flag gave it. ``stage_steps``: stage -> steps of the stages
    after the first, whose steps are ``run.steps``.
    """

    model: str
    module: types.ModuleType
    run: RunFlags
    data: DataFlags
    evaluation: EvaluationFlags
    config: Any
    members: tuple[Member, ...]
    varied: tuple[str, ...]
    defaults: dict[str, Any]
    stage_steps: Mapping[str, int] = {}


def settings(
    model: str,
    module: types.ModuleType,
    run: RunFlags,
    data_flags: DataFlags,
    evaluation: EvaluationFlags,
    config: Any,
    grid: Mapping[str, tuple[str, ...]],
) -> Settings:
    """Settings from checked parts: the grid is expanded into members and the model's own defaults are filled in."""
    defaults = DEFAULTS | getattr(module, "DEFAULTS", {})
    steps = run.steps if run.epochs is not None or run.steps is not None else defaults["steps"]
    run = dataclasses.replace(run, model=model, steps=steps)
    data_flags = dataclasses.replace(data_flags, dataset=data_flags.dataset or defaults["dataset"])
    seeds = parse_seeds(run.seeds)
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    members = tuple(Member(seed, hparams) for hparams in combinations for seed in seeds)
    varied = tuple(name for name, texts in grid.items() if len(texts) > 1)
    switches = {
        "clip": any(text != "inf" for text in grid.get("clip_norm", ())),
        "skip": any(text != "inf" for text in grid.get("skip_norm", ())),
        "average": any(text != "0" for text in grid.get("average_decay", ())),
    }
    names = {field.name for field in dataclasses.fields(config)}
    config = dataclasses.replace(config, **{name: value for name, value in switches.items() if name in names})
    return Settings(model, module, run, data_flags, evaluation, config, members, varied, defaults)
