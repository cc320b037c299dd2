"""Checkpoints read without a model, and compared bit for bit."""

from __future__ import annotations

import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp

from vaex.training.checkpoint import Checkpoints


def stored(directory: pathlib.Path) -> tuple[int, dict[str, np.ndarray]]:
    """The newest checkpoint of a run: its step, and its arrays by their path in the tree."""
    checkpoints = Checkpoints(directory / "checkpoints")
    step = checkpoints.latest()
    checkpoints.close()
    tree = ocp.StandardCheckpointer().restore((directory / "checkpoints" / str(step) / "state").resolve())

    def array(leaf) -> np.ndarray:
        is_key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    assert step is not None
    # words of keys lie a level deeper than keys, as which several processes keep them
    return step, {jax.tree_util.keystr(path).partition("['keys of ")[0]: array(leaf) for path, leaf in leaves}


def assert_same_arrays(first: pathlib.Path, second: pathlib.Path, member: int | None = None) -> None:
    """The newest checkpoints of two runs hold the same bits; with ``member``, that member of the first and the only one of the
    second."""
    (step, arrays), (other_step, others) = stored(first), stored(second)
    assert step == other_step and arrays.keys() == others.keys() and len(arrays) > 10
    for name, values in arrays.items():
        values = values if member is None else values[member : member + 1]
        assert values.dtype == others[name].dtype and values.tobytes() == others[name].tobytes(), name
