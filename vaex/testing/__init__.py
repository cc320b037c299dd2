"""The laws that every model keeps, for vaex's own and for yours: ``check_model("my_package.my_module")``.

Each law takes a ``Subject`` (a stage of a model on its TINY config and small random images) and raises AssertionError where the
model breaks it. Sharding laws use as many devices as there are (eight virtual ones in vaex's own tests).
"""

from __future__ import annotations

import time
import types
from collections.abc import Iterable

from vaex.testing.laws import LAWS
from vaex.testing.subject import Subject, subject, subjects

__all__ = ["LAWS", "Subject", "check_model", "subject", "subjects"]


def check_model(model: str | types.ModuleType, laws: Iterable[str] = ()) -> dict[str, float]:
    """Run the laws (all by default) on every stage of a model: a name of the registry, a dotted path, or the module itself.

    Returns: law -> seconds it took.
    Raises: AssertionError, from the first law that the model breaks.
    """
    stages = subjects(model)
    seconds = {}
    for name in laws or LAWS:
        began = time.perf_counter()
        for it in stages:
            LAWS[name](it)
        seconds[name] = time.perf_counter() - began
    return seconds
