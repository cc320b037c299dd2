"""The step that trains every model: players, one reverse pass, the learning rate applied last."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaex.core import Algorithm, Batch, Model, Outcome, PyTree, TrainState, Variables
from vaex.errors import UserError, nearest
from vaex.ops.threefry import fold_in
from vaex.schedules import Schedule, as_schedule, is_schedule, resolve

OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adam": optax.scale_by_adam,
    "adamax": optax.scale_by_adamax,
    "adabelief": optax.scale_by_belief,
    "amsgrad": optax.scale_by_amsgrad,
    "lion": optax.scale_by_lion,
    "momentum": lambda: optax.trace(decay=0.9),
    "nadam": lambda: optax.scale_by_adam(nesterov=True),
    "radam": optax.scale_by_radam,
    "rmsprop": optax.scale_by_rms,
    "sgd": optax.identity,
}
PROBES = 10  # updates after which an optimizer's direction shows, also where its learning rate is warmed up from zero


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HParams:
    """Hyperparameters that every model has; a model's own ``HParams`` inherits them. Each is a number or a schedule.

    They are traced: members of a population may differ in each, and a change recompiles nothing.

    Attributes:
      learning_rate: step size of the optimizer.
      weight_decay: decoupled decay of weight matrices and kernels (AdamW), times the learning rate; biases are left alone.
      clip_norm: largest global norm of each player's gradient; inf is off.
      average_decay: decay of the running average of the parameters that evaluation then uses; 0 is off.
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "learning_rate": (0.0, math.inf),
        "weight_decay": (0.0, math.inf),
        "clip_norm": (1e-12, math.inf),
        "average_decay": (0.0, 1.0),
    }

    learning_rate: Schedule | float = 1e-3
    weight_decay: Schedule | float = 0.0
    clip_norm: Schedule | float = float("inf")
    average_decay: Schedule | float = 0.0


def as_schedules(hparams: PyTree) -> PyTree:
    """Hyperparameters with every number or text turned into a Schedule, so that all members have one structure."""
    return jax.tree.map(as_schedule, hparams, is_leaf=lambda leaf: is_schedule(leaf) or isinstance(leaf, str))


def check_optimizer(name: str) -> None:
    """Raise UserError, naming the nearest ones, unless an optimizer has this name."""
    if name not in OPTIMIZERS:
        raise UserError(f"no optimizer is called {name!r}; {nearest(name, OPTIMIZERS)}")


def _transformation(optimizer: str | optax.GradientTransformation) -> optax.GradientTransformation:
    if isinstance(optimizer, str):
        check_optimizer(optimizer)
        return OPTIMIZERS[optimizer]()
    params, gradient = np.full((2, 2), 0.5, np.float32), np.array([[1, 2], [3, 5]], np.float32)
    with jax.ensure_compile_time_eval():  # the probe gives numbers, also where a caller is being traced
        state, along = optimizer.init(params), 0.0
        for _ in range(PROBES):
            update, state = optimizer.update(gradient, state, params)
            along = float(np.vdot(np.asarray(update), gradient))
            if along != 0.0:
                break
    if along < 0:
        raise ValueError(
            "gradient_algorithm: this optimizer brings its own learning rate (its update points downhill), which would be "
            "applied twice; pass the part without it, such as optax.scale_by_adam(), and set hparams.learning_rate"
        )
    return optimizer


def _check_players(given: Collection[str], players: Collection[str], what: str, *, complete: bool) -> None:
    unknown = sorted(set(given) - set(players))
    missing = sorted(set(players) - set(given)) if complete else []
    if unknown or missing:
        problem = f"names {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing)}"
        raise ValueError(f"gradient_algorithm: {what} {problem}; the model's players are {', '.join(sorted(players))}")


def prepared(algorithm: Algorithm, prepare: Callable[[jax.Array, jax.Array], jax.Array]) -> Algorithm:
    """``algorithm`` on batches whose "x" goes through ``prepare(key, x)`` first: from stored values to model inputs.

    The key is the member's own, folded with the step in the upper half of the integers (the algorithm folds the lower
    half), so binarisation and dequantisation are part of its noise; one fold, since each is a kernel of a tiny step.
    """

    def inputs(key: jax.Array, step: jax.Array, batch: Batch) -> Batch:
        data_key = fold_in(key, step.astype(jnp.uint32) | jnp.uint32(1 << 31))
        return batch | {"x": prepare(data_key, batch["x"])}

    def init(key: jax.Array, hparams: PyTree, batch: Batch) -> TrainState:
        return algorithm.init(key, hparams, inputs(key, jnp.zeros((), jnp.int32), batch))

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
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
        wanted = "[] or [b]" if mask is None else f"[] or {mask.shape} like the mask"
        raise ValueError(f"masked_mean: a metric has shape {values.shape}, expected {wanted}; report it per example")
    if mask is None:
        return jnp.mean(values)
    return jnp.sum(jnp.where(mask > 0, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1.0)


def gradient_algorithm(
    model: Model,
    *,
    optimizer: str | optax.GradientTransformation | Mapping[str, Any] = "adam",
    every: Mapping[str, int] | None = None,
    clip: bool = False,
    average: bool = False,
    skip: bool = False,
) -> Algorithm:
    """Gradient descent of each player on its own loss.

    Each player's parameters receive only the gradient of that player's loss: one ``jax.vjp`` of all losses, then a one-hot
    cotangent per player. Order of an update: clip by global norm, the optimizer's scaling, decayed weights, times
    -learning_rate (``<player>_learning_rate`` where the hyperparameters have it).

    Args:
      model: gives ``init`` and ``objective``; its hyperparameters hold at least ``learning_rate`` (and ``clip_norm`` or
        ``average_decay`` or ``skip_norm`` where these are on; ``weight_decay`` where it is wanted).
      optimizer: a name of ``OPTIMIZERS`` or an optax transformation without learning rate; or one per player.
      every: player -> period in steps of its updates (1 where absent).
      clip: whether to clip by ``hparams.clip_norm``. Static, because the norm costs a pass over the gradients.
      average: whether to keep an exponential average of the parameters, decay ``min(average_decay, (1+t)/(10+t))``.
      skip: whether a step in which some player's gradient has a larger global norm than ``hparams.skip_norm``, or one that is not
        finite, changes nothing but the step number (Child 2021, section 4); ``metrics["skipped"]`` is then 1. Static, because
        it copies every parameter.
    Returns: an Algorithm. Where a loss (or, when clipping, a gradient) is not finite, its step says so by
        ``metrics["finite"]`` = 0 and the state it returns is spoiled: to keep the old one would copy every parameter at
        every step (a fifth of the memory traffic of an MLP's step), and the loop stops there and never saves it. With ``skip``
        no state is ever spoiled, and a loss that is not finite stays in the metrics.
    Raises: ValueError for an optimizer that brings its own learning rate, a period that is not a whole number of at least
      one, and, once the model's players are known, for a name that is none of them or a player without optimizer or loss;
      UserError for an unknown optimizer.
    """
    every = _periods(every)
    named = dict(optimizer) if isinstance(optimizer, Mapping) else None
    choices = {name: _transformation(choice) for name, choice in (named or {"every player": optimizer}).items()}

    def transformation(player: str) -> optax.GradientTransformation:
        return choices["every player" if named is None else player]

    def init(key: jax.Array, hparams: PyTree, batch: Batch) -> TrainState:
        init_key, train_key = jax.random.split(key)
        variables = strong(model.init(init_key, batch))
        _check_players(every, variables.params, "every", complete=False)
        if named is not None:
            _check_players(named, variables.params, "optimizer", complete=True)
        opt_state = {player: transformation(player).init(params) for player, params in variables.params.items()}
        averaged = jax.tree.map(jnp.copy, variables.params) if average else ()
        return TrainState(jnp.zeros((), jnp.int32), train_key, as_schedules(hparams), variables, opt_state, averaged)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        hparams = resolve(state.hparams, state.step)
        key = fold_in(state.key, state.step)

        def losses_of(params: dict[str, PyTree]):
            outcome = model.objective(key, Variables(params, state.variables.state), hparams, batch, train=True)
            _check_outcome(outcome, params, state)
            return outcome.losses, outcome

        losses, pullback, outcome = jax.vjp(losses_of, state.variables.params, has_aux=True)
        finite = jnp.all(jnp.isfinite(jnp.stack(list(losses.values()))))
        params, opt_state, norms = {}, {}, []
        for player in state.variables.params:
            cotangent = {name: jnp.asarray(name == player, loss.dtype) for name, loss in losses.items()}
            gradient = pullback(cotangent)[0][player]
            old = state.variables.params[player], state.opt_state[player]
            norm = _norm(gradient) if clip or skip else None
            norms.append(norm)
            new = _update(transformation(player), hparams, player, gradient, *old, clip=norm if clip else None)
            due = state.step % every[player] == 0 if every.get(player, 1) > 1 else True
            params[player], opt_state[player] = _choose(due, new, old) if due is not True else new

        if clip or skip:
            finite = finite & jnp.all(jnp.isfinite(jnp.stack(norms)))
        metrics, averaged = _metrics(outcome, batch), _averaged(state, params, hparams) if average else ()
        kept: Any = Variables(params, strong(outcome.state)), opt_state, averaged
        if skip:
            sound = finite & jnp.all(jnp.stack(norms) <= hparams.skip_norm)
            kept = _choose(sound, kept, (state.variables, state.opt_state, state.average))
            metrics["skipped"], finite = 1.0 - sound, jnp.ones_like(finite)
        metrics["finite"] = finite.astype(jnp.float32)
        return TrainState(state.step + 1, state.key, state.hparams, *kept), metrics

    return Algorithm(init, step)


def _periods(every: Mapping[str, int] | None) -> dict[str, int]:
    """Raise ValueError for a period that is no whole number of at least one."""
    every = dict(every or {})
    if any(not isinstance(period, int | np.integer) or period < 1 for period in every.values()):
        raise ValueError(f"gradient_algorithm: every={every}, expected periods of at least one step")
    return every


def _check_outcome(outcome: Outcome, params: dict[str, PyTree], state: TrainState) -> None:
    """Raise where an objective's losses are not one scalar per player, or its state changes shape or dtype."""
    _check_players(outcome.losses, params, "the objective's losses", complete=True)
    chex.assert_trees_all_equal_shapes_and_dtypes(outcome.state, state.variables.state)
    chex.assert_rank(list(outcome.losses.values()), 0)


def _metrics(outcome: Outcome, batch: Batch) -> dict[str, jax.Array]:
    """Scalars: the outcome's metrics, averaged under the mask, and each player's loss."""
    names = {player: f"{player}_loss" if len(outcome.losses) > 1 else "loss" for player in outcome.losses}
    found = {name: masked_mean(jnp.asarray(m), batch.get("mask")) for name, m in outcome.metrics.items()}
    return found | {names[player]: loss for player, loss in outcome.losses.items()}


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


def _update(transformation, hparams, player, gradient, params, opt_state, *, clip):
    """One player's new (params, opt_state); ``clip``: None, or the norm of the gradient, which is then clipped."""
    if clip is not None:
        scale = jnp.minimum(1.0, hparams.clip_norm / jnp.maximum(clip, 1e-12))
        gradient = jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient)
    updates, opt_state = transformation.update(gradient, opt_state, params)
    rate = getattr(hparams, f"{player}_learning_rate", hparams.learning_rate)
    decay = getattr(hparams, "weight_decay", 0.0)

    def apply(path: Any, value: jax.Array, update: jax.Array) -> jax.Array:
        biased = path and getattr(path[-1], "key", "") == "bias"  # those of stacked layers have two axes
        total = update + decay * value if value.ndim >= 2 and not biased else update
        return (value - rate * total).astype(value.dtype)

    return jax.tree_util.tree_map_with_path(apply, params, updates), opt_state


def _averaged(state: TrainState, params: PyTree, hparams: PyTree) -> PyTree:
    count = state.step.astype(jnp.float32)
    decay = jnp.minimum(hparams.average_decay, (1.0 + count) / (10.0 + count))
    return jax.tree.map(
        lambda mean, new: (mean + (1.0 - decay) * (new - mean)).astype(mean.dtype), state.average, params
    )


def averaged_variables(state: TrainState) -> Variables:
    """The variables that evaluation, figures, loading and later stages use: the averaged parameters when there are any."""
    return state.variables if isinstance(state.average, tuple) else state.variables._replace(params=state.average)
