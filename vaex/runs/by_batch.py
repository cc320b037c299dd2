"""Functions applied to a split batch by batch, so that it may exceed the memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vaex import data
from vaex.core import Batch
from vaex.data.spec import Spec
from vaex.evaluation.objective import ObjectiveValues

BATCH = 500  # examples of a batch; where its statistics are taken, at least so many and less than twice as many
BATCH_VALUES = 2**28  # of the images of a batch, at most: 1 GB; larger images come in smaller batches

_fold_in_each = jax.jit(jax.vmap(jax.random.fold_in, in_axes=(None, 0)))


def evaluation_batch(spec: Spec, most: int = BATCH) -> int:
    """Return how many examples are evaluated at a time, fewer than ``most`` where they are large."""
    return max(1, min(most, BATCH_VALUES // (2 * math.prod(spec.shape))))


def example_keys(key: jax.Array, rows: np.ndarray) -> jax.Array:
    """Return a key of each example [b], which depends on its number in the split alone, not on its batch.

    Example:
      >>> keys = example_keys(jax.random.key(0), np.array([7, 3]))
      >>> bool(keys[0] == jax.random.fold_in(jax.random.key(0), 7))
      True
    """
    return _fold_in_each(key, np.asarray(rows, np.uint32))


def over_batches(
    function: Callable[..., Any],
    key: jax.Array,
    arrays: Mapping[str, np.ndarray],
    *args: Any,
    size: int,
    rows: np.ndarray | None = None,
) -> Any:
    """Return ``function(keys, *args, batch)`` of examples, [b, ...] joined to [n, ...] on the host.

    The function computes something of each example by itself: batches are padded, and no value may depend on how the examples are
    divided. Arrays are read a batch at a time; what comes back, of all examples, is to be small.

    Args:
      function: takes a key of each example [b], ``args``, and a batch.
      key: from which the examples' keys are made, by their numbers.
      arrays: name -> [n, ...].
      args: passed on.
      size: examples at a time.
      rows: numbers of the examples, in this order; by default all.
    """
    rows = np.arange(len(arrays["x"])) if rows is None else rows
    size, tree = min(size, len(rows)), None
    joined: list[np.ndarray] = []
    columns = {**arrays, "row": np.arange(len(arrays["x"]))}
    for index, batch in enumerate(data.padded_batches(columns, size, rows)):
        count = int(np.sum(batch.pop("mask")))
        leaves, tree = jax.tree.flatten(function(example_keys(key, batch.pop("row")), *args, batch))
        joined = joined or [np.empty((len(rows), *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
        for into, leaf in zip(joined, leaves, strict=True):
            into[index * size : index * size + count] = np.asarray(leaf)[:count]
    return jax.tree.unflatten(tree, joined)


class BatchedValues(NamedTuple):
    """Metrics of an objective over batches.

    Attributes:
      examples: name -> a value of each example [n], in the order of the split's numbers.
      statistics: name -> a value of each batch [m].
      sizes: examples of each batch, [m].
    """

    examples: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    sizes: np.ndarray


def over_divisions(
    function: Callable[[jax.Array, Batch], ObjectiveValues],
    key: jax.Array,
    arrays: Mapping[str, np.ndarray],
    batches: Sequence[np.ndarray],
) -> BatchedValues:
    """Return what ``function(key_i, batch_i)`` gives of batches without padding, all rows of which count.

    A batch draws with one key, ``fold_in(key, i)``: another division draws anew, so values of examples that are drawn move within
    their error, and those that are not move by rounding alone.

    Args:
      function: metrics of a batch.
      key: from which the batches' keys are made.
      arrays: name -> [n, ...].
      batches: numbers of the examples of each, from ``vaex.evaluation.examples.divided_examples``.
    """
    parts: list[ObjectiveValues] = []
    for index, rows in enumerate(batches):
        batch = {name: column[rows] for name, column in arrays.items()}
        parts.append(jax.device_get(function(jax.random.fold_in(key, index), batch)))
    order = np.argsort(np.concatenate(batches))
    examples = {name: np.concatenate([part.examples[name] for part in parts])[order] for name in parts[0].examples}
    statistics = {name: np.array([part.statistics[name] for part in parts]) for name in parts[0].statistics}
    return BatchedValues(examples, statistics, np.array([len(rows) for rows in batches]))
