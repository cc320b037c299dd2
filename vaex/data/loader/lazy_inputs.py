"""Model inputs of a split, prepared at each use: only one block of them is in memory."""

from __future__ import annotations

import jax
import numpy as np

from vaex.data.spec import Spec
from vaex.data.transforms import intensities, prepare


class LazyInputs:
    """Model inputs of an array that may exceed the memory, with the same random draws at every reading.

    Examples are prepared in blocks, block i with ``fold_in(key, i)``. The block read last is kept, so reading in order
    prepares each block once.

    ``spec``: of the data. ``key``: of binarisation and dequantisation. ``x``: stored values [n, *spec.shape], an array or
    ``MappedRows``. ``block``: number of examples prepared at a time; the draws depend on it.

    Example:
      >>> inputs = LazyInputs(Spec("digits", (2,), "grey", levels=5), jax.random.key(0), np.array([[0, 1], [2, 4]], np.uint8), 500)
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
        """Return the examples with these numbers, [m], each 0 or more: float32 [m, *spec.shape]."""
        out = np.empty((len(rows), *self._x.shape[1:]), np.float32)
        blocks, places = np.divmod(rows, self._block)
        for block in np.unique(blocks):
            inside = blocks == block
            out[inside] = self._prepared(int(block))[places[inside]]
        return out

    def _prepared(self, block: int) -> np.ndarray:
        if self._kept is None or self._kept[0] != block:
            self._kept = None  # freed first, so that two blocks are never in memory
            rows = np.arange(block * self._block, (block + 1) * self._block)
            stored = self._x[np.minimum(rows, len(self._x) - 1)]  # one shape for all blocks, so one compilation
            self._kept = block, np.asarray(self._prepare(jax.random.fold_in(self._key, block), stored))
        return self._kept[1]


def chosen_intensities(spec: Spec, x: np.ndarray, rows: np.ndarray, block: int) -> np.ndarray:
    """Return ``intensities`` of chosen examples, float32 [m, *spec.shape], read a block at a time.

    Args:
      spec: of the data.
      x: stored values [n, *spec.shape], an array or ``MappedRows``.
      rows: numbers of examples, [m].
      block: examples read at a time.
    Example:
      >>> spec = Spec("digits", (2,), "grey", levels=5)
      >>> chosen_intensities(spec, np.array([[0, 1], [2, 4]], np.uint8), np.array([1]), 500).tolist()
      [[0.5, 1.0]]
    """
    out = np.empty((len(rows), *spec.shape), np.float32)
    for start in range(0, len(rows), block):
        out[start : start + block] = np.asarray(intensities(spec, x[rows[start : start + block]]))
    return out
