"""The allocator of a process that trains for long: threads share glibc's arenas, and memory that a step frees serves the next."""

from __future__ import annotations

import contextlib
import os

# environment variable -> the number of the parameter in glibc's <malloc.h>
PARAMETERS = {"MALLOC_ARENA_MAX": -8, "MALLOC_MMAP_THRESHOLD_": -3, "MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_TOP_PAD_": -2}


def settings() -> dict[str, int]:
    """Return environment variable -> value: an arena for two cores, which grows by 64 MB, holds all arrays below 1 GB, and is
    trimmed only where a checkpoint is saved."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    arenas, never = max(1, cores // 2), 2**31 - 1
    return dict(zip(PARAMETERS, (arenas, 1 << 30, never, 64 << 20), strict=True))


def share_arenas() -> None:
    """Apply ``settings`` to this process, before its threads start; nothing without glibc, or where the user has set any of it.

    By default each thread has an arena, which grows by megabytes and whose top glibc keeps, so that memory of a run that saves
    often rises for hours. Fewer arenas without the other settings make steps slower.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    import ctypes  # takes milliseconds, which --help does without

    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in settings().items():
            mallopt(PARAMETERS[name], value)
