"""Variables by name, and parts of them: what a name such as "encoder" stands for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax

from vaex.core import PyTree, Variables


def names(tree: PyTree) -> dict[str, Any]:
    """Path -> leaf, with the same path for a named tuple's field, a dictionary's key and a list's index.

    Example:
      >>> names({"vae": {"encoder": [1.0, 2.0]}})
      {'vae/encoder/0': 1.0, 'vae/encoder/1': 2.0}
    """
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(
        str(next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name))) for key in path
    )


def variable_names(variables: Variables) -> dict[str, Any]:
    """Name -> array of all variables: ``group/...`` of parameters, ``state/...`` of what changes without a gradient."""
    return names(_joined(variables))


def _joined(variables: Variables) -> dict[str, PyTree]:
    return {**variables.params, "state": variables.state}


def is_part(name: str, parts: Collection[str]) -> bool:
    """Return True if a variable belongs to one of the parts, which are beginnings of names; their group may be left out.

    Example:
      >>> is_part("vae/encoder/output/bias", ["encoder"]), is_part("vae/encoder/output/bias", ["vae/encoder/hidden_0"])
      (True, False)
    """
    below = name.partition("/")[2]
    return any(f"{candidate}/".startswith(f"{part}/") for part in parts for candidate in (name, below))


def part_names(variable_names: Collection[str]) -> list[str]:
    """Return the parts that these variables have: what lies right below their groups.

    Example:
      >>> part_names(["vae/encoder/output/bias", "vae/decoder/output/bias", "critic/output/bias"])
      ['encoder', 'decoder', 'critic']
    """

    def part(name: str) -> str:
        group, _, below = name.partition("/")
        inner = below.partition("/")
        return inner[0] if group in ("vae", "state") and inner[2] else group

    return list(dict.fromkeys(part(name) for name in variable_names))


def replaced(variables: Variables, given: Mapping[str, jax.Array]) -> Variables:
    """Variables with those of ``given``, by name, in place of their own."""
    return _map(lambda name, leaf: given.get(name, leaf), variables)


def kept(old: Variables, new: Variables, parts: Collection[str]) -> Variables:
    """``new`` with the variables of the parts as they are in ``old``."""
    before = variable_names(old)
    return _map(lambda name, leaf: before[name] if is_part(name, parts) else leaf, new)


def without_gradient(params: dict[str, PyTree], parts: Collection[str]) -> dict[str, PyTree]:
    """``params`` through which no gradient reaches the parts."""
    return _map(
        lambda name, leaf: jax.lax.stop_gradient(leaf) if is_part(name, parts) else leaf, Variables(params)
    ).params


def _map(change: Callable[[str, Any], Any], variables: Variables) -> Variables:
    changed = jax.tree_util.tree_map_with_path(lambda path, leaf: change(_name(path), leaf), _joined(variables))
    state = changed.pop("state")
    return Variables(changed, state)
