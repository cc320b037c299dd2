"""An experiment trained from where its checkpoints stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex import data
from vaex.core import Algorithm, DataKey, Feed, Stage, TrainState, Variables
from vaex.data.loader.balanced import balanced_order
from vaex.data.loader.semi_supervised import choose_labelled, hide_labels, labelled_order
from vaex.data.spec import Spec
from vaex.data.storage.known_factors import FACTORS
from vaex.errors import UserError
from vaex.runs.config_file import config_content
from vaex.runs.fitted.states import with_fitted_state
from vaex.runs.setup import Experiment
from vaex.runs.stage_loop import Reporting, StageFit, recorded_divergences
from vaex.training import loop, multihost, population, sharding
from vaex.training.divergence import Divergence
from vaex.training.step import averaged_variables, with_inputs

MEASURED = (  # names of what may be measured while a run is trained
    "step_traces", "compile_seconds", "steps_per_second", "population_strategy", "devices_used", "best_steps", "stopped_at",
    "stages",
)  # fmt: skip


class Trained(NamedTuple):
    """A stacked train state; what was measured while it was trained, for the summary; and members that have diverged."""

    state: TrainState
    measured: dict[str, Any]
    diverged: tuple[Divergence, ...] = ()


def stage_algorithm(stage: Stage, spec: Spec, *, flip: bool = False, crop: int = 0) -> Algorithm:
    """The stage's algorithm on stored batches: values are prepared (flipped, moved, scaled, binarised) inside the step."""

    def prepare(key: jax.Array, x: jax.Array) -> jax.Array:
        if flip or crop:
            x = data.augment(jax.random.fold_in(key, DataKey.AUGMENTATION), x, flip=flip, crop=crop)
        return data.prepare(spec, key, x)

    return with_inputs(stage.algorithm, prepare)


def training_feed(experiment: Experiment) -> Feed:
    """The feed of the training split, on the device or streamed, with few labels where the flags say so."""
    flags, arrays = experiment.settings.data, experiment.dataset.splits["train"]
    batch_size, order = experiment.settings.run.batch_size or 0, None
    if experiment.dataset.source is not None:
        if flags.labels is not None or flags.balance:
            flag = "--balance" if flags.balance else f"--labels={flags.labels}"
            raise UserError(f"{flag}: {experiment.spec.name} has factors, not labels; leave the flag out")
        return experiment.dataset.source.feed(batch_size, flags.data_seed)
    if flags.labels is not None:
        classes = experiment.spec.num_classes if "y" in arrays else 0
        y = arrays.get("y", np.zeros(0, np.int32))
        kept = choose_labelled(y, flags.labels, classes, flags.data_seed)
        share = flags.labelled_per_batch or max(1, min(batch_size // 2, len(kept)))
        arrays, order = hide_labels(arrays, kept), labelled_order(kept, len(y), batch_size, share, flags.data_seed)
    elif flags.labelled_per_batch is not None:
        raise UserError(
            f"--labelled_per_batch={flags.labelled_per_batch} needs --labels; give it, or leave this flag out"
        )
    if flags.balance:
        if flags.labels is not None:
            raise UserError(
                f"--balance needs all labels, and --labels={flags.labels} hides most of them; leave one out"
            )
        if experiment.spec.conditions:
            raise UserError(f"--balance needs classes, and y of {experiment.spec.name} holds conditions; leave it out")
        order = balanced_order(arrays.get("y", np.zeros(0, np.int32)), batch_size, flags.data_seed)
    arrays = {name: column for name, column in arrays.items() if name != FACTORS}  # for evaluation alone
    return data.feed_for(flags.memory, arrays, batch_size, flags.data_seed, order=order)


def initial_state(
    experiment: Experiment, stage: int, finished: Mapping[str, Variables], before: TrainState | None = None
) -> tuple[Algorithm, TrainState]:
    """The algorithm of a stage and the members' first states.

    A stage without steps goes on counting from the states ``before``, of the last stage, and has their hyperparameters.
    """
    options, run, begun = experiment.settings.data, experiment.settings.run, experiment.recipe.stages[stage]
    stepper = stage_algorithm(begun, experiment.spec, flip=options.flip, crop=options.crop)
    arrays = experiment.dataset.splits["train"]
    example = {name: jnp.asarray(values[: run.batch_size]) for name, values in arrays.items()}
    seeds = [member.seed for member in experiment.settings.members]
    state = population.init(
        stepper,
        seeds,
        experiment.hparams,
        example,
        stage=stage,
        carry_over=begun.carry_over,
        finished=finished,
        given=experiment.given.get(begun.name),
    )
    if begun.steps == 0 and before is not None:
        state = state._replace(step=jnp.asarray(before.step))
    # what was fitted before is in the checkpoint
    if begun.fit_state is not None and experiment.store.latest_step(experiment.place(stage)) is None:
        state = with_fitted_state(experiment, stage, seeds, state)
    return stepper, state


def strategy_for(experiment: Experiment, state: TrainState, recorded: str | None) -> str:
    """The recorded strategy of a run that continues, else the flag's, else the measured rule's."""
    members = len(experiment.settings.members)
    asked = experiment.settings.run.population_strategy
    if recorded is not None:
        if asked not in ("auto", recorded) and members > 1:
            raise UserError(
                f"--population_strategy={asked}: this run began as {recorded}, and a change would change its "
                "numbers; leave the flag out"
            )
        return recorded
    if asked != "auto" and members > 1:
        return asked
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.variables.params)) // members
    return population.choose_strategy(members, size, jax.default_backend())


def train(experiment: Experiment, *, resumed: bool, reporting: Reporting) -> Trained:
    """Train each stage to its number of steps from its latest checkpoint, or from the start.

    Args:
      experiment: assembled, its directory claimed.
      resumed: whether the store holds a run of this configuration.
      reporting: who hears of it.
    Returns: the last stage's state, and what was measured; with several stages also that of each, by name.
    Raises: NonFiniteError where no member is left whose loss is finite; the last good checkpoint stays. UserError where a stage
      has gone beyond its steps, or would go on though a later one was trained on what it was.
    """
    feed, stages = training_feed(experiment), experiment.recipe.stages
    _check_order(experiment)
    recorded = experiment.store.read_config() if resumed else {}
    _check_keep(experiment, recorded)
    finished: dict[str, Variables] = {}
    of_stages: dict[str, dict[str, Any]] = {}
    trained, diverged = None, recorded_divergences(recorded)
    for index, stage in enumerate(stages):
        before = None if trained is None else trained.state
        trained = _train_stage(
            experiment, index, feed, finished, before, recorded, diverged, resumed=resumed, reporting=reporting
        )
        diverged = trained.diverged
        finished[stage.name] = averaged_variables(trained.state)
        of_stages[stage.name] = {"steps": experiment.stage_steps[index], **trained.measured}
        recorded, resumed = {"population_strategy": trained.measured["population_strategy"]}, True
    assert trained is not None  # a recipe has at least one stage
    if len(stages) == 1:
        return trained
    last = [stage.name for stage, steps in zip(stages, experiment.stage_steps, strict=True) if steps][-1]
    measured = {name: value for name, value in of_stages[last].items() if name != "steps"}
    return trained._replace(measured={**measured, "stages": of_stages})


def _check_keep(experiment: Experiment, recorded: Mapping[str, Any]) -> None:
    """Raise UserError where a run that has begun kept other states than the settings ask for."""
    metric = experiment.settings.run.best_metric
    keep = None if metric is None else f"best:{metric}"
    if recorded and recorded.get("keep") != keep:
        before = f"--keep={recorded['keep']}" if recorded.get("keep") else "no --keep"
        raise UserError(
            f"--keep: {experiment.store} began with {before}, so its best states are not those of {keep or 'the last step'}; go on "
            "as it began, choose another --out, or --overwrite to start again"
        )


def _check_order(experiment: Experiment) -> None:
    """Raise UserError where a stage would be trained on although a later one has begun, which saw it as it is now."""
    stages = experiment.recipe.stages
    store = experiment.store
    reached = [store.latest_step(experiment.place(index)) for index in range(len(stages))] if len(stages) > 1 else []
    for index, step in enumerate(reached):
        begun = [stages[later].name for later in range(index + 1, len(stages)) if reached[later] is not None]
        if begun and (step or 0) < experiment.stage_steps[index]:
            raise UserError(
                f"{store}: the stage {begun[0]} was trained on {stages[index].name} as it was at step {step}, so "
                f"that one can't go on to step {experiment.stage_steps[index]}; choose another --out, or --overwrite to "
                "start again"
            )


def _train_stage(
    experiment: Experiment,
    stage: int,
    feed: Feed,
    finished: Mapping[str, Variables],
    before: TrainState | None,
    recorded: Mapping[str, Any],
    diverged: Sequence[Divergence],
    *,
    resumed: bool,
    reporting: Reporting,
) -> Trained:
    """One stage from where its checkpoints stand; ``recorded``: what config.json says, where the run has begun."""
    run, store = experiment.settings.run, experiment.store
    if (
        experiment.settings.origin is not None
        and not experiment.given
        and store.latest_step(experiment.place(stage)) is None
    ):
        raise UserError(
            f"{store}: began with the parameters of {experiment.settings.origin.run or 'a run in memory'}, and holds no checkpoint "
            f"of {experiment.recipe.stages[stage].name} yet; give them again by --init_from (init_from= of vaex.train)"
        )
    stepper, state = initial_state(experiment, stage, finished, before)
    strategy = strategy_for(experiment, state, recorded.get("population_strategy"))
    members = len(experiment.settings.members)
    devices = run.devices or population.default_devices(members, fsdp=run.fsdp)
    placement = sharding.choose(members, run.batch_size or 0, devices, fsdp=run.fsdp)
    fit = StageFit(experiment, stage, state, reporting, diverged)
    if not resumed and multihost.is_first():
        store.write_config(config_content(experiment.settings, experiment.spec, strategy, experiment.data_path))
    program, carry = loop.compile_program(
        stepper, feed, state, log_every=run.log_every, strategy=strategy, placement=placement
    )
    del state  # what is divided need not fit into one device beside its part
    trained = fit.run(program, carry, resumed=resumed)
    measured = {
        "step_traces": program.step_traces,
        "compile_seconds": round(program.compile_seconds, 3),
        "steps_per_second": round((fit.step - fit.began) / fit.seconds, 2) if fit.seconds else None,
        "population_strategy": strategy,
        "devices_used": 1 if placement is None else placement.mesh.size,
    }
    if fit.best is not None:
        measured |= {"best_steps": fit.best.steps, "stopped_at": fit.step}
    return Trained(trained, measured, fit.diverged)
