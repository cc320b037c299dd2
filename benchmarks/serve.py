"""A worker process: builds contestants and runs them on request, over its standard input and output."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import time
import traceback
from typing import Any, BinaryIO

from vaex.errors import UserError

MEMORY = (
    "RESOURCE_EXHAUSTED",
    "out of memory",
    "can't allocate memory",
    "bad_alloc",
)  # in XLA's and PyTorch's messages


class Handler:
    """Methods that a worker offers; its contestants live here by name."""

    def __init__(self) -> None:
        self._contestants: dict[str, Any] = {}

    def call(self, module: str, function: str, **arguments: Any) -> Any:
        """Call a function of a module."""
        return getattr(importlib.import_module(module), function)(**arguments)

    def build(self, name: str, module: str, maker: str, **arguments: Any) -> dict[str, Any]:
        """Make a contestant called ``name`` and return its properties."""
        self._contestants[name] = getattr(importlib.import_module(module), maker)(**arguments)
        return self._contestants[name].properties

    def run(self, name: str, steps: int) -> tuple[float, float]:
        """Train ``steps`` steps; return the seconds of the clock and the CPU seconds of all threads."""
        spent, began = time.process_time(), time.perf_counter()
        self._contestants[name].run(steps)
        return time.perf_counter() - began, time.process_time() - spent

    def properties(self, name: str) -> dict[str, Any]:
        """Return the current properties of a contestant."""
        return self._contestants[name].properties

    def check(self, name: str, parity: dict[str, Any]) -> list[float]:
        """Return the two losses of a peer on the steps of ``vaex_loop.parity``."""
        return self._contestants[name].check(parity)

    def drop(self) -> None:
        """Release all contestants."""
        self._contestants.clear()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests ``(method, arguments)`` with ``(kind, value)`` until there are no more."""
    handler = Handler()
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = ("result", getattr(handler, method)(**arguments))
        except UserError as error:
            answer = ("user", str(error))
        except Exception as error:  # the parent reports the traceback
            exhausted = isinstance(error, MemoryError) or any(message in str(error) for message in MEMORY)
            answer = ("memory", str(error).splitlines()[0]) if exhausted else ("error", traceback.format_exc())
        pickle.dump(answer, answers)
        answers.flush()


def main() -> None:
    """Serve over the process's first two streams; what libraries print goes to standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    serve(requests, answers)


if __name__ == "__main__":
    main()
