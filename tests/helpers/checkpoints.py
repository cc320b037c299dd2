"""Checkpoints read without a model, and compared bit for bit."""

from __future__ import annotations

import pathlib

import jax
import numpy as np

from vaex.training.checkpoint import Checkpoints
from vaex.training.parts import names


def stored(directory: pathlib.Path) -> tuple[int, dict[str, np.ndarray]]:
    """The newest checkpoint of a run: its step, and its arrays by their path in the tree."""
    checkpoints = Checkpoints(directory / "checkpoints")
    step, tree = checkpoints.latest(), checkpoints.read()
    checkpoints.close()

    def array(leaf) -> np.ndarray:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    assert step is not None
    return step, {name: array(leaf) for name, leaf in names(tree).items()}


def assert_same_arrays(first: pathlib.Path, second: pathlib.Path, member: int | None = None) -> None:
    """The newest checkpoints of two runs hold the same bits; with ``member``, that member of the first and the only one of the
    second."""
    (step, arrays), (other_step, others) = stored(first), stored(second)
    assert step == other_step and arrays.keys() == others.keys() and len(arrays) > 10
    for name, values in arrays.items():
        values = values if member is None else values[member : member + 1]
        assert values.dtype == others[name].dtype and values.tobytes() == others[name].tobytes(), name
