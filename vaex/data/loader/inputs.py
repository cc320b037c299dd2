"""A split as model inputs that are made when they are asked for: no more of them are in memory than one block."""

from __future__ import annotations

import jax
import numpy as np

from vaex.data.spec import Spec
from vaex.data.transforms import intensities, prepare


class Inputs:
    """``prepare`` of all examples of an array that may exceed the memory, with the same randomness whenever they are read.

    Examples are prepared in blocks, block i with ``fold_in(key, i)``, and the block read last is kept: reading in order
    prepares each block once.

    ``spec``: the data's facts. ``key``: of binarisation and dequantisation. ``x``: stored values [n, *spec.shape], an array
    or ``Rows``. ``block``: examples prepared at a time, which the draws depend on.

    Example:
      >>> inputs = Inputs(Spec("digits", (2,), "grey", levels=5), jax.random.key(0), np.array([[0, 1], [2, 4]], np.uint8), 500)
      >>> len(inputs), inputs[np.array([1, 1, 0])].tolist()
      (2, [[0.5, 1.0], [0.5, 1.0], [0.0, 0.25]])
    """

    def __init__(self, spec: Spec, key: jax.Array, x: np.ndarray, block: int):
        self._x, self._key, self._block = x, key, min(block, len(x))
        self._prepare = jax.jit(lambda block_key, stored: prepare(spec, block_key, stored))
        self._kept: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Examples by their numbers, 0 or more, [m]: float32 [m, *spec.shape]."""
        out = np.empty((len(rows), *self._x.shape[1:]), np.float32)
        blocks, places = np.divmod(rows, self._block)
        for block in np.unique(blocks):
            mine = blocks == block
            out[mine] = self._prepared(int(block))[places[mine]]
        return out

    def _prepared(self, block: int) -> np.ndarray:
        if self._kept is None or self._kept[0] != block:
            self._kept = None  # before the next one is made, so that there are never two
            rows = np.arange(block * self._block, (block + 1) * self._block)
            stored = self._x[np.minimum(rows, len(self._x) - 1)]  # all blocks are of one shape, for one program
            self._kept = block, np.asarray(self._prepare(jax.random.fold_in(self._key, block), stored))
        return self._kept[1]


def shown(spec: Spec, x: np.ndarray, rows: np.ndarray, block: int) -> np.ndarray:
    """``intensities`` of chosen examples, float32 [m, *spec.shape], read a block at a time.

    Args:
      spec: the data's facts.
      x: stored values [n, *spec.shape], an array or ``Rows``.
      rows: numbers of examples, [m].
      block: examples read at a time.
    Example:
      >>> shown(Spec("digits", (2,), "grey", levels=5), np.array([[0, 1], [2, 4]], np.uint8), np.array([1]), 500).tolist()
      [[0.5, 1.0]]
    """
    out = np.empty((len(rows), *spec.shape), np.float32)
    for start in range(0, len(rows), block):
        out[start : start + block] = np.asarray(intensities(spec, x[rows[start : start + block]]))
    return out
