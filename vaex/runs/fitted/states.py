"""What a stage computes of the training examples before its first step, ``Stage.fit_state``, for each member."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import Batch, EachExample, EvaluationKey, FitState, InitKey, PyTree, TrainState
from vaex.runs.by_batch import evaluation_batch, over_batches
from vaex.runs.evaluate import model_columns
from vaex.runs.setup import Experiment
from vaex.schedules import resolve
from vaex.training import population


def each_example(experiment: Experiment, arrays: Mapping[str, np.ndarray], key: jax.Array) -> EachExample:
    """Return the application of a function to every example of ``arrays``, a batch at a time; ``key`` is for what is drawn."""
    batch = evaluation_batch(experiment.spec)
    inputs_key, draws_key = (
        jax.random.fold_in(key, purpose) for purpose in (EvaluationKey.INPUTS, EvaluationKey.AGGREGATE)
    )
    columns = model_columns(experiment, arrays, inputs_key, batch)

    def apply(function: Callable[[jax.Array, Batch], PyTree], /) -> PyTree:
        return over_batches(jax.jit(function), draws_key, columns, size=batch)

    return apply


def with_fitted_state(experiment: Experiment, stage: int, seeds: Sequence[int], state: TrainState) -> TrainState:
    """Return stacked first states with the variables' state that the stage computes of the training split, where it does.

    Each member is computed as if alone. All processes compute the same.

    Args:
      experiment: gives recipe and data.
      stage: counted from 0.
      seeds: of the members, whose randomness they root.
      state: stacked, as ``population.init`` makes it.
    Raises: AssertionError where the result has another structure, or other shapes or dtypes, than the state in its place.
    """
    fit = experiment.recipe.stages[stage].fit_state
    if fit is None:
        return state
    fitted = [
        _fitted(fit, experiment, stage, seed, population.member(state, index)) for index, seed in enumerate(seeds)
    ]
    stacked = jax.tree.map(jnp.asarray, population.stack(fitted))
    return state._replace(variables=state.variables._replace(state=stacked))


def _fitted(fit: FitState, experiment: Experiment, stage: int, seed: int, state: TrainState) -> PyTree:
    """Return the variables' state of one member."""
    init_key, _ = jax.random.split(population.stage_key(np.uint32(seed), stage))
    hparams = resolve(state.hparams, state.step)
    key = jax.random.fold_in(init_key, InitKey.FIT)
    examples = each_example(experiment, experiment.dataset.splits["train"], key)
    fitted = jax.tree.map(jnp.asarray, fit(key, state.variables, hparams, examples))
    chex.assert_trees_all_equal_shapes_and_dtypes(fitted, state.variables.state)
    return fitted
