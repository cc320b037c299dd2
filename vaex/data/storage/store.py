"""Where decoded examples go, a few at a time; and decoding them by several threads."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np

from vaex.data.storage import machine
from vaex.errors import UserError

PIECE = 1 << 22  # bytes of examples that a thread decodes at a time
MOST = 1000  # and how many examples at most
THREADS = min(8, os.cpu_count() or 1)

Append = Callable[[np.ndarray], None]
Task = TypeVar("Task")
Result = TypeVar("Result")


class Store(Protocol):
    """What takes decoded arrays: ``cache.Writer``, or ``InMemory``."""

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Append:
        """Begin an array; what comes back appends examples to it, any number at a time."""
        ...


class InMemory:
    """Decoded arrays in memory, for where the disk refuses them.

    Raises: UserError where an array is larger than machine.SHARE of the free memory.
    Example:
      >>> store = InMemory("a")
      >>> append = store.array("train_x", (3, 2), np.uint8)
      >>> append(np.zeros([1, 2])), append(np.ones([2, 2]))
      (None, None)
      >>> store.arrays["train_x"].tolist()
      [[0, 0], [1, 1], [1, 1]]
    """

    def __init__(self, where: str):
        self._where = where
        self.arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Append:
        """See ``Store``."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if size > machine.SHARE * machine.free_memory():
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


def pieces(n: int, size: int) -> list[range]:
    """The numbers of n examples of ``size`` bytes, cut into what one thread decodes at a time.

    Example:
      >>> pieces(5, PIECE // 2)
      [range(0, 2), range(2, 4), range(4, 5)]
    """
    step = min(MOST, max(1, PIECE // max(1, size)))
    return [range(start, min(start + step, n)) for start in range(0, n, step)]


def ordered(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """``function`` of each task, in order, worked on by threads of which none runs far ahead: results don't pile up.

    Example:
      >>> list(ordered(lambda task: task * task, range(4)))
      [0, 1, 4, 9]
    """
    with ThreadPoolExecutor(THREADS, "vaex-decode") as threads:
        waiting: collections.deque[Future[Result]] = collections.deque()
        try:
            for task in tasks:
                waiting.append(threads.submit(function, task))
                if len(waiting) > THREADS + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for task_left in waiting:
                task_left.cancel()
