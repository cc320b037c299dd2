"""Examples of a memory-mapped array, in any order, read from the disk at each use."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

CHUNK = 1 << 24  # bytes of the base read at a time: it may hold wider values than are stored

Index = int | slice | np.ndarray


class MappedRows:
    """Chosen examples of an array that may exceed the memory, with the part of an array's interface that feeds and evaluation use.

    Indexing by a number, a slice, integers or a mask returns an array of these examples alone, as stored values;
    ``np.asarray`` returns them all.

    ``base``: [n, ...], usually memory-mapped. ``chosen``: indices into it, [m]. ``convert``: raw examples [b, ...] -> stored
    ones [b, *shape] of ``dtype``.

    Example:
      >>> rows = MappedRows(np.arange(10), np.array([7, 3, 5]), lambda raw: raw / 10, (), np.float64)
      >>> len(rows), rows[1:].tolist(), rows.take([2, 0]).tolist()
      (3, [0.3, 0.5], [0.5, 0.7])
    """

    def __init__(
        self,
        base: np.ndarray,
        chosen: np.ndarray,
        convert: Callable[[np.ndarray], np.ndarray],
        shape: tuple[int, ...],
        dtype: DTypeLike,
    ):
        self._base, self._chosen, self._convert = base, chosen, convert
        self._step = max(1, CHUNK // max(1, math.prod(base.shape[1:]) * base.dtype.itemsize))
        self.shape, self.dtype = (len(chosen), *shape), np.dtype(dtype)

    @property
    def ndim(self) -> int:
        """The number of axes, examples first."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that all examples would take in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, key: Index) -> np.ndarray:
        return self._gather(self._chosen[key])

    def select(self, indices: np.ndarray) -> MappedRows:
        """Select some of the examples, or all in another order, without reading them.

        Example:
          >>> rows = MappedRows(np.arange(10), np.array([7, 3, 5]), lambda raw: raw, (), np.int64)
          >>> rows.select(np.array([2, 0]))[:].tolist()
          [5, 7]
        """
        return MappedRows(self._base, self._chosen[indices], self._convert, self.shape[1:], self.dtype)

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        """Read the stored examples at these rows of the base, [*r]: [*r, *shape]."""
        flat = np.ravel(rows)
        out = np.empty((len(flat), *self.shape[1:]), self.dtype)
        for start in range(0, len(flat), self._step):
            out[start : start + self._step] = self._convert(np.asarray(self._base[flat[start : start + self._step]]))
        return out.reshape(*np.shape(rows), *self.shape[1:])

    def take(self, indices: ArrayLike, axis: int = 0, out: np.ndarray | None = None, mode: str = "raise") -> np.ndarray:
        """Take examples by their numbers, as ``np.take`` does; along the first axis only.

        Raises: ValueError for another axis.
        """
        if axis != 0:
            raise ValueError(f"MappedRows.take: axis={axis}, expected 0; examples are the first axis")
        examples = self._gather(self._chosen.take(indices, mode=mode))  # type: ignore[call-overload]
        if out is None:
            return examples
        out[...] = examples
        return out

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("MappedRows: examples are read from the disk, so an array of them is always a copy")
        return self[:].astype(dtype or self.dtype, copy=False)
