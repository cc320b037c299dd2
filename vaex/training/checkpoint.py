"""Checkpoints by orbax: a torn one is never read, and one that does not fit is refused by the name of the parameter."""

from __future__ import annotations

import logging
import pathlib
from typing import Any

import jax
import numpy as np

from vaex.core import PyTree
from vaex.errors import UserError

KEEP = 2


class Checkpoints:
    """The checkpoints of one folder; each holds a pytree of arrays. The last two are kept.

    Args:
      folder: made where it is missing.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports each save
        self._ocp = ocp
        self.folder = folder.resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False)
        handlers = {"state": ocp.StandardCheckpointHandler()}  # without them, metadata of another process reads as None
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, tree: PyTree) -> None:
        """Write ``tree`` as the checkpoint of ``step``, which must be newer than the latest.

        Raises: ValueError for an older step, which orbax would skip silently.
        """
        latest = self.latest()
        if latest is not None and step <= latest:
            raise ValueError(f"Checkpoints.save: step {step} is not newer than the latest, {latest}")
        self._manager.save(step, args=self._ocp.args.Composite(state=self._ocp.args.StandardSave(tree)))

    def restore(self, template: PyTree, step: int | None = None) -> PyTree:
        """The tree of ``step`` (the latest where None), with the structure, dtypes and shardings of ``template``.

        Args:
          template: arrays or ShapeDtypeStructs; device placement is taken from their shardings.
          step: which checkpoint.
        Raises: UserError where there is none, or where a parameter is missing or has another shape or dtype.
        """
        step = self.latest() if step is None else step
        if step is None:
            raise UserError(f"{self.folder}: holds no whole checkpoint; train the run first")
        metadata = self._manager.item_metadata(step)
        stored: Any = None if metadata is None else metadata.state  # an item of the Composite above
        _check(self.folder / str(step), template, stored.tree if hasattr(stored, "tree") else stored)
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_sharding(leaf)), template
        )
        args = self._ocp.args.Composite(state=self._ocp.args.StandardRestore(abstract))
        return self._manager.restore(step, args=args).state

    def close(self) -> None:
        """Wait for what is being written and let go of the folder."""
        self._manager.close()


def _sharding(leaf: Any) -> jax.sharding.Sharding:
    found = getattr(leaf, "sharding", None)
    return found if found is not None else jax.sharding.SingleDeviceSharding(jax.devices()[0])


def _names(tree: PyTree) -> dict[str, Any]:
    """Path -> leaf, with the same path for a named tuple's field, a dictionary's key and a list's index."""

    def part(key: Any) -> str:
        return str(next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name)))

    return {"/".join(map(part, path)): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _check(where: pathlib.Path, template: PyTree, stored: PyTree) -> None:
    expected, found = _names(template), _names(stored)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            lacks = "checkpoint" if name not in found else "model"
            raise UserError(
                f"{where}: the {lacks} lacks {name}; it was saved by another configuration or version of the model"
            )
        leaf = expected[name]
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        shape, dtype = (leaf.shape, None) if is_key else (leaf.shape, np.dtype(leaf.dtype))
        stored_shape = tuple(found[name].shape)[: len(shape)] if is_key else tuple(found[name].shape)
        if stored_shape != tuple(shape) or (dtype is not None and np.dtype(found[name].dtype) != dtype):
            raise UserError(
                f"{where}: {name} has shape {stored_shape} and dtype {found[name].dtype}, the model needs {tuple(shape)} and "
                f"{dtype}; it was saved by another configuration of the model"
            )
