"""Models of installed packages, which name them by entry points of the group ``vaex.models``.

In the pyproject.toml of such a package::

    [project.entry-points."vaex.models"]
    my_vae = "my_package.my_vae"
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Collection
from typing import NamedTuple

GROUP = "vaex.models"


class InstalledModel(NamedTuple):
    """Model of an installed package.

    Attributes:
      module: dotted path of its module, with Config, HParams and build.
      package: distribution that it comes from, with its version.
      problem: why its name cannot be used; "" where it can.
    """

    module: str
    package: str
    problem: str


@functools.cache
def installed_models() -> dict[str, InstalledModel]:
    """Return name -> model of the installed packages, by name; nothing of them is imported."""
    from vaex.models.registry import MODELS

    points = sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    packages: dict[str, set[str]] = {}
    for point in points:
        packages.setdefault(point.name, set()).add(_package(point))
    models: dict[str, InstalledModel] = {}
    for point in points:
        problem = _problem(point, packages[point.name], MODELS)
        models[point.name] = InstalledModel(point.value, " and ".join(sorted(packages[point.name])), problem)
    return models


def _package(point: importlib.metadata.EntryPoint) -> str:
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _problem(point: importlib.metadata.EntryPoint, packages: Collection[str], ours: Collection[str]) -> str:
    if point.name in ours:
        return f"the name is that of a model of vaex; use --model={point.module}"
    if not point.name.isidentifier():
        return f"{point.name!r} is no name in letters, digits and underscores; use --model={point.module}"
    if len(packages) > 1:
        return "several packages give this name; uninstall all but one, or use the dotted path of its module"
    if point.attr:
        return f"{point.value} is no module; its entry point must be the dotted path of one"
    return ""
