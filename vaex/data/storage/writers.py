"""Targets of decoding: arrays that are filled a few examples at a time, in memory or in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from vaex.data.storage import host_memory
from vaex.errors import UserError

Append = Callable[[np.ndarray], None]  # examples [b, ...], any number of them, to the end of an array


class ArrayWriter(Protocol):
    """Receiver of decoded arrays: ``cache.CacheWriter`` or ``MemoryWriter``. ``metadata``: values that are kept with them."""

    metadata: dict[str, Any]

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Append:
        """Begin the array ``name`` [n, ...] and return the function that appends examples to it."""
        ...


class MemoryWriter:
    """Decoded arrays in memory, for a disk that refuses them.

    Raises: UserError where an array is larger than ``host_memory.SHARE`` of the free memory.
    Example:
      >>> writer = MemoryWriter("a")
      >>> append = writer.array("train_x", (3, 2), np.uint8)
      >>> append(np.zeros([1, 2])), append(np.ones([2, 2]))
      (None, None)
      >>> writer.arrays["train_x"].tolist()
      [[0, 0], [1, 1], [1, 1]]
    """

    def __init__(self, where: str):
        self._where = where
        self.arrays: dict[str, np.ndarray] = {}
        self.metadata: dict[str, Any] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Append:
        """Begin an array, as ``ArrayWriter`` says."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if size > host_memory.SHARE * host_memory.free_memory():
            raise UserError(
                f"{self._where}: its decoded {name} of {size / 1e9:.1f} GB does not fit in memory, and cannot be kept on the "
                "disk; free space there, or use a folder that can be written"
            )
        values = self.arrays[name] = np.empty(shape, dtype)
        filled = 0

        def append(examples: np.ndarray) -> None:
            nonlocal filled
            values[filled : filled + len(examples)] = examples
            filled += len(examples)

        return append
