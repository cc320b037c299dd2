"""Messages between processes: JSON lines over a TCP connection."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from vaex.errors import UserError

Message = Mapping[str, Any]
MOST_BYTES = 1 << 22  # of a message


class Wire:
    """A connection that carries messages, each a JSON object with a "kind" in a line of its own.

    Args:
      connection: an open socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._rest, self._lock = b"", threading.Lock()
        connection.settimeout(None)

    def send(self, message: Message) -> None:
        """Send a message, from any thread.

        Raises: OSError where the connection is broken.
        """
        with self._lock:
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float | None = None) -> dict[str, Any] | None:
        """Return the next message; None where the connection ends, nothing comes in time, or what comes is no message."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._rest:
            with contextlib.suppress(OSError, ValueError):  # ValueError: closed meanwhile
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if select.select([self.socket], [], [], left)[0] and (data := self.socket.recv(1 << 16)):
                    self._rest += data
                    if len(self._rest) <= MOST_BYTES:
                        continue
            return None
        line, self._rest = self._rest.split(b"\n", 1)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return message if isinstance(message, dict) and "kind" in message else None

    def refuse(self, reason: str) -> None:
        """Send the other side away."""
        with contextlib.suppress(OSError):
            self.send({"kind": "refused", "reason": reason})
        self.close()

    def is_closed(self) -> bool:
        """Return True if the other side has gone."""
        try:
            return bool(select.select([self.socket], [], [], 0)[0]) and not self.socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def close(self) -> None:
        """End the connection, also for a thread that waits for a message."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of HOST:PORT.

    Raises: UserError for another text.
    Example:
      >>> host_and_port("[::1]:8476")
      ('::1', 8476)
    """
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 1 << 16:
        raise UserError(
            f"--coordinator_address={address}: expected HOST:PORT of the first process, with --num_processes and --process_id"
        )
    return host.strip("[]"), int(port)


def listen(address: str) -> socket.socket:
    """Listen at the port of an address on all interfaces of this machine.

    Raises: UserError where the port is taken.
    """
    port = host_and_port(address)[1]
    both = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise UserError(
            f"--coordinator_address={address}: process 0 can't listen at port {port} of this machine ({error.strerror or error}); "
            "end what has it, which may be another --process_id=0, or choose another port for all"
        ) from None


def connect(address: str, timeout: float) -> Wire:
    """Connect to an address as soon as something listens there.

    Raises: UserError where nothing does within ``timeout`` seconds.
    """
    deadline, problem = time.monotonic() + timeout, "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            return Wire(socket.create_connection(host_and_port(address), timeout=max(0.1, min(left, 10.0))))
        except OSError as error:
            problem = error.strerror or str(error)
            time.sleep(min(0.2, left))
    raise UserError(
        f"process 0 did not answer at --coordinator_address={address} within {timeout:g} s (--process_timeout): {problem}; start "
        "it, and give an address at which all reach it"
    )
