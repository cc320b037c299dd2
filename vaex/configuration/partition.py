"""A sweep over several jobs: which of its runs, and which members of these, belong to one part."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vaex.configuration.settings import Settings, varied
from vaex.errors import UserError


def read_part(text: str) -> tuple[int, int]:
    """Return the number of a part, from 1, and how many there are.

    Raises: UserError for another text.
    Example:
      >>> read_part("3/16")
      (3, 16)
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = (int(match.group(1)), int(match.group(2))) if match else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--part={text}: expected the number of a part and how many there are, from 1/16 to 16/16")
    return number, count


def share(total: int, number: int, count: int) -> range:
    """Return which of ``total`` consecutive entries belong to a part; the parts cover each once, their sizes differ by one at most.

    Example:
      >>> [list(share(5, number, 2)) for number in (1, 2)]
      [[0, 1], [2, 3, 4]]
    """
    return range((number - 1) * total // count, number * total // count)


def part_of(text: str, runs: Mapping[str, Settings]) -> dict[str, Settings]:
    """Return the runs of one part, with the members that belong to it.

    The entries that are shared out are the combinations of hyperparameters of each run, in the order of the runs, each with all its
    seeds, so that a mean over seeds is never divided.

    Args:
      text: such as "3/16".
      runs: name -> settings of all runs of the sweep, in order.
    Returns: name with "part=3of16" -> settings.
    Raises: UserError for another text, or where there are more parts than entries.
    """
    number, count = read_part(text)
    entries = [
        (name, first)
        for name, settings in runs.items()
        for first in range(0, len(settings.members), len(settings.run.seeds))
    ]
    if count > len(entries):
        raise UserError(
            f"--part={text}: there are {len(entries)} combinations of options and hyperparameters (seeds of one stay together); "
            f"give at most {len(entries)} parts"
        )
    chosen: dict[str, list[int]] = {}
    for index in share(len(entries), number, count):
        name, first = entries[index]
        chosen.setdefault(name, []).append(first)
    parts = {}
    for name, firsts in chosen.items():
        settings = runs[name]
        members = tuple(settings.members[first + i] for first in firsts for i in range(len(settings.run.seeds)))
        label = "_".join(filter(None, [name, f"part={number}of{count}"]))
        parts[label] = settings._replace(members=members, varied=varied(members))
    return parts
