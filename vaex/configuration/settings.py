"""Checked settings: a model with its options, the members of its population, and the options of run, data and evaluation."""

from __future__ import annotations

import dataclasses
import itertools
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vaex.configuration.declare import Declaration, Field, fields
from vaex.configuration.grammar import check_seeds, hyperparameter_texts
from vaex.configuration.run_options import GROUPS, MOST_STEPS, DataOptions, EvaluationOptions, RunOptions
from vaex.errors import UserError

DEFAULTS = {"dataset": "digits", "steps": 4000, "batch_size": 128}


class Member(NamedTuple):
    """One member of a population: its seed and its hyperparameters, an instance of the model's ``HParams``."""

    seed: int
    hparams: Any


class Origin(NamedTuple):
    """The run from whose parameters another one began.

    Attributes:
      run: its directory, None for one in memory.
      step: number of steps that it had been trained.
      digest: of its variables.
      from_members: of which of its members each member has the parameters.
    """

    run: str | None
    step: int
    digest: str
    from_members: tuple[int, ...]


class Settings(NamedTuple):
    """All that a run is made of, checked.

    Attributes:
      model: the name by which the model was asked for.
      module: its module, with ``Config``, ``HParams`` and ``build``.
      run: options of the run; ``batch_size`` is None until the data is known, where none was given.
      data: options of the data.
      evaluation: options of the evaluation.
      config: the model's options.
      members: the grid of hyperparameters, seeds varying fastest.
      varied: names of the hyperparameters that differ between members.
      defaults: the model's own data set, steps and batch size.
      stage_steps: stage -> steps of the stages after the first, whose steps are ``run.steps``.
      origin: the run whose parameters it began with, once that is read.
    """

    model: str
    module: types.ModuleType
    run: RunOptions
    data: DataOptions
    evaluation: EvaluationOptions
    config: Any
    members: tuple[Member, ...]
    varied: tuple[str, ...]
    defaults: dict[str, Any]
    stage_steps: Mapping[str, int] = {}
    origin: Origin | None = None


def stage_fields(module: types.ModuleType) -> dict[str, Field]:
    """The options of the steps of a model's later stages: the entries ``<stage>_steps`` of its ``DEFAULTS``."""
    return {
        name: Field(name, int, steps, Declaration(_stage_doc(name), low=1, high=MOST_STEPS, unit="steps"))
        for name, steps in getattr(module, "DEFAULTS", {}).items()
        if name.endswith("_steps")
    }


def _stage_doc(name: str) -> str:
    return f"How many steps to train the stage {name.removesuffix('_steps')}, after the stages before it."


def check_module(module: types.ModuleType) -> None:
    """Raise UserError where a model's ``Config`` or ``HParams`` is no dataclass, or a name has two meanings."""
    for part, decorator in (("Config", "options"), ("HParams", "hyperparameters")):
        if not dataclasses.is_dataclass(getattr(module, part)):
            raise UserError(
                f"{module.__name__}: {part} is not a dataclass; write @{decorator} (vaex.configuration) above it"
            )
    taken = {name for _, group in GROUPS for name in fields(group)} | {"help", *stage_fields(module)}
    for name in (*fields(module.Config), *fields(module.HParams)):
        if name in taken or name.removeprefix("no_") in taken:
            raise UserError(
                f"{module.__name__}: the field {name!r} is already a flag, of every model or of this one; give it another name"
            )
        taken.add(name)


def settings(
    model: str,
    module: types.ModuleType,
    *,
    run: RunOptions | None = None,
    data: DataOptions | None = None,
    evaluation: EvaluationOptions | None = None,
    config: object = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    stage_steps: Mapping[str, int] | None = None,
) -> Settings:
    """Settings from values: the grid is expanded into members, and the model's own defaults are filled in.

    Args:
      model: the name by which ``module`` was asked for.
      module: the model.
      run: options of the run, and so on; by default all have their defaults.
      data: options of the data.
      evaluation: options of the evaluation.
      config: an instance of ``module.Config``.
      grid: hyperparameter -> its values, numbers or schedules; what is absent has its default.
      stage_steps: stage -> steps of the stages after the first.
    Raises: UserError for a field that does not exist, a value out of range, or options that contradict each other.
    """
    check_module(module)
    run, data, grid = run or RunOptions(), data or DataOptions(), dict(grid or {})
    defaults = DEFAULTS | getattr(module, "DEFAULTS", {})
    if run.steps is not None and run.epochs is not None:
        raise UserError("--steps and --epochs say the same thing twice; give one of them")
    if run.epochs is not None and not run.epochs > 0:
        raise UserError(f"--epochs={run.epochs:g}: expected more than 0")
    steps = run.steps if run.epochs is not None or run.steps is not None else defaults["steps"]
    run = dataclasses.replace(run, model=model, steps=steps)
    data = dataclasses.replace(data, dataset=data.dataset or defaults["dataset"])
    check_seeds(run.seeds, ",".join(map(str, run.seeds)))
    names = [name for name in fields(module.HParams) if name in grid]
    if unknown := sorted(set(grid) - set(names)):
        raise UserError(
            f"{model}: no hyperparameter is called {unknown[0]!r}; it has {', '.join(fields(module.HParams))}"
        )
    combinations = itertools.product(*(grid[name] for name in names))
    choices = [module.HParams(**dict(zip(names, values, strict=True))) for values in combinations]
    members = tuple(Member(seed, hparams) for hparams in choices for seed in run.seeds)
    later = {name.removesuffix("_steps"): field.default for name, field in stage_fields(module).items()}
    return Settings(
        model,
        module,
        run,
        data,
        evaluation or EvaluationOptions(),
        module.Config() if config is None else config,
        members,
        varied(members),
        defaults,
        later | dict(stage_steps or {}),
    )


def varied(members: Sequence[Member]) -> tuple[str, ...]:
    """Names of the hyperparameters that differ between members, in the order of their class."""
    texts = [hyperparameter_texts(member.hparams) for member in members]
    return tuple(name for name in texts[0] if len({text[name] for text in texts}) > 1)


def describe_member(chosen: Settings, member: Member) -> str:
    """A member's name: the hyperparameters that vary, and its seed; also the name of its folder of figures."""
    texts = hyperparameter_texts(member.hparams)
    plain = str.maketrans(":/", "--")
    return "_".join([*(f"{name}={texts[name].translate(plain)}" for name in chosen.varied), f"seed={member.seed}"])


def replace_run(chosen: Settings, **changes: Any) -> Settings:
    """Settings with other options of the run."""
    return chosen._replace(run=dataclasses.replace(chosen.run, **changes))
