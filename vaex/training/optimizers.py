"""Optimizers: by name, or as a function of the learning rate."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import jax

from vaex.core import PyTree
from vaex.errors import UserError, nearest

if TYPE_CHECKING:
    import optax  # at run time, where it is used: it takes a twentieth of the time of ``--help``

    Transformation: TypeAlias = optax.GradientTransformation
else:
    Transformation = Any

Optimizer: TypeAlias = str | Callable[[jax.Array], Transformation]


class HasOptimizer(Protocol):
    """Options with an optimizer."""

    @property
    def optimizer(self) -> Optimizer: ...


# name -> an update direction of optax, which is passed; the step multiplies it, and decayed weights, by -learning_rate
OPTIMIZERS: dict[str, Callable[[types.ModuleType], Transformation]] = {
    "adam": lambda optax: optax.scale_by_adam(),
    "adamax": lambda optax: optax.scale_by_adamax(),
    "adabelief": lambda optax: optax.scale_by_belief(),
    "amsgrad": lambda optax: optax.scale_by_amsgrad(),
    "lion": lambda optax: optax.scale_by_lion(),
    "momentum": lambda optax: optax.trace(decay=0.9),
    "nadam": lambda optax: optax.scale_by_adam(nesterov=True),
    "radam": lambda optax: optax.scale_by_radam(),
    "rmsprop": lambda optax: optax.scale_by_rms(),
    "sgd": lambda optax: optax.identity(),
}


def _direction(name: str) -> Transformation:
    import optax

    return OPTIMIZERS[name](optax)


def check_optimizer(optimizer: Optimizer) -> None:
    """Raise UserError for what is neither a name of ``OPTIMIZERS`` nor a function of the learning rate."""
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise UserError(f"no optimizer is called {optimizer!r}; {nearest(optimizer, OPTIMIZERS)}")
        return
    import optax

    if (
        isinstance(optimizer, optax.GradientTransformation)
        or not callable(optimizer)
        or getattr(optimizer, "__name__", "").startswith("scale_by_")  # its first argument is no learning rate
    ):
        raise UserError(
            f"optimizer: got {type(optimizer).__name__}, expected a name or a function of the learning rate; pass optax.adam "
            "or lambda rate: optax.adamw(rate, b1=0.5), so that the rate may be scheduled and differ between members"
        )


def init(optimizer: Optimizer, params: PyTree, learning_rate: jax.Array) -> PyTree:
    """The first state of an optimizer."""
    chosen = _direction(optimizer) if isinstance(optimizer, str) else optimizer(learning_rate)
    return chosen.init(params)


def update(
    optimizer: Optimizer,
    gradient: PyTree,
    opt_state: PyTree,
    params: PyTree,
    *,
    learning_rate: jax.Array,
    decay: jax.Array | float,
) -> tuple[PyTree, PyTree]:
    """New (params, opt_state) after one step downhill, with decoupled decay of weights of two axes or more, but for biases.

    Args:
      optimizer: a name, or a function of the learning rate, whose updates are taken as they are.
      gradient: of the loss.
      opt_state: as ``init`` or the last ``update`` returned it.
      params: to be updated.
      learning_rate: scalar.
      decay: weight decay, a scalar; multiplied by the learning rate.
    """
    named = isinstance(optimizer, str)
    chosen = _direction(optimizer) if named else optimizer(learning_rate)  # type: ignore[arg-type, operator]
    updates, opt_state = chosen.update(gradient, opt_state, params)

    def apply(path: tuple[Any, ...], value: jax.Array, change: jax.Array) -> jax.Array:
        is_bias = bool(path) and getattr(path[-1], "key", "") == "bias"  # those of stacked layers have two axes
        decays = value.ndim >= 2 and not is_bias
        if named:
            total = change + decay * value if decays else change
            return (value - learning_rate * total).astype(value.dtype)
        total = change - learning_rate * decay * value if decays else change
        return (value + total).astype(value.dtype)

    return jax.tree_util.tree_map_with_path(apply, params, updates), opt_state
