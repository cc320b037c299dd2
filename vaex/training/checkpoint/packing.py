"""All arrays of a tree as one vector of bytes, which takes one file, and the layout from which they are made again.

Tensorstore keeps some memory for ever of each array that it writes, and its database format leaves more in pieces, so that a run
which saves often would grow. A vector in a file of its own leaves a few KB a save.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree

ALIGNMENT = 64  # bytes


class Entry(TypedDict):
    """An array of the layout.

    Attributes:
      path: names and indices that lead to it.
      shape: of the array; of the words, where it is an array of keys.
      dtype: its name.
      key: kind of the keys, None where the array is none.
    """

    path: list[str | int]
    shape: list[int]
    dtype: str
    key: str | None


def is_key(leaf: Any) -> bool:
    """Return True for an array of typed PRNG keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def pack(tree: PyTree) -> tuple[np.ndarray, list[Entry]]:
    """Return the bytes of all arrays, each from a multiple of 64 bytes on, and their layout, which JSON can hold.

    Example:
      >>> data, layout = pack({"a": np.arange(3, dtype=np.uint8), "b": [np.float32(1.0)]})
      >>> data.shape, layout[1]
      ((68,), {'path': ['b', 0], 'shape': [], 'dtype': 'float32', 'key': None})
    """
    arrays, layout = [], []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        kind = str(jax.random.key_impl(leaf)) if is_key(leaf) else None
        array = np.asarray(leaf if kind is None else jax.random.key_data(leaf))
        arrays.append(array)
        name = [_step(key) for key in path]
        layout.append(Entry(path=name, shape=list(array.shape), dtype=array.dtype.name, key=kind))
    starts, end = _starts(layout)
    data = np.zeros(end, np.uint8)
    for array, start in zip(arrays, starts, strict=True):
        data[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return data, layout


def unpack(data: np.ndarray, layout: Sequence[Entry]) -> PyTree:
    """Invert ``pack``: dictionaries and lists of NumPy's arrays, and of keys.

    Raises: ValueError where the layout is of other data.
    Example:
      >>> unpack(*pack({"a": [np.arange(3), np.ones(2, bool)]}))
      {'a': [array([0, 1, 2]), array([ True,  True])]}
    """
    starts, end = _starts(layout)
    if data.shape != (end,) or data.dtype != np.uint8:
        raise ValueError(f"unpack: data is {data.dtype}{list(data.shape)}, the layout is of uint8[{end}]")

    def array(entry: Entry, start: int) -> np.ndarray | jax.Array:
        values = data[start : start + _size(entry)].view(jnp.dtype(entry["dtype"])).reshape(entry["shape"]).copy()
        return values if entry["key"] is None else jax.random.wrap_key_data(jnp.asarray(values), impl=entry["key"])

    return _tree(layout, map(array, layout, starts))


def _step(key: Any) -> str | int:
    """Return a field's name, a dictionary's key or a list's index."""
    if isinstance(key, jax.tree_util.SequenceKey):
        return key.idx
    return str(next(getattr(key, name) for name in ("key", "name") if hasattr(key, name)))


def _size(entry: Entry) -> int:
    return int(np.prod(entry["shape"], dtype=np.int64)) * jnp.dtype(entry["dtype"]).itemsize


def _starts(layout: Sequence[Entry]) -> tuple[list[int], int]:
    """Return where each array begins, and where the last one ends."""
    starts, end = [], 0
    for entry in layout:
        starts.append(-(-end // ALIGNMENT) * ALIGNMENT)
        end = starts[-1] + _size(entry)
    return starts, end


def _tree(layout: Sequence[Entry], arrays: Iterable[Any]) -> PyTree:
    """Return dictionaries and lists of the arrays of a layout."""
    nested: dict[str | int, Any] = {}
    for entry, array in zip(layout, arrays, strict=True):
        *branches, last = entry["path"] or [""]
        node = nested
        for branch in branches:
            node = node.setdefault(branch, {})
        node[last] = array
    tree = _with_lists(nested)
    return tree[""] if layout and not layout[0]["path"] else tree


def _with_lists(node: Any) -> Any:
    """Return nodes whose keys are all indices as lists."""
    if not isinstance(node, dict):
        return node
    branches = {name: _with_lists(branch) for name, branch in node.items()}
    if branches and all(isinstance(name, int) for name in branches):
        return [
            branches.get(index, []) for index in range(1 + max(map(int, branches)))
        ]  # of empty ones there is no entry
    return branches
