"""Batches in which all classes are equally frequent, however rare they are in the data."""

from __future__ import annotations

import numpy as np

from vaex.data.order import Order, batch_indices
from vaex.errors import UserError


def balanced_order(y: np.ndarray, batch_size: int, data_seed: int) -> Order:
    """Return an order of examples whose batches hold every class equally often, up to one example.

    Classes take turns; the examples of each come in epochs of their own, every one once in each. So a class with few examples
    repeats them more often. Like all orders it is a function of the step alone.

    Args:
      y: labels [n], 0 or more; classes without examples are left out.
      batch_size: examples per batch.
      data_seed: see ``vaex.data.order``.
    Raises: UserError for examples without a label.
    Example:
      >>> y = np.array([0, 0, 0, 0, 0, 0, 1, 1])
      >>> y[balanced_order(y, 4, data_seed=0)(0, 3)].tolist()
      [[0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1]]
    """
    if not len(y) or y.min() < 0:
        unlabelled = f"{int((y < 0).sum())} of the {len(y)} training examples have none" if len(y) else "there are none"
        raise UserError(f"--balance needs a label of every example, and {unlabelled}; leave the flag out")
    members = [np.flatnonzero(y == label).astype(np.int32) for label in np.unique(y)]

    def indices(first_step: int, count: int) -> np.ndarray:
        start, total = int(first_step) * batch_size, int(count) * batch_size
        flat = np.empty(total, np.int32)
        for turn, examples in enumerate(members):
            offset = (turn - start) % len(members)  # of the first place at which the class has its turn
            places = np.arange(offset, total, len(members))
            rank = (start + offset) // len(members)
            flat[places] = examples[batch_indices(data_seed, len(examples), 1, rank, len(places))[:, 0]]
        return flat.reshape(count, batch_size)

    return indices
