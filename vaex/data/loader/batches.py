"""Batches for what is computed of each example by itself: in order, in batches of one shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np


def padded_batches(
    arrays: Mapping[str, np.ndarray], batch_size: int, rows: np.ndarray | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Return consecutive batches of the same shape, so that one compiled function serves all.

    The last batch is padded by repeating the last example; "mask" marks the padding. A function that compares the examples of a
    batch would count them: it is for functions of each example by itself.

    Args:
      arrays: name -> [n, ...], all of one n.
      batch_size: rows per batch; may exceed n.
      rows: numbers of the examples, in this order; by default all n.
    Returns: an iterator of batches: the arrays' names -> [batch_size, ...], and "mask" -> float32 [batch_size], 1 for
      examples and 0 for padding. No batch where n is 0.
    Raises: ValueError for a batch size below 1, arrays of different lengths, or an array called "mask".
    Example:
      >>> for batch in padded_batches({"x": np.array([5, 6, 7])}, batch_size=2):
      ...     print(batch["x"], batch["mask"])
      [5 6] [1. 1.]
      [7 7] [1. 0.]
    """
    lengths = {name: len(values) for name, values in arrays.items()}
    if batch_size < 1 or len(set(lengths.values())) != 1 or "mask" in arrays:
        raise ValueError(
            f"padded_batches: batch_size={batch_size}, arrays of lengths {lengths}; expected batch_size >= 1 and one or more "
            "arrays of the same length, none called 'mask'"
        )
    n = next(iter(lengths.values()))
    return _batches(arrays, batch_size, np.arange(n) if rows is None else rows)


def _batches(arrays: Mapping[str, np.ndarray], batch_size: int, rows: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(rows), batch_size):
        places = np.arange(start, start + batch_size)
        chosen = rows[np.minimum(places, len(rows) - 1)]
        yield {name: values[chosen] for name, values in arrays.items()} | {
            "mask": (places < len(rows)).astype(np.float32)
        }
