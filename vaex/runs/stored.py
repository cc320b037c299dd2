"""Train states of a run as its store holds them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vaex.configuration.settings import Settings
from vaex.core import Batch, PyTree, Recipe, TrainState, Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.conditions import example_labels
from vaex.ops.widths import in_single_width
from vaex.runs import setup
from vaex.runs.store import CheckpointStore, Store
from vaex.training import loop, population
from vaex.training.step import averaged_variables


def example_batch(settings: Settings, spec: Spec) -> Batch:
    """Return zeros in the shape of a batch of model inputs."""
    rows = settings.run.batch_size or 1
    labels = {name: jnp.asarray(column) for name, column in example_labels(spec, rows).items()}
    return {"x": jnp.zeros((rows, *spec.shape), jnp.float32), **labels}


def state_shapes(settings: Settings, recipe: Recipe, spec: Spec) -> list[TrainState]:
    """Return shapes and dtypes of the stacked train states of each stage; nothing is compiled."""
    batch, seeds = example_batch(settings, spec), [member.seed for member in settings.members]

    def first(hparams: PyTree) -> list[TrainState]:
        finished: dict[str, Variables] = {}
        states = []
        for index, stage in enumerate(recipe.stages):
            state = population.init(
                stage.algorithm, seeds, hparams, batch, stage=index, carry_over=stage.carry_over, finished=finished
            )
            finished[stage.name] = averaged_variables(state)
            states.append(state)
        return states

    return jax.eval_shape(first, setup.stack_hparams(settings))


def refuse_untrained(store: Store, checkpoints: CheckpointStore) -> None:
    """Raise UserError where all checkpoints but that of step 0 are damaged."""
    if checkpoints.latest() == 0 and checkpoints.damaged:
        raise UserError(
            f"{store}: the checkpoint of step {checkpoints.damaged[-1]} is damaged, and that of step 0 is untrained; train the "
            "run again with --overwrite"
        )


@in_single_width
def stored_state(store: Store, settings: Settings, recipe: Recipe, spec: Spec, step: int | None = None) -> TrainState:
    """Return the train states of all members in the last stage from their checkpoint: the newest, or that of a step."""
    state, last = state_shapes(settings, recipe, spec)[-1], len(recipe.stages) - 1
    batch = example_batch(settings, spec)
    _, metrics = jax.eval_shape(recipe.stages[last].algorithm.step, population.member_shapes(state), batch)
    window: Any = jax.ShapeDtypeStruct((len(settings.members), len(metrics)), jnp.float32)
    place = setup.stage_place(recipe, last)
    if step is None and store.read_config().get("keep") and recipe.stages[last].steps != 0:
        checkpoints, template = store.best(place), state
    else:
        checkpoints, template = store.checkpoints(place), loop.Carry(state, window)
    try:
        if step is None:
            refuse_untrained(store, checkpoints)
        restored = checkpoints.restore(template, step)
        return restored.state if isinstance(restored, loop.Carry) else restored
    finally:
        checkpoints.close()
