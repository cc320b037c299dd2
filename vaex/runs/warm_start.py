"""Runs that begin with the parameters of another one, with parts frozen, or with batches in parts."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from vaex.configuration.settings import Origin, Settings
from vaex.core import PyTree, Stage, TrainState
from vaex.errors import UserError
from vaex.runs.config_file import is_run, origin_of
from vaex.runs.config_file import read_config as read_config_file
from vaex.runs.setup import Experiment
from vaex.runs.store import CONFIG, DirectoryStore, Store
from vaex.runs.stored import example_batch, refuse_untrained, state_shapes
from vaex.training import parts, population
from vaex.training.step import StepVariant

T = TypeVar("T")
SHOWN = 3  # differing entries that an error names


class Source(NamedTuple):
    """What a run begins with: the newest variables of another run, averaged ones where it averages.

    Attributes:
      title: what messages call it.
      run: its directory, None for one in memory.
      step: of its first stage.
      stages: place of a stage in the store -> name -> arrays [members, ...].
      members: number of its members.
      member: the one that was asked for, None for all.
    """

    title: str
    run: str | None
    step: int
    stages: Mapping[str, Mapping[str, np.ndarray]]
    members: int
    member: int | None = None

    def digest(self) -> str:
        """Return eight hexadecimal digits that stand for all its variables."""
        total = hashlib.sha256()
        for place, arrays in sorted(self.stages.items()):
            for name in sorted(arrays):
                values = np.asarray(arrays[name])
                total.update(f"{place}:{name}:{values.shape}:{values.dtype}".encode())
                total.update(np.ascontiguousarray(values).tobytes())
        return total.hexdigest()[:8]


def source_in(store: Store, places: Sequence[str], title: str, member: int | None = None) -> Source:
    """Read what a store holds of the stages at these places.

    Raises: UserError where it holds no checkpoint, or has no such member.
    """
    best = bool(store.read_config().get("keep"))
    stages: dict[str, dict[str, np.ndarray]] = {}
    steps, members = 0, 1
    for place in places:
        kept = store.best(place) if best else None
        checkpoints = store.checkpoints(place) if kept is None or kept.latest() is None else kept
        try:
            refuse_untrained(store, checkpoints)
            arrays, reached = _variables(checkpoints.read())
        finally:
            checkpoints.close()
        stages[place], members = arrays, len(reached)
        steps = int(reached.max()) if place == "" else steps
    if member is not None and not 0 <= member < members:
        raise UserError(f"--init_from={title}:{member}: the run has {members} member(s), counted from 0")
    directory = None if store.directory is None else str(store.directory.resolve())
    return Source(title, directory, steps, stages, members, member)


def _variables(tree: PyTree) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Name -> array of the variables in a stored train state, and the members' steps; averaged parameters where there are any."""
    arrays = parts.names(tree)
    prefix = "state/" if any(name.startswith("state/variables/") for name in arrays) else ""
    average = f"{prefix}average/"
    params = average if any(name.startswith(average) for name in arrays) else f"{prefix}variables/params/"
    state = f"{prefix}variables/state"
    taken = {name.removeprefix(params): values for name, values in arrays.items() if name.startswith(params)}
    taken |= {
        "state" + name.removeprefix(state): values
        for name, values in arrays.items()
        if name == state or name.startswith(f"{state}/")
    }
    return {name: np.asarray(values) for name, values in taken.items()}, np.asarray(arrays[f"{prefix}step"])


def read_source(text: str) -> Source:
    """Read the run that ``RUN`` or ``RUN:MEMBER`` names.

    Raises: UserError where there is none.
    """
    name, colon, number = text.rpartition(":")
    member = int(number) if colon and number.isdigit() and not pathlib.Path(text).expanduser().exists() else None
    folder = pathlib.Path(text if member is None else name).expanduser()
    if not (folder / CONFIG).is_file() or not is_run(read_config_file(folder / CONFIG)):
        raise UserError(f"--init_from={text}: {folder} holds no run; give the directory that training printed")
    later = sorted(entry.name for entry in (folder / "stages").glob("*") if (entry / "checkpoints").is_dir())
    return source_in(DirectoryStore(folder), ["", *later], str(folder), member)


def locate(settings: Settings, store: Store | None, source: Source | None) -> tuple[Settings, Source | None]:
    """Read the run that another one begins from, and record it in the settings.

    A run that continues does not need its source again: where that is gone, what config.json says of it stays.

    Args:
      settings: checked.
      store: of the run, None where it is the run directory of the settings.
      source: the run to begin from where it is at hand.
    Raises: UserError for a source that is not there, or that is the run's own directory.
    """
    text = settings.run.init_from
    if source is None and text is not None:
        out = settings.run.out if store is None else store.directory
        directory = None if out is None else pathlib.Path(out).expanduser()
        folder = pathlib.Path(text).expanduser()
        recorded = {} if directory is None else DirectoryStore(directory).read_config().get("identity", {})
        origin = None if settings.run.overwrite else origin_of(recorded)
        if origin is not None and not folder.exists() and str(folder.resolve()) == origin.run:
            return settings._replace(origin=origin), None
        source = read_source(text)
        if directory is not None and str(directory.resolve()) == source.run:
            raise UserError(f"--init_from={text}: is the run's own directory; choose another --out")
    if source is None:
        if settings.run.init_only and settings.origin is None:
            raise UserError(
                f"--init_only={','.join(settings.run.init_only)} needs --init_from=RUN, which says from where"
            )
        return settings, None
    count = len(settings.members)
    chosen = tuple(range(count)) if source.member is None and source.members == count else (source.member or 0,) * count
    return settings._replace(origin=Origin(source.run, source.step, source.digest(), chosen)), source


def begin(experiment: Experiment, source: Source | None) -> Experiment:
    """Return the experiment with its first variables and the variants of its steps; nothing is compiled.

    Raises: UserError for variables that do not agree with the model's, parts that it does not have, or a model without variants.
    """
    settings, run = experiment.settings, experiment.settings.run
    variant = StepVariant(run.accumulate, run.freeze)
    if source is None and variant == StepVariant():
        return experiment
    if (run.batch_size or 0) % run.accumulate:
        raise UserError(
            f"--accumulate={run.accumulate}: does not divide --batch_size={run.batch_size}; choose a divisor"
        )
    stages = tuple(_varied(stage, variant) for stage in experiment.recipe.stages)
    experiment = experiment._replace(recipe=experiment.recipe._replace(stages=stages))
    shapes = state_shapes(settings, experiment.recipe, experiment.spec)
    targets = [parts.variable_names(state.variables) for state in shapes]
    _check_parts("freeze", variant.frozen, targets)
    if run.accumulate > 1:
        _trace_steps(experiment, shapes)
    return experiment if source is None else experiment._replace(given=_given(experiment, source, targets))


def _varied(stage: Stage, variant: StepVariant) -> Stage:
    if stage.algorithm.vary is None:
        raise UserError(
            f"--init_from, --freeze and --accumulate: the stage {stage.name} has an algorithm of its own that offers none of them; "
            "leave them out"
        )
    return stage._replace(algorithm=stage.algorithm.vary(*variant))


def _trace_steps(experiment: Experiment, shapes: Sequence[TrainState]) -> None:
    """Trace the step of each stage, where an objective that cannot be computed in parts is refused."""
    batch = example_batch(experiment.settings, experiment.spec)
    for stage, state in zip(experiment.recipe.stages, shapes, strict=True):
        jax.eval_shape(stage.algorithm.step, population.member_shapes(state), batch)


def _check_parts(flag: str, chosen: Sequence[str], targets: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError for a part that no stage has, or where nothing is left to train."""
    variables = [name for target in targets for name in target]
    for part in chosen:
        if not any(parts.is_part(name, (part,)) for name in variables):
            raise UserError(
                f"--{flag}={part}: the model has no such part; it has {', '.join(parts.part_names(variables))}"
            )
    trained = [name for name in variables if not name.startswith("state")]
    if flag == "freeze" and chosen and all(parts.is_part(name, chosen) for name in trained):
        raise UserError(f"--freeze={','.join(chosen)}: leaves nothing to train; freeze fewer parts")


def _given(
    experiment: Experiment, source: Source, targets: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, jax.Array]]:
    """Return what each stage begins with, stacked."""
    settings, only = experiment.settings, experiment.settings.run.init_only
    _check_parts("init_only", only, targets)
    assert settings.origin is not None  # ``locate`` has set it
    members = np.asarray(settings.origin.from_members)
    given: dict[str, dict[str, jax.Array]] = {}
    problems: list[str] = []
    for index, (stage, target) in enumerate(zip(experiment.recipe.stages, targets, strict=True)):
        stored = dict(source.stages.get(experiment.place(index), {}))
        if (
            stage.carry_over is not None or stage.fit_state is not None
        ):  # the state is made of this run's stages and data
            target, stored = (
                {name: variables[name] for name in variables if not name.startswith("state")}
                for variables in (target, stored)
            )
        if only:
            target, stored = _parts(target, only), _parts(stored, only)
        problems += _differences(target, stored)
        given[stage.name] = {name: jnp.asarray(stored[name][members]) for name in target if name in stored}
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(
            f"--init_from={source.title}: {'; '.join(problems[:SHOWN])}{more}. {_remedy(experiment, source, targets)}"
        )
    return given


def _parts(variables: Mapping[str, T], chosen: Sequence[str]) -> dict[str, T]:
    return {name: value for name, value in variables.items() if parts.is_part(name, chosen)}


def _differences(target: Mapping[str, Any], stored: Mapping[str, np.ndarray]) -> list[str]:
    """Say in which names, shapes and dtypes stored variables differ from those of a model."""
    problems = []
    for name in [*target, *(name for name in stored if name not in target)]:
        if name not in stored or name not in target:
            problems.append(f"the {'run' if name not in stored else 'model'} lacks {name}")
            continue
        want, have = target[name], stored[name]
        if want.shape[1:] != have.shape[1:] or want.dtype != have.dtype:
            problems.append(
                f"{name} has shape {_text(have.shape[1:], have.dtype)} there and {_text(want.shape[1:], want.dtype)} here"
            )
    return problems


def _text(shape: Sequence[int], dtype: object) -> str:
    return f"{tuple(shape)}" if dtype == np.float32 else f"{tuple(shape)} {dtype}"


def _remedy(experiment: Experiment, source: Source, targets: Sequence[Mapping[str, Any]]) -> str:
    """Name the parts that agree."""
    stored = [source.stages.get(experiment.place(index), {}) for index in range(len(targets))]
    agreeing = [
        part
        for part in parts.part_names([name for target in targets for name in target])
        if not any(
            _differences(_parts(target, (part,)), _parts(arrays, (part,)))
            for target, arrays in zip(targets, stored, strict=True)
        )
    ]
    if not agreeing:
        return "No part agrees; give the options with which that run was trained"
    return f"Give its options, or take what agrees by --init_only={','.join(agreeing)}"


def announcement(settings: Settings) -> str | None:
    """Return the line that says what a run begins with, None for one that begins at random."""
    origin = settings.origin
    if origin is None:
        return None
    taken = ", ".join(settings.run.init_only) or "all variables"
    members = dict.fromkeys(origin.from_members)
    of = f" of member {next(iter(members))}" if len(members) == 1 else " member by member"
    frozen = f", {', '.join(settings.run.freeze)} frozen" if settings.run.freeze else ""
    return f"begins with {taken}{of} from {origin.run or 'a run in memory'} at step {origin.step}{frozen}"
