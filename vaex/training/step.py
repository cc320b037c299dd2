"""The step that trains every model: parameter groups, one reverse pass, the learning rate applied last."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import (
    Algorithm,
    Batch,
    Given,
    Metrics,
    Model,
    Outcome,
    PyTree,
    StepKey,
    TrainState,
    Variables,
)
from vaex.ops.threefry import fold_in, unrolled
from vaex.schedules import resolve
from vaex.training import accumulation, optimizers, parts, sharding
from vaex.training.hyperparameters import as_schedules
from vaex.training.optimizers import Optimizer, check_optimizer

NOTHING_GIVEN: Given = {}


class StepVariant(NamedTuple):
    """A variant of a step: gradients averaged over so many parts of a batch; variables that keep their values, by their names or
    what these begin with (``training.parts``)."""

    accumulate: int = 1
    frozen: tuple[str, ...] = ()


PLAIN = StepVariant()


class ParameterGroup(NamedTuple):
    """How one group of parameters is trained; each field by default as the model's other groups.

    Attributes:
      optimizer: a name or a function of the learning rate; None: the algorithm's.
      learning_rate: name of the hyperparameter that is its learning rate; None: ``<group>_learning_rate`` where the model has
        such a hyperparameter, else ``learning_rate``.
      period: steps from one update to the next.
    """

    optimizer: Optimizer | None = None
    learning_rate: str | None = None
    period: int = 1


def with_inputs(algorithm: Algorithm, prepare: Callable[[jax.Array, jax.Array], jax.Array]) -> Algorithm:
    """``algorithm`` on batches of stored values: "x" goes through ``prepare(key, x)`` first, to become model inputs.

    The key is the member's own, folded with the step in the upper half of the integers (the algorithm folds the lower half), so
    binarisation and dequantisation are part of its noise; one fold, since each is a kernel of a tiny step.
    """

    def inputs(key: jax.Array, step: jax.Array, batch: Batch) -> Batch:
        data_key = fold_in(key, step.astype(jnp.uint32) | jnp.uint32(1 << 31))
        return batch | {"x": prepare(unrolled(data_key), batch["x"])}

    def init(key: jax.Array, hparams: PyTree, batch: Batch, given: Given = NOTHING_GIVEN) -> TrainState:
        prepared = inputs(key, jnp.zeros((), jnp.int32), batch)
        return algorithm.init(key, hparams, prepared, given) if given else algorithm.init(key, hparams, prepared)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return algorithm.step(state, inputs(state.key, state.step, batch))

    return Algorithm(init, step)


def masked_mean(values: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Mean over the batch axis of a [b] metric under ``mask`` [b]; a scalar passes through.

    Raises: ValueError for more axes, or for a mask of another shape.
    Example:
      >>> masked_mean(jnp.array([1.0, 3.0, 50.0]), jnp.array([1.0, 1.0, 0.0]))
      Array(2., dtype=float32)
    """
    if values.ndim == 0:
        return values
    if values.ndim > 1 or (mask is not None and mask.shape != values.shape):
        expected = "[] or [b]" if mask is None else f"[] or {mask.shape} like the mask"
        raise ValueError(f"masked_mean: a metric has shape {values.shape}, expected {expected}; report it per example")
    if mask is None:
        return jnp.mean(values)
    return jnp.sum(jnp.where(mask > 0, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1.0)


def gradient_algorithm(
    model: Model,
    *,
    optimizer: Optimizer = "adam",
    groups: Mapping[str, ParameterGroup] | None = None,
    variant: StepVariant = PLAIN,
) -> Algorithm:
    """Gradient descent of each parameter group on its own loss.

    Each group's parameters receive only the gradient of that group's loss: one ``jax.vjp`` of all losses, then a one-hot
    cotangent per group. Order of an update: clip by global norm, the optimizer's scaling, decayed weights, times
    -learning_rate.

    What is switched on by a hyperparameter follows from its value: where it is None (or absent), the step does without.

    - ``clip_norm``: largest global norm of each group's gradient.
    - ``average_decay``: an exponential average of the parameters is kept, of decay ``min(average_decay, (1+t)/(10+t))``.
    - ``skip_norm``: a step in which some group's gradient has a larger global norm, or one that is not finite, changes nothing
      but the step number (Child 2021, section 4); ``metrics["skipped"]`` is then 1.
    - ``weight_decay``: decoupled decay of weights, times the learning rate.

    Args:
      model: gives ``init`` and ``objective``; its hyperparameters hold at least ``learning_rate``.
      optimizer: a name of ``OPTIMIZERS``, or a function of the learning rate that returns an optax transformation.
      groups: parameter group -> what differs in it.
      variant: gradients that are accumulated over parts of the batch, and variables that are frozen: these receive no gradient,
        and neither optimizer, decay nor averaging moves them.
    Returns: an Algorithm. Where a loss (or, when clipping, a gradient) is not finite, its step says so by
      ``metrics["finite"]`` = 0 and the state it returns is spoiled: to keep the old one would copy every parameter at every step
      (a fifth of the memory traffic of an MLP's step), and the loop stops there and never saves it. With ``skip_norm`` no state
      is ever spoiled, and a loss that is not finite stays in the metrics.
    Raises: UserError for an optimizer that is neither a name nor a function; ValueError for a period that is not a whole number
      of at least one, and, once the model's groups are known, for a name that is none of them or a group without loss.
    """
    groups = dict(groups or {})
    check_optimizer(optimizer)
    for group in groups.values():
        _check_group(group)

    def optimizer_of(name: str) -> Optimizer:
        chosen = groups.get(name, ParameterGroup()).optimizer
        return optimizer if chosen is None else chosen

    if variant.accumulate > 1:
        accumulation.check(model)

    def init(key: jax.Array, hparams: PyTree, batch: Batch, given: Given = NOTHING_GIVEN) -> TrainState:
        init_key, train_key = jax.random.split(key)
        variables = strong(model.init(init_key, batch))
        variables = parts.replaced(variables, given) if given else variables
        return _first_state(train_key, as_schedules(hparams), variables, optimizer_of, groups)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        hparams = resolve(state.hparams, state.step)
        metrics, next_state, losses, gradients = _evaluated(model, state, hparams, batch, variant)
        finite = jnp.all(jnp.isfinite(jnp.stack(list(losses.values()))))
        params, opt_state, norms = _updated(state, hparams, gradients(), optimizer_of, groups)
        if norms:
            finite = finite & jnp.all(jnp.isfinite(jnp.stack(norms)))
        variables = Variables(params, strong(next_state))
        if variant.frozen:
            variables = parts.kept(state.variables, variables, variant.frozen)
        averaged = _averaged(state, variables.params, hparams) if _is_on(hparams, "average_decay") else ()
        kept: Any = variables, opt_state, averaged
        if _is_on(hparams, "skip_norm"):
            sound = finite & jnp.all(jnp.stack(norms) <= hparams.skip_norm)
            kept = _choose(sound, kept, (state.variables, state.opt_state, state.average))
            metrics["skipped"], finite = 1.0 - sound, jnp.ones_like(finite)
        metrics["finite"] = finite.astype(jnp.float32)
        return TrainState(state.step + 1, state.key, state.hparams, *kept), metrics

    def vary(accumulate: int, frozen: tuple[str, ...]) -> Algorithm:
        chosen = StepVariant(accumulate, frozen)
        return gradient_algorithm(model, optimizer=optimizer, groups=groups, variant=chosen)

    return Algorithm(init, step, vary)


def fixed_algorithm(model: Model) -> Algorithm:
    """Return the algorithm of a stage that trains nothing: a step reports the metrics of a batch, and counts.

    Args:
      model: gives ``init`` and ``objective``; it has no parameter groups, only state.
    """

    def init(key: jax.Array, hparams: PyTree, batch: Batch, given: Given = NOTHING_GIVEN) -> TrainState:
        init_key, train_key = jax.random.split(key)
        variables = parts.replaced(strong(model.init(init_key, batch)), given)
        return TrainState(jnp.zeros((), jnp.int32), train_key, as_schedules(hparams), variables, {})

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        hparams = resolve(state.hparams, state.step)
        key = unrolled(fold_in(state.key, state.step))
        outcome = model.objective(key, state.variables, hparams, batch, train=False)
        return state._replace(step=state.step + 1), _metrics(outcome, batch) | {"finite": jnp.ones(())}

    return Algorithm(init, step, lambda accumulate, frozen: Algorithm(init, step))  # nothing of it could vary


def _gradients(
    model: Model,
    key: jax.Array,
    state: TrainState,
    hparams: PyTree,
    batch: Batch,
    frozen: tuple[str, ...],
    *,
    in_parts: bool = False,
) -> tuple[Outcome, dict[str, jax.Array], Any]:
    """The outcome of the objective, its losses, and a generator of (group, the gradient of the group's own loss)."""

    def losses_of(params: dict[str, PyTree]) -> tuple[dict[str, jax.Array], Outcome]:
        params = sharding.gathered(parts.without_gradient(params, frozen) if frozen else params)
        outcome = model.objective(key, Variables(params, state.variables.state), hparams, batch, train=True)
        _check_outcome(outcome, params, state)
        if in_parts:
            accumulation.check_state(outcome.state, state.variables.state)
        return outcome.losses, outcome

    losses, pullback, outcome = jax.vjp(losses_of, state.variables.params, has_aux=True)

    def gradients():
        for name in state.variables.params:
            cotangent = {other: jnp.asarray(other == name, loss.dtype) for other, loss in losses.items()}
            yield name, pullback(cotangent)[0][name]

    return outcome, losses, gradients


def _evaluated(
    model: Model, state: TrainState, hparams: PyTree, batch: Batch, variant: StepVariant
) -> tuple[Metrics, PyTree, dict[str, jax.Array], Any]:
    """Metrics, the next state of the variables, losses, and a generator of gradients by group.

    Where gradients are accumulated, all but the state, which then stays, are means over parts of the batch.
    """
    key = unrolled(fold_in(state.key, state.step))  # once, for all that the objective draws
    if variant.accumulate == 1:
        outcome, losses, gradients = _gradients(model, key, state, hparams, batch, variant.frozen)
        return _metrics(outcome, batch), outcome.state, losses, gradients
    key = fold_in(key, StepKey.PARTS)

    def of_part(index: jax.Array, rows: Batch) -> tuple[Metrics, dict[str, jax.Array], dict[str, PyTree]]:
        outcome, losses, gradients = _gradients(
            model, fold_in(key, index), state, hparams, rows, variant.frozen, in_parts=True
        )
        return _metrics(outcome, rows), losses, dict(gradients())

    metrics, losses, gradients = accumulation.mean_over_parts(of_part, batch, variant.accumulate)
    return metrics, state.variables.state, losses, lambda: iter(gradients.items())


def _first_state(
    key: jax.Array,
    hparams: PyTree,
    variables: Variables,
    optimizer_of: Callable[[str], Optimizer],
    groups: Mapping[str, ParameterGroup],
) -> TrainState:
    _check_names(groups, variables.params, "groups", complete=False)
    first = resolve(hparams, 0)
    opt_state = {
        name: optimizers.init(optimizer_of(name), params, _learning_rate(first, name, groups))
        for name, params in variables.params.items()
    }
    averaged = jax.tree.map(jnp.copy, variables.params) if _is_on(hparams, "average_decay") else ()
    return TrainState(jnp.zeros((), jnp.int32), key, hparams, variables, opt_state, averaged)


def _updated(
    state: TrainState,
    hparams: PyTree,
    gradients: Iterable[tuple[str, PyTree]],
    optimizer_of: Callable[[str], Optimizer],
    groups: Mapping[str, ParameterGroup],
) -> tuple[dict[str, PyTree], dict[str, PyTree], list[jax.Array]]:
    """Parameters and optimizer state of each group after its update, and the norms of gradients where these are asked for."""
    clips, skips = _is_on(hparams, "clip_norm"), _is_on(hparams, "skip_norm")
    params, opt_state, norms = {}, {}, []
    for name, gradient in gradients:
        old = state.variables.params[name], state.opt_state[name]
        if clips or skips:
            norms.append(_norm(gradient))
        if clips:
            gradient = _clipped(gradient, norms[-1], hparams.clip_norm)
        rate, decay = _learning_rate(hparams, name, groups), getattr(hparams, "weight_decay", 0.0)
        new = optimizers.update(optimizer_of(name), gradient, old[1], old[0], learning_rate=rate, decay=decay)
        period = groups.get(name, ParameterGroup()).period
        params[name], opt_state[name] = new if period == 1 else _choose(state.step % period == 0, new, old)
    return params, opt_state, norms


def _is_on(hparams: PyTree, name: str) -> bool:
    """Return True for a hyperparameter that is given, which is static: None is no leaf of a tree."""
    return getattr(hparams, name, None) is not None


def _learning_rate(hparams: PyTree, name: str, groups: Mapping[str, ParameterGroup]) -> jax.Array:
    chosen = groups.get(name, ParameterGroup()).learning_rate
    if chosen is not None:
        if not hasattr(hparams, chosen):
            raise ValueError(
                f"gradient_algorithm: no hyperparameter is called {chosen!r}, which is to be the learning rate of {name}"
            )
        return getattr(hparams, chosen)
    return getattr(hparams, f"{name}_learning_rate", hparams.learning_rate)


def _check_group(group: ParameterGroup) -> None:
    if group.optimizer is not None:
        check_optimizer(group.optimizer)
    if not isinstance(group.period, int | np.integer) or group.period < 1:
        raise ValueError(
            f"gradient_algorithm: the period is {group.period}, expected a whole number of at least one step"
        )


def _check_names(given: Collection[str], known: Collection[str], what: str, *, complete: bool) -> None:
    unknown = sorted(set(given) - set(known))
    missing = sorted(set(known) - set(given)) if complete else []
    if unknown or missing:
        problem = f"name {', '.join(unknown)}" if unknown else f"lack {', '.join(missing)}"
        raise ValueError(
            f"gradient_algorithm: {what} {problem}; the model's parameter groups are {', '.join(sorted(known))}"
        )


def _check_outcome(outcome: Outcome, params: dict[str, PyTree], state: TrainState) -> None:
    """Raise where an objective's losses are not one scalar per group, or its state changes shape or dtype."""
    import chex

    _check_names(outcome.losses, params, "the objective's losses", complete=True)
    chex.assert_trees_all_equal_shapes_and_dtypes(outcome.state, state.variables.state)
    chex.assert_rank(list(outcome.losses.values()), 0)


def _metrics(outcome: Outcome, batch: Batch) -> Metrics:
    """Scalars: the outcome's metrics, averaged under the mask, and each group's loss."""
    names = {group: f"{group}_loss" if len(outcome.losses) > 1 else "loss" for group in outcome.losses}
    metrics = {name: masked_mean(jnp.asarray(m), batch.get("mask")) for name, m in outcome.metrics.items()}
    return metrics | {names[group]: loss for group, loss in outcome.losses.items()}


def strong(tree: PyTree) -> PyTree:
    """Arrays without jax's weak types (those of ``jnp.full(n, 0.5)``), which one step would lose, so the next would retrace."""
    return jax.tree.map(
        lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype) if getattr(leaf, "weak_type", False) else leaf, tree
    )


def _choose(condition: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _norm(gradient: PyTree) -> jax.Array:
    """Global norm."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(jnp.float32))) for g in jax.tree.leaves(gradient)))


def _clipped(gradient: PyTree, norm: jax.Array, most: jax.Array) -> PyTree:
    scale = jnp.minimum(1.0, most / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient)


def _averaged(state: TrainState, params: PyTree, hparams: PyTree) -> PyTree:
    count = state.step.astype(jnp.float32)
    decay = jnp.minimum(hparams.average_decay, (1.0 + count) / (10.0 + count))
    return jax.tree.map(
        lambda mean, new: (mean + (1.0 - decay) * (new - mean)).astype(mean.dtype), state.average, params
    )


def averaged_variables(state: TrainState) -> Variables:
    """The variables that evaluation, figures, loading and later stages use: the averaged parameters when there are any."""
    return state.variables if isinstance(state.average, tuple) else state.variables._replace(params=state.average)
