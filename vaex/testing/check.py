"""Laws run on every stage of a model, and what came of them: passed, or skipped with a reason."""

from __future__ import annotations

import time
import types
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from vaex.testing.laws import LAWS
from vaex.testing.subject import NothingToCheck, Subject, build_subjects


class LawResult(NamedTuple):
    """Result of a law that the model does not break.

    ``seconds``: wall time. ``skipped``: why the law had nothing to check on any stage of the model; "" where it passed.
    """

    seconds: float
    skipped: str = ""


def check_law(law: str, subjects: Sequence[Subject]) -> None:
    """Check one law on every stage of a model.

    Args:
      law: a name of ``LAWS``.
      subjects: from ``build_subjects``.
    Raises: AssertionError where a stage breaks the law; ``NothingToCheck`` where no stage has what the law is about.
    """
    reasons = []
    for subject in subjects:
        try:
            LAWS[law](subject)
        except NothingToCheck as nothing:
            reasons.append(str(nothing))
    if len(reasons) == len(subjects):
        raise NothingToCheck("; ".join(dict.fromkeys(reasons)))


def check_model(
    model: str | types.ModuleType, laws: Iterable[str] = (), *, shape: tuple[int, ...] | None = None, **options: Any
) -> dict[str, LawResult]:
    """Check laws on every stage of a model.

    Args:
      model: a name of the registry, a dotted path, or the module itself.
      laws: names of ``LAWS``; all by default.
      shape: of an image; by default ``SHAPE`` of the module, the only one that its networks fit, or else (8, 8, 1).
      options: of the model that differ from its TINY config, such as an encoder and a decoder of your own, which are tried at
        ``shape`` alone.
    Returns: law -> ``LawResult``, which tells laws that passed from those that had nothing to check.
    Raises: AssertionError, from the first law that the model breaks.
    Example:
      >>> report = check_model("vae", ["groups_keep_apart"])  # doctest: +SKIP
      >>> report["groups_keep_apart"].skipped  # doctest: +SKIP
      'the model has one parameter group'
    """
    subjects = build_subjects(model, shape, **options)
    report = {}
    for law in laws or LAWS:
        began, skipped = time.perf_counter(), ""
        try:
            check_law(law, subjects)
        except NothingToCheck as nothing:
            skipped = str(nothing)
        report[law] = LawResult(time.perf_counter() - began, skipped)
    return report
