"""Free memory of the machine, within the limits that a container or a batch system sets."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator

SHARE = 0.4  # of the free memory: larger training data stays on the disk, or on the host

# of each version of cgroups: where the groups lie, the limit, what is used, and which of that is cache of files
VERSION_2 = ("sys/fs/cgroup", "memory.max", "memory.current", ("active_file", "inactive_file"))
VERSION_1 = (
    "sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)


def free_memory(root: pathlib.Path = pathlib.Path("/")) -> float:
    """Return the bytes of memory that this process may still take, by the machine and by its control groups.

    Pages that only cache files count as free, as in Linux's MemAvailable: the system drops them when memory is short.

    Args:
      root: where proc and sys lie.
    Returns: bytes, 0 or more; infinite where the system does not tell.
    Example:
      >>> free_memory() > 0
      True

    References: the Linux kernel's documentation of cgroup-v2 and of cgroup-v1/memory.
    """
    available = _numbers(root / "proc/meminfo").get("MemAvailable:", math.inf) * 1024
    return max(0.0, min(available, *_left_in_groups(root), math.inf))


def _left_in_groups(root: pathlib.Path) -> Iterator[float]:
    """Yield the bytes left in each control group of this process and in each group that contains it; all limits apply."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            version = VERSION_2
        elif "memory" in controllers.split(","):
            version = VERSION_1
        else:
            continue
        top = root / version[0]
        # in a container the group's folder may be mounted as the top, while its path is told as the host sees it
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            yield _left(folder, *version[1:])


def _left(folder: pathlib.Path, limit_name: str, used_name: str, cached_names: tuple[str, ...]) -> float:
    """Return the bytes left in one group; infinite without a limit ("max", a number beyond any memory, or no file)."""
    limit, used = (_text(folder / name).strip() for name in (limit_name, used_name))
    if not (limit.isdecimal() and used.isdecimal()):
        return math.inf
    counted = _numbers(folder / "memory.stat")
    return float(limit) - max(0.0, float(used) - sum(counted.get(name, 0.0) for name in cached_names))


def _numbers(path: pathlib.Path) -> dict[str, float]:
    """Return the first number of each line, by the line's first word."""
    fields = (line.split() for line in _text(path).splitlines())
    return {line[0]: float(line[1]) for line in fields if len(line) > 1 and line[1].isdecimal()}


def _text(path: pathlib.Path) -> str:
    """Return the text of a file; "" where it is missing or cannot be read."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
