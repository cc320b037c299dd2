"""Measurement on a shared machine: functions interleaved, repeats under foreign load dropped, medians quoted."""

from __future__ import annotations

import os
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

FOREIGN = 0.12  # of one core; a repeat during which other processes used more does not count


class Timing(NamedTuple):
    """Seconds of the repeats that count, and how many did not."""

    seconds: list[float]
    dropped: int

    @property
    def median(self) -> float:
        """Median seconds of the repeats that count."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, relative to the median."""
        if len(self.seconds) < 4:
            return float("nan")
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median


class Worked(NamedTuple):
    """Times that a worker process reports: seconds of the clock, and CPU seconds of all its threads."""

    seconds: float
    cpu_seconds: float


def program_bytes(compiled: Any) -> int | None:
    """Return the bytes that a program compiled by jax holds: arguments, results and temporaries, donated ones once."""
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    parts = (memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes)
    return sum(parts) - memory.alias_size_in_bytes


def _busy() -> float | None:
    """Return the CPU seconds that the machine has spent since it started, or None without /proc."""
    path = pathlib.Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _idle, _iowait, irq, softirq, *rest = (
        int(field) for field in path.read_text().split("\n")[0].split()[1:]
    )
    steal = rest[0] if rest else 0
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _process_seconds() -> float:
    """Return the CPU seconds of this process and of the children that it has waited for."""
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def interleave(
    functions: Mapping[str, Callable[[], float | Worked | None]],
    *,
    repeats: int,
    warm_up: int = 1,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Timing]:
    """Time each function ``repeats`` times, in turn.

    A repeat counts only if foreign processes used less than ``FOREIGN`` of a core meanwhile; where no repeat does, all count and
    ``dropped`` equals ``repeats``. The machine counts CPU time in hundredths of a second, so a repeat should take some tenths.

    Args:
      functions: name -> function. It must have finished its work when it returns: block on its results, wait for its child
        processes. A function that measures for itself returns its seconds; one that has a worker process do the work returns
        ``Worked``.
      repeats: of each function.
      warm_up: calls of each function before the first repeat.
      tell: called with a line about the repeat that comes next.
    Returns: name -> timing.
    """
    for _ in range(warm_up):
        for function in functions.values():
            function()
    clean: dict[str, list[float]] = {name: [] for name in functions}
    every: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for index in range(repeats):
        for name in names if index % 2 == 0 else reversed(names):
            tell(f"repeat {index + 1} of {repeats}: {name}")
            busy = _busy()
            spent, began = 0.0 if busy is None else _process_seconds(), time.perf_counter()
            measured = functions[name]()
            wall = time.perf_counter() - began
            seconds, workers = measured if isinstance(measured, Worked) else (measured, 0.0)
            seconds = wall if seconds is None else seconds
            every[name].append(seconds)
            after = _busy()
            ours = _process_seconds() - spent + workers
            foreign = 0.0 if busy is None or after is None else (after - busy - ours) / wall
            if foreign < FOREIGN:
                clean[name].append(seconds)
    return {name: Timing(clean[name] or every[name], repeats - len(clean[name])) for name in functions}
