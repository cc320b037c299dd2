"""Worker processes, one per framework, so that their thread pools and allocators do not disturb each other."""

from __future__ import annotations

import os
import pathlib
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from vaex.cli import allocator
from vaex.errors import UserError

# glibc keeps the memory of large arrays for reuse instead of mapping and page-faulting it at every step
TUNED_ALLOCATOR = {name: str(value) for name, value in allocator.settings().items()}


class OutOfMemory(UserError):
    """The device or machine of a worker lacks memory for a contestant."""


class Worker:
    """A process that waits for requests; waiting costs nothing."""

    def __init__(self, *, device: str | None = None, devices: int = 1, extra: Mapping[str, str] | None = None):
        """Start the process.

        Args:
          device: "cpu" keeps jax off accelerators.
          devices: virtual CPU devices that jax sees.
          extra: environment variables, such as ``TUNED_ALLOCATOR``.
        """
        here = pathlib.Path(__file__).resolve().parent
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        flags = [flag for flag in environment.get("XLA_FLAGS", "").split() if "device_count" not in flag]
        environment["XLA_FLAGS"] = " ".join([*flags, f"--xla_force_host_platform_device_count={devices}"])
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(here), str(here.parent), environment.get("PYTHONPATH", "")])
        )
        if device == "cpu":
            environment |= {"JAX_PLATFORMS": "cpu"}
        self._process = subprocess.Popen(
            [sys.executable, str(here / "serve.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | dict(extra or {}),
        )

    def ask(self, method: str, **arguments: Any) -> Any:
        """Call a method of the worker's ``Handler`` and return its result.

        Raises: UserError with the worker's message; OutOfMemory where memory ran out; RuntimeError with the worker's
          traceback for a defect, or where the process has died.
        """
        assert self._process.stdin and self._process.stdout
        try:
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()
            kind, value = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            code = self._process.wait()
            if code == -9:
                raise UserError("a worker process was killed, most likely for memory; measure less at a time") from None
            raise RuntimeError(f"a worker process ended with code {code} during {method}") from None
        if kind == "user":
            raise UserError(value)
        if kind == "memory":
            raise OutOfMemory(value)
        if kind == "error":
            raise RuntimeError(f"in a worker process:\n{value}")
        return value

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
