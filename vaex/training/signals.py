"""Signals that stop a run: steps at hand are finished and saved first; a second signal stops at once.

A handler of Python runs between two instructions of the main thread, which may be in a computation for seconds. Where a second
signal is to end the process, a thread of its own therefore hears of signals through a pipe.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from vaex.errors import Interrupted, Terminated

CAUGHT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interruption:
    """A signal that has come, if any.

    Attributes:
      number: of the first signal, 0 before there is one.
    """

    def __init__(self) -> None:
        self.number = 0
        self._deferred = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A block that a first signal does not break: it looks at ``number`` itself, between one piece of work and the next."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def error(self, text: str, number: int, *, saved: bool = False) -> Interrupted | Terminated:
        """Return what a run that a signal stops raises.

        Args:
          text: what was kept, and how to go on.
          number: of the signal, which may have come to another process.
          saved: whether the run was saved first, in all its processes.
        """
        kind = Interrupted if number == signal.SIGINT else Terminated
        return kind(f"{_name(number)}: {text}", 128 + number, saved=saved)

    def check(self) -> None:
        """Raise where a signal has come, though what it raised may have been swallowed."""
        if self.number:
            raise self.error("the same command goes on from the last checkpoint", self.number)

    def receive(self, number: int, *, again: bool) -> None:
        """Take a signal, in the main thread.

        Raises: Interrupted or Terminated, unless the block that runs defers it.
        """
        first, self.number = not self.number, self.number or number
        if not self._deferred or (again and not first):
            self.check()
        if first:
            _tell(f"vaex: {_name(number)}: finishing the steps at hand, then saving; once more stops at once\n")


@contextlib.contextmanager
def watched(*, ends_process: bool = False) -> Iterator[Interruption]:
    """Take SIGINT, SIGTERM and SIGHUP while the block runs; handlers are as before afterwards.

    Outside the main thread, and for a signal that is ignored (as under ``nohup``), nothing changes.

    Args:
      ends_process: whether a second signal ends the process at once, whatever it computes; else it raises in the main thread.
    """
    interruption = Interruption()
    caught = [number for number in CAUGHT if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread() or not caught:
        yield interruption
        return

    def handle(number: int, frame: FrameType | None) -> None:
        interruption.receive(number, again=not ends_process)

    before: dict[int, Any] = {number: signal.signal(number, handle) for number in caught}
    try:
        with _quiet_in_collector(), _second_ends_process(caught) if ends_process else contextlib.nullcontext():
            yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet_in_collector() -> Iterator[None]:
    """Print no traceback for what a signal raises in a callback of the garbage collector, where nothing can be raised: the
    interruption keeps the signal for its next ``check``. A hook that is installed meanwhile, as by ``Checkpoints``, stays."""
    before = sys.unraisablehook

    def report(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, Interrupted | Terminated):
            before(unraisable)

    sys.unraisablehook = report
    try:
        yield
    finally:
        if sys.unraisablehook is report:
            sys.unraisablehook = before


@contextlib.contextmanager
def _second_ends_process(caught: list[int]) -> Iterator[None]:
    """End the process at the second of these signals, from a thread."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # as a wake-up descriptor must be

    def listen() -> None:
        came = 0
        while received := os.read(reading, 1):
            came += received[0] in caught
            if came > 1:
                os._exit(128 + received[0])
        os.close(reading)

    thread = threading.Thread(target=listen, name="vaex-signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # ends the thread
        thread.join()


def _name(number: int) -> str:
    return "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"


def _tell(text: str) -> None:
    """Write to standard error, past buffers that the main thread may be in the middle of."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
