"""Functions of many examples, in batches whose memory is bounded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.export import is_symbolic_dim

from vaex.ops.platforms import plain_lowering
from vaex.ops.widths import single_width

Result = TypeVar("Result")


def in_batches(
    function: Callable[[dict[str, Any]], Result], columns: Mapping[str, Any], most: int, axis: int = 0
) -> Result:
    """Return ``function(columns)``, computed for at most so many examples at a time and joined.

    Which axes of the result are those of the examples follows from its shapes for other numbers of examples. Traced values are
    taken at once: their memory is the caller's.

    Args:
      function: of columns, each example on its own, to a pytree of arrays.
      columns: name -> array; each has the examples on the same axis, counted from the first.
      most: examples of a batch.
      axis: of the examples.
    Example:
      >>> in_batches(lambda columns: 2 * columns["x"], {"x": np.arange(5)}, most=2)
      Array([0, 2, 4, 6, 8], dtype=int32)
    """
    number = next(iter(columns.values())).shape[axis]
    if any(isinstance(column, Tracer) for column in columns.values()) or number <= most:
        return function(dict(columns))
    bounds = batch_bounds(number, most)

    def part(start: int, stop: int) -> dict[str, Any]:
        return {name: column[(slice(None),) * axis + (slice(start, stop),)] for name, column in columns.items()}

    parts = [function(part(start, stop)) for start, stop in itertools.pairwise(bounds)]
    axes = _example_axes(function, part, number)
    joined = [
        leaves[0] if along is None else jnp.concatenate(leaves, axis=along)
        for along, *leaves in zip(axes, *map(jax.tree.leaves, parts), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(parts[0]), joined)


def batch_bounds(number: int, most: int) -> list[int]:
    """Return where batches of at most so many of a number of examples begin and end; they have two sizes, each compiled once.

    Example:
      >>> batch_bounds(5, most=2)
      [0, 2, 3, 5]
    """
    count = -(-number // most)
    return [round(index * number / count) for index in range(count + 1)]


def _example_axes(
    function: Callable[[dict[str, Any]], Any], part: Callable[[int, int], dict[str, Any]], number: int
) -> list[int | None]:
    """Return the axis of the examples in each leaf of a result, None where it does not depend on their number."""
    sizes = [jax.tree.leaves(jax.eval_shape(function, part(0, size))) for size in (2, 3)]
    assert number >= 3
    return [
        next((axis for axis, (two, three) in enumerate(zip(a.shape, b.shape, strict=True)) if two != three), None)
        for a, b in zip(*sizes, strict=True)
    ]


def has_symbolic_shape(*values: Any) -> bool:
    """Return True if an axis has no number, as in ``jax.export`` with a batch of any size."""
    return any(is_symbolic_dim(axis) for value in values for axis in np.shape(value))


def applied(compiled: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a compiled function returns; where a batch has any size, its body is traced without the CPU's own programs."""
    with single_width():
        if not has_symbolic_shape(*jax.tree.leaves(arguments)):
            return compiled(*arguments)
        with plain_lowering():
            return compiled.__wrapped__(*arguments)  # type: ignore[attr-defined]  # of jax.jit
