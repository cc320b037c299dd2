"""Work on many examples by several threads, with results in order."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

PIECE = 1 << 22  # bytes of examples that a thread decodes at a time
MAX_EXAMPLES = 1000  # in a piece
THREADS = min(8, os.cpu_count() or 1)

Task = TypeVar("Task")
Result = TypeVar("Result")


def pieces(n: int, size: int) -> list[range]:
    """Cut the numbers of n examples of ``size`` bytes into pieces, each for one thread.

    Example:
      >>> pieces(5, PIECE // 2)
      [range(0, 2), range(2, 4), range(4, 5)]
    """
    step = min(MAX_EXAMPLES, max(1, PIECE // max(1, size)))
    return [range(start, min(start + step, n)) for start in range(0, n, step)]


def map_in_order(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """Apply ``function`` to each task by several threads and yield the results in order.

    No thread runs far ahead of the results that were taken, so they do not pile up in memory.

    Example:
      >>> list(map_in_order(lambda task: task * task, range(4)))
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
