"""Types of values that come from JSON files, compared with what their reader expects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}


def mismatch(value: object, kind: object, name: str = "") -> str | None:
    """Return the first place at which a value is not of a kind, with what it is and what was expected; None where it fits.

    Args:
      value: as ``read_json`` returns it.
      kind: int, float, str, bool, dict or list; None; ``object`` for anything; a tuple of kinds, one of which fits; a set of the
        values that are known; [kind] for a list; {name: kind} for a mapping, in which a name that ends in "?" may be missing, and
        ``...`` stands for all other names, which may be anything where it is not given.
      name: of the value, in the result.
    Example:
      >>> mismatch({"seeds": [1, "b"]}, {"seeds": [int], "steps?": int})
      "seeds.1 is 'b', expected a whole number"
    """
    if isinstance(kind, tuple):
        problems = [mismatch(value, choice, name) for choice in kind]
        if None in problems:
            return None
        deeper = [problem for problem, choice in zip(problems, kind, strict=True) if _is_outer(value, choice)]
        return deeper[0] if deeper else _unexpected(value, kind, name)
    if isinstance(kind, Mapping) and isinstance(value, Mapping):
        return _of_mapping(value, kind, name)
    if isinstance(kind, list) and isinstance(value, list):
        return next(
            (problem for at, entry in enumerate(value) if (problem := mismatch(entry, kind[0], _below(name, at)))), None
        )
    return None if _fits(value, kind) else _unexpected(value, kind, name)


def _of_mapping(value: Mapping[str, Any], kind: Mapping[Any, Any], name: str) -> str | None:
    expected = {str(key).removesuffix("?"): below for key, below in kind.items() if key is not ...}
    for key in kind:
        if key is not ... and not key.endswith("?") and key not in value:
            return f"{_below(name, key)} is missing"
    for key, entry in value.items():
        problem = mismatch(entry, expected.get(key, kind.get(..., object)), _below(name, key))
        if problem is not None:
            return problem
    return None


def _below(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _is_outer(value: object, kind: object) -> bool:
    """Return True if value and kind are both mappings, or both lists, so that the problem lies further in."""
    return any(isinstance(kind, outer) and isinstance(value, outer) for outer in (Mapping, list))


def _fits(value: object, kind: object) -> bool:
    if kind is None or kind is object:
        return kind is object or value is None
    if isinstance(kind, set | frozenset):
        return isinstance(value, str) and value in kind
    if not isinstance(kind, type) or (isinstance(value, bool) and kind is not bool):
        return False
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, kind)


def _unexpected(value: object, kind: object, name: str) -> str:
    shown = " ".join(repr(value).split())
    return f"{name or 'the content'} is {shown:.40}, expected {_described(kind)}"


def _described(kind: object) -> str:
    if isinstance(kind, tuple):
        return " or ".join(_described(choice) for choice in kind)
    if isinstance(kind, set | frozenset):
        return "one of " + ", ".join(sorted(kind))
    if isinstance(kind, Mapping):
        return _NAMES[dict]
    if isinstance(kind, list):
        return _NAMES[list]
    return "null" if kind is None else _NAMES[kind]
