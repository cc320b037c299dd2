"""Digests within JSON files, by which a reader notices that they hold something else than was written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

DIGEST = "digest"


def digest(value: object) -> str:
    """Return eight hexadecimal digits that stand for a JSON value.

    Example:
      >>> digest({"a": 1, "b": [2.5]}) == digest({"b": [2.5], "a": 1})
      True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with a digest of its other entries as the last one."""
    written = {name: value for name, value in content.items() if name != DIGEST}
    return {**written, DIGEST: digest(json.loads(json.dumps(written)))}


def is_as_written(content: Mapping[str, Any]) -> bool:
    """Return False if the digest in a mapping is not that of its other entries, or its last entry looks like one with a damaged
    name; earlier versions wrote none.

    Example:
      >>> is_as_written(with_digest({"a": 1})), is_as_written({**with_digest({"a": 1}), "a": 3}), is_as_written({"a": 1})
      (True, False, True)
    """
    if DIGEST in content:
        return content[DIGEST] == with_digest(content)[DIGEST]
    last = list(content.values())[-1:]
    return not any(isinstance(value, str) and re.fullmatch("[0-9a-f]{8}", value) for value in last)
