"""The memory of a training step, estimated and said before anything is compiled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import jax

from vaex.core import Batch, PyTree, Stage, TrainState, Variables
from vaex.data.loader import streaming
from vaex.runs.setup import Experiment
from vaex.runs.stored import example_batch, state_shapes
from vaex.runs.train import strategy_for
from vaex.schedules import resolve
from vaex.training import population, sharding

WORTH_A_LOOK = 0.05  # of the free memory: below it nothing is traced
VALUE_BYTES = 1000  # for each value of a batch: more than the networks of the registry keep
CODE_BYTES = 8  # for each logit, and for its gradient
ROOM = 0.9  # of the free memory: what remedies may take


class Estimate(NamedTuple):
    """Bytes that a training step takes on one device, on CPU in one process.

    Attributes:
      state: of train states of all members, and of one gradient of each; with FSDP of a part of the former, and of parameters.
      activations: kept from the forward to the backward pass of the examples that are computed at a time.
      rows: examples of a batch that are computed at a time.
      divisible: whether a batch may be computed in parts, ``--accumulate``.
    """

    state: float
    activations: float
    rows: int
    divisible: bool = True

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.state + self.activations


def line(experiment: Experiment) -> tuple[str, bool]:
    """Return what is said of the memory before training, "" where a batch is small, and whether it is a warning.

    Args:
      experiment: assembled; nothing of it is compiled.
    """
    free = streaming.free_memory()
    if not math.isfinite(free) or _bytes_at_most(experiment) <= WORTH_A_LOOK * free:
        return "", False
    estimate = estimated(experiment)
    text = (
        f"memory: a step takes about {estimate.total / 1e9:.3g} GB, {estimate.activations / 1e9:.3g} GB of them activations of "
        f"{estimate.rows} examples; {free / 1e9:.3g} GB are free"
    )
    return (text, False) if estimate.total <= free else (f"{text}; {_remedy(experiment, estimate, free)}", True)


def estimated(experiment: Experiment) -> Estimate:
    """Estimate the memory of a step of the stage that takes most; objectives are traced, and nothing is compiled.

    Counted are arrays that the backward pass reads, as automatic differentiation keeps them. XLA computes some again, and
    has buffers of its own beside them.
    """
    settings, recipe = experiment.settings, experiment.recipe
    rows = _rows(experiment)
    batch = {name: values[:rows] for name, values in example_batch(settings, experiment.spec).items()}
    estimates, divisible = [], True
    for stage, state, steps in zip(
        recipe.stages, state_shapes(settings, recipe, experiment.spec), experiment.stage_steps, strict=True
    ):
        if steps and state.variables.params:
            activations, divides = activations_of(stage, state, batch)
            activations, divisible = (
                activations * _at_once(experiment, state) / sharding.memories(),
                divisible and divides,
            )
            estimates.append(Estimate(_state_bytes(experiment, state), activations, rows))
    most = max(estimates, key=lambda estimate: estimate.total, default=Estimate(0.0, 0.0, rows))
    return most._replace(divisible=divisible)  # in all stages or in none


def activations_of(stage: Stage, state: TrainState, batch: Batch) -> tuple[float, bool]:
    """Return the bytes that the backward pass of one member reads beside variables and batch, and whether a batch divides.

    Args:
      stage: gives the objective.
      state: stacked train states, or their shapes and dtypes.
      batch: arrays [b, ...], or their shapes and dtypes.
    """
    divisible = not stage.model.compares_examples and stage.algorithm.vary is not None

    def kept(state: TrainState, batch: Batch) -> PyTree:
        hparams, key = resolve(state.hparams, state.step), jax.random.fold_in(state.key, state.step)
        before = jax.tree.leaves(state.variables.state)

        def losses(params: dict[str, PyTree]) -> dict[str, jax.Array]:
            nonlocal divisible
            variables = Variables(params, state.variables.state)
            outcome = stage.model.objective(key, variables, hparams, batch, train=True)
            divisible &= all(new is old for new, old in zip(jax.tree.leaves(outcome.state), before, strict=True))
            return outcome.losses

        return jax.vjp(losses, state.variables.params)[1]

    jaxpr = jax.make_jaxpr(kept)(population.member_shapes(state), batch).jaxpr
    given = {id(variable) for variable in (*jaxpr.invars, *jaxpr.constvars)}
    return _bytes({id(leaf): leaf.aval for leaf in jaxpr.outvars if id(leaf) not in given}.values()), divisible


def _bytes(arrays: Iterable) -> float:
    return float(sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays))


def _state_bytes(experiment: Experiment, state: TrainState) -> float:
    """Return the bytes of train states, of gradients, and with FSDP of the gathered parameters."""
    held, params = (_bytes(jax.tree.leaves(tree)) for tree in (state, state.variables.params))
    return held / sharding.memories() + 2 * params if experiment.settings.run.fsdp else held + params


def _rows(experiment: Experiment) -> int:
    """Return how many examples of a batch are computed at a time."""
    run = experiment.settings.run
    return max(1, (run.batch_size or 1) // run.accumulate)


def _at_once(experiment: Experiment, state: TrainState) -> int:
    """Return how many members have activations at a time."""
    members = len(experiment.settings.members)
    in_turn = strategy_for(experiment, state, None) == "members"
    return min(members, jax.device_count()) if in_turn else members


def _bytes_at_most(experiment: Experiment) -> float:
    """Return about the most that networks of the registry keep of a batch, and the logits of integer codes under their prior."""
    samples, members = getattr(experiment.settings.config, "num_samples", 1), len(experiment.settings.members)
    logits = sum(block.size * block.classes for block in experiment.recipe.latents if block.kind == "code")
    example = VALUE_BYTES * samples * math.prod(experiment.spec.shape) + CODE_BYTES * logits
    return example * members * _rows(experiment) / sharding.memories()


def _remedy(experiment: Experiment, estimate: Estimate, free: float) -> str:
    """Return what makes a step fit."""
    batch_size, room = experiment.settings.run.batch_size or 1, ROOM * free - estimate.state
    fitting = estimate.rows * room / estimate.activations if room > 0 else 0.0
    parts = next((n for n in range(1, batch_size + 1) if batch_size % n == 0 and batch_size / n <= fitting), None)
    if parts is None:
        return "smaller networks, vocabularies or examples (--image_size) take less"
    smaller = estimate._replace(activations=estimate.activations * batch_size / parts / estimate.rows)
    flag = f"--batch_size={batch_size // parts}"
    if estimate.divisible:
        flag = f"--accumulate={parts}, or {flag},"
    return f"{flag} takes about {smaller.total / 1e9:.3g} GB"
