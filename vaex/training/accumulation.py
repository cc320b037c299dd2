"""Gradients of a batch computed in parts, one after the other, so that activations of one part at a time are in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from vaex.core import Batch, Model, PyTree
from vaex.errors import UserError

T = TypeVar("T")


def check(model: Model) -> None:
    """Raise UserError for a model whose loss compares the examples of a batch."""
    if model.compares_examples:
        raise UserError(
            "--accumulate: the objective compares the examples of a batch, so parts of it would give another loss; leave the flag "
            "out, or choose a smaller --batch_size"
        )


def check_state(after: PyTree, before: PyTree) -> None:
    """Raise UserError where an objective changes the state, such as moving averages, which parts would change several times."""
    if any(new is not old for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)):
        raise UserError(
            "--accumulate: the objective moves averages of the batch (a codebook, batch normalisation), which parts of it would "
            "move several times; leave the flag out, or choose a smaller --batch_size"
        )


def mean_over_parts(function: Callable[[jax.Array, Batch], T], batch: Batch, count: int) -> T:
    """Mean over the parts of a batch of a function's values, which are computed one after the other.

    A part takes every ``count``-th row: a batch that is divided over devices stays divided, and of a batch that begins with its
    labelled examples each part has a share.

    Args:
      function: (number of the part, its rows) -> a tree of arrays, means over these rows.
      batch: arrays [b, ...].
      count: number of parts, which divides b.
    Raises: ValueError where it does not.
    Example:
      >>> mean_over_parts(lambda index, rows: jnp.mean(rows["x"]), {"x": jnp.arange(6.0)}, 3)
      Array(2.5, dtype=float32)
    """
    size = next(iter(batch.values())).shape[0]
    if size % count:
        raise ValueError(f"mean_over_parts: a batch of {size} rows in {count} parts, expected a divisor of {size}")

    def divided(values: jax.Array) -> jax.Array:
        return jnp.swapaxes(values.reshape(size // count, count, *values.shape[1:]), 0, 1)

    rows = {name: divided(values) for name, values in batch.items()}
    first = {name: values[0] for name, values in rows.items()}
    shapes = jax.eval_shape(function, jnp.zeros((), jnp.int32), first)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: T, part: tuple[jax.Array, Batch]) -> tuple[T, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    total, _ = jax.lax.scan(add, zeros, (jnp.arange(count), rows))
    return jax.tree.map(lambda leaf: leaf / count, total)
