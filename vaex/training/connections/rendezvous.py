"""Links between the processes of one run: who has come, what each says, and who is gone.

They meet at the address of the first process before jax connects them there. jax itself ends a process, with a stack of C++, where
a partner is missing or dies; these links notice either earlier, name the process, and carry what must be equal everywhere.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from vaex.errors import LostProcessError, UserError
from vaex.training.connections.wire import Message, Wire, connect, listen

BEAT_SECONDS = 5.0
SILENT_SECONDS = 40.0  # without a beat, after which a process counts as gone: its machine is, or it hangs
GRACE_SECONDS = 5.0  # in which a process that has lost another ends by itself, before it is ended
ANSWER_SECONDS = 10.0  # for the answer to a greeting


class Partners:
    """The other processes of a run, as one of them is linked to them: the first to all, the others to the first.

    Args:
      process: number of this one.
      wires: process -> connection.
    """

    def __init__(self, process: int, wires: Mapping[int, Wire]) -> None:
        self._process, self._wires = process, dict(wires)
        self._inbox: dict[int, queue.Queue[Any]] = {number: queue.Queue() for number in wires}
        self._heard = dict.fromkeys(wires, time.monotonic())
        self._parted: set[int] = set()
        self._lost: str | None = None
        self._noticed, self._ended, self._lock = threading.Event(), threading.Event(), threading.Lock()
        for number in wires:
            threading.Thread(target=self._listen, args=(number,), name=f"vaex-process-{number}", daemon=True).start()
        threading.Thread(target=self._beat, name="vaex-beat", daemon=True).start()

    def gather(self, value: object) -> list[Any]:
        """Return what each process gives, in their order; all call this at once.

        Args:
          value: a JSON value.
        Raises: LostProcessError where a process is gone.
        """
        if self._process:
            self._wires[0].send({"kind": "said", "value": value})
            return self._receive(0)
        values = [value, *(self._receive(number) for number in sorted(self._wires))]
        for wire in self._wires.values():
            wire.send({"kind": "said", "value": values})
        return values

    def _receive(self, number: int) -> Any:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._inbox[number].get(timeout=0.1)
            self.check()

    def check(self, wait: float = 0.0) -> None:
        """Raise LostProcessError if a process is gone.

        Args:
          wait: seconds in which it may still be noticed, where a computation that takes all processes has failed.
        """
        if self._noticed.wait(wait) and self._lost is not None:
            raise LostProcessError(self._lost)

    def part(self) -> None:
        """Take leave: from now on, no partner's end matters."""
        self._close({"kind": "bye"})

    def fail(self, reason: str) -> None:
        """Tell the others that this process stops, and why."""
        self._close({"kind": "gone", "process": self._process, "reason": reason})

    def _close(self, last: Message) -> None:
        self._ended.set()
        for wire in self._wires.values():
            with contextlib.suppress(OSError):
                wire.send(last)
            wire.close()

    def _listen(self, number: int) -> None:
        """Take what a partner sends until it leaves."""
        while True:
            message = self._wires[number].receive()
            self._heard[number] = time.monotonic()
            kind = None if message is None else message["kind"]
            if message is None or kind == "bye":
                self._parted.add(number)
                if message is None:
                    self._lose(number, "")
                return
            if kind == "said":
                self._inbox[number].put(message["value"])
            elif kind == "gone":
                self._parted.add(number)
                self._lose(int(message["process"]), str(message["reason"]))

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            for number, wire in self._wires.items():
                if number in self._parted:
                    continue
                with contextlib.suppress(OSError):
                    wire.send({"kind": "beat"})
                if time.monotonic() - self._heard[number] > SILENT_SECONDS:
                    self._lose(number, f"nothing was heard of it for {SILENT_SECONDS:.0f} s")

    def _lose(self, number: int, reason: str) -> None:
        """Note that a process is gone, tell the others, and end this one unless it ends by itself."""
        with self._lock:
            if self._ended.is_set() or self._lost is not None:
                return
            why = f" ({reason})" if reason else ""
            self._lost = (
                f"process {number} has ended{why}, so process {self._process} stops as well; start all again, and they go on from "
                "the last checkpoint"
            )
        for other, wire in self._wires.items():
            if other != number:
                with contextlib.suppress(OSError):
                    wire.send({"kind": "gone", "process": number, "reason": reason})
        self._noticed.set()
        # this thread: nothing wakes a main thread that waits for the process that is gone
        if not self._ended.wait(GRACE_SECONDS):
            with contextlib.suppress(OSError):
                os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"vaex: {self._lost}\n".encode())
            os._exit(LostProcessError.exit_code)


def meet(address: str, count: int, process: int, timeout: float) -> Partners:
    """Wait until all processes have come.

    Args:
      address: HOST:PORT of the first process, whose port is free again afterwards.
      count: how many they are.
      process: number of this one.
      timeout: seconds to wait.
    Raises: UserError, in all that have come, where one does not come, two have one number, or the port is taken.
    """
    return _host(address, count, timeout) if process == 0 else _visit(address, count, process, timeout)


def _host(address: str, count: int, timeout: float) -> Partners:
    """The first process's side."""
    deadline = time.monotonic() + timeout
    wires: dict[int, Wire] = {}
    with listen(address) as server:
        try:
            while len(wires) < count - 1:
                for number in [number for number, wire in wires.items() if wire.is_closed()]:
                    wires.pop(number).close()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise UserError(_missing(wires, count, timeout))
                server.settimeout(min(left, 0.5))
                with contextlib.suppress(TimeoutError):
                    _welcome(Wire(server.accept()[0]), wires, count)
        except UserError as error:
            for wire in wires.values():
                wire.refuse(str(error))
            raise
    for wire in wires.values():
        wire.send({"kind": "complete"})
    return Partners(0, wires)


def _missing(wires: Mapping[int, Wire], count: int, timeout: float) -> str:
    absent = [str(number) for number in range(1, count) if number not in wires]
    which = f"process {absent[0]}" if len(absent) == 1 else f"processes {', '.join(absent)}"
    return (
        f"{which} of {count} did not come within {timeout:g} s (--process_timeout); start all with one --coordinator_address and "
        "--num_processes, and each with a --process_id of its own"
    )


def _welcome(wire: Wire, wires: dict[int, Wire], count: int) -> None:
    """Take in a process that has connected; what is no process of a run is sent away."""
    hello = wire.receive(ANSWER_SECONDS)
    if hello is None or hello.get("kind") != "hello":
        wire.close()
        return
    number, problem = int(hello["process"]), None
    if hello["count"] != count:
        problem = f"--num_processes is {hello['count']} in process {number} and {count} in process 0; give all the same"
    elif number in wires:
        problem = f"two processes have --process_id={number}; give each of the {count} a number of its own, from 0"
    if problem is not None:
        wire.refuse(problem)
        raise UserError(problem)
    wire.send({"kind": "wait"})
    wires[number] = wire


def _visit(address: str, count: int, process: int, timeout: float) -> Partners:
    """The side of a process that is not the first."""
    wire = connect(address, timeout)
    wire.send({"kind": "hello", "process": process, "count": count})
    message = wire.receive(ANSWER_SECONDS)
    if message is None:
        wire.close()
        raise UserError(
            f"--coordinator_address={address}: what answers there is not waiting as process 0 of this run; is the port another "
            "program's, or has the run begun already?"
        )
    if message["kind"] == "wait":
        message = wire.receive(2 * timeout + ANSWER_SECONDS)  # the first may have come later
    if message is not None and message["kind"] == "complete":
        return Partners(process, {0: wire})
    wire.close()
    raise UserError(
        f"--coordinator_address={address}: process 0 ended while it waited for the others; its message says why"
        if message is None
        else str(message.get("reason"))
    )


class Relay:
    """A local address that stands for the first process's, for jax's client.

    The client ends its process within milliseconds where its connection breaks, before anything can be said; a broken connection
    beyond a relay is silence to it, and the partners' links tell who is gone.

    Args:
      address: HOST:PORT of the first process.
      timeout: seconds in which that must answer.
    Attributes:
      address: the local one.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self._target, self._timeout = address, timeout
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, name="vaex-relay", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near = self._server.accept()[0]
                threading.Thread(target=self._carry, args=(near,), name="vaex-relay", daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with contextlib.suppress(UserError):
            far = connect(self._target, self._timeout).socket
            self._open += [near, far]  # a socket that is forgotten is closed
            threading.Thread(target=_pump, args=(far, near), name="vaex-relay", daemon=True).start()
            if _pump(near, far):  # the client is done
                near.close()
                far.close()


def _pump(source: socket.socket, target: socket.socket) -> bool:
    """Send on what comes; return whether the source has ended, rather than the target."""
    while True:
        try:
            data = source.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            return True
        try:
            target.sendall(data)
        except OSError:
            return False
