"""Model inputs of a split, prepared at each use: only some of them are in memory."""

from __future__ import annotations

import jax
import numpy as np

from vaex.data.spec import Spec
from vaex.data.transforms import intensities, prepare


class LazyInputs:
    """Model inputs of an array that may exceed the memory, with the same random draws at every reading.

    Example i is prepared with ``fold_in(key, i)``, whatever is read with it.

    ``spec``: of the data. ``key``: of binarisation and dequantisation. ``x``: stored values [n, *spec.shape], an array or
    ``MappedRows``. ``block``: number of examples prepared at a time; no value depends on it.

    Example:
      >>> inputs = LazyInputs(Spec("digits", (2,), "grey", levels=5), jax.random.key(0), np.array([[0, 1], [2, 4]], np.uint8), 500)
      >>> len(inputs), inputs[np.array([1, 1, 0])].tolist()
      (2, [[0.5, 1.0], [0.5, 1.0], [0.0, 0.25]])
    """

    def __init__(self, spec: Spec, key: jax.Array, x: np.ndarray, block: int):
        def prepared(row: jax.Array, stored: jax.Array) -> jax.Array:
            return prepare(spec, jax.random.fold_in(key, row), stored)

        self._x, self._block = x, max(1, min(block, len(x)))
        self._prepare = jax.jit(jax.vmap(prepared))

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the examples with these numbers, [m], each 0 or more: float32 [m, *spec.shape]."""
        out = np.empty((len(rows), *self._x.shape[1:]), np.float32)
        for start in range(0, len(rows), self._block):
            piece = rows[start : start + self._block]
            filled = np.resize(piece, self._block)  # one shape for all pieces, so one compilation
            prepared = self._prepare(filled.astype(np.uint32), self._x[filled])
            out[start : start + self._block] = np.asarray(prepared)[: len(piece)]
        return out


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
