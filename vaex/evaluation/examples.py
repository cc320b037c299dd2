"""Choice of the examples that are evaluated, and their division into batches: fixed, random, the same for all models and runs."""

from __future__ import annotations

import numpy as np

SEED = 20131220  # of the order in which examples are chosen, and of the draws of an evaluation
VERSION = 2  # of these choices and of the draws that go with them; 1 took the first examples, and drew by batch


def random_order(n: int) -> np.ndarray:
    """Return a permutation of n examples that depends on n alone.

    Args:
      n: number of examples, at least 0.
    Returns: int64 [n], from raw bits of NumPy's Philox generator, which do not change between versions of NumPy.
    Example:
      >>> random_order(5).tolist()
      [3, 4, 1, 2, 0]
    """
    return np.argsort(np.random.Philox(key=SEED).random_raw(n), kind="stable")


def chosen_examples(n: int, count: int) -> np.ndarray:
    """Return the numbers of ``count`` of n examples, all where there are no more, in random order.

    A pure function of its arguments, so runs, members and models are compared on the same examples; a smaller choice is the
    beginning of a larger one.

    Example:
      >>> chosen_examples(5, 2).tolist(), sorted(chosen_examples(5, 9).tolist())
      ([3, 4], [0, 1, 2, 3, 4])
    """
    return random_order(n)[:count]


def divided_examples(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Divide examples into batches of nearly equal size, at least ``size`` and less than twice that; fewer are one batch.

    Nothing is padded or left out, so a statistic of a batch is one of ``size`` examples or more.

    Args:
      rows: numbers of examples [n], in random order; a batch then represents them all.
      size: at least 1.
    Returns: int arrays, n in all; their lengths differ by at most one.
    Raises: ValueError for a size below 1.
    Example:
      >>> [len(batch) for batch in divided_examples(np.arange(11), 3)]
      [4, 4, 3]
    """
    if size < 1:
        raise ValueError(f"divided_examples: size={size}, expected at least 1")
    return [np.sort(batch) for batch in np.array_split(rows, max(1, len(rows) // size))]
