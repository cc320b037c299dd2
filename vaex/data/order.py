"""Order of examples: a pure function of (data seed, epoch), so that a run resumes from its step number alone.

The order comes from the raw bits of NumPy's Philox generator, which do not change between NumPy versions (its
distributions and ``permutation`` may).
"""

from __future__ import annotations

import functools
from typing import Protocol

import numpy as np


class Order(Protocol):
    """Order of examples: a pure function of the step."""

    def __call__(self, first_step: int, count: int, /) -> np.ndarray:
        """Return the example numbers of ``count`` consecutive batches, int32 [count, batch_size]."""
        ...


def epoch_order(data_seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the permutation of n examples in one epoch.

    Args:
      data_seed: at least 0, below 2**64.
      epoch: counted from 0.
      n: number of examples, 1 to 2**31 - 1.
    Returns: int32 [n], read-only (the last four are cached).
    Raises: ValueError for a value out of range.
    References: Salmon et al. 2011 (Philox).
    Example:
      >>> epoch_order(0, 0, 5).tolist(), epoch_order(0, 1, 5).tolist()
      ([0, 2, 1, 4, 3], [3, 2, 4, 1, 0])
    """
    if not (0 <= data_seed < 2**64 and epoch >= 0 and 0 < n < 2**31):
        raise ValueError(
            f"epoch_order: data_seed={data_seed}, epoch={epoch}, n={n}; expected 0 <= data_seed < 2**64, epoch >= 0, 1 <= n < 2**31"
        )
    return _order(int(data_seed), int(epoch), int(n))


@functools.lru_cache(maxsize=4)
def _order(data_seed: int, epoch: int, n: int) -> np.ndarray:
    bits = np.random.Philox(key=np.array([data_seed, epoch], np.uint64)).random_raw(n)
    order = np.argsort(bits, kind="stable").astype(np.int32)
    order.setflags(write=False)
    return order


def batch_indices(data_seed: int, n: int, batch_size: int, first_step: int, count: int) -> np.ndarray:
    """Return the example numbers of ``count`` consecutive batches.

    The permutations of all epochs form one endless sequence, which is cut into batches: a batch may span two epochs, and
    every epoch passes every example. Step s starts at position ``s * batch_size``, so any step can be computed directly.

    Args:
      data_seed: see ``epoch_order``.
      n: number of examples.
      batch_size: examples per batch.
      first_step: step of the first row, counted from 0.
      count: number of rows.
    Returns: int32 [count, batch_size].
    Raises: ValueError for a value out of range.
    Example:
      >>> rows = batch_indices(0, n=3, batch_size=2, first_step=0, count=3)
      >>> rows.shape, sorted(rows.ravel()[:3].tolist()), sorted(rows.ravel()[3:].tolist())
      ((3, 2), [0, 1, 2], [0, 1, 2])
    """
    if n < 1 or batch_size < 1 or first_step < 0 or count < 0:
        raise ValueError(
            f"batch_indices: n={n}, batch_size={batch_size}, first_step={first_step}, count={count}; expected n and "
            "batch_size >= 1, first_step and count >= 0"
        )
    position = int(first_step) * int(batch_size)  # Python integers: no overflow after 2**31 examples
    flat = np.empty(int(count) * int(batch_size), np.int32)
    filled = 0
    while filled < len(flat):
        epoch, offset = divmod(position + filled, n)
        piece = epoch_order(data_seed, epoch, n)[offset : offset + len(flat) - filled]
        flat[filled : filled + len(piece)] = piece
        filled += len(piece)
    return flat.reshape(count, batch_size)
