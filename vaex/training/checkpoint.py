"""Checkpoints by orbax: a torn one is passed over, and one that does not fit is refused by the name of the parameter."""

from __future__ import annotations

import logging
import pathlib
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree
from vaex.errors import UserError
from vaex.training import multihost

KEEP = 2
ITEM = "state"  # the one item of each checkpoint


class Checkpoints:
    """The checkpoints of one folder; each holds a pytree of arrays. The last two are kept.

    A process that is killed while it saves leaves no checkpoint, since orbax renames a finished one into place. What a
    crash of the machine or a broken copy leaves may be unreadable: it is passed over with a warning.

    Args:
      folder: made where it is missing.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     checkpoints = Checkpoints(pathlib.Path(folder))
      ...     checkpoints.save(5, {"w": np.arange(3, dtype=np.float32)})
      ...     restored = checkpoints.restore({"w": jax.ShapeDtypeStruct((3,), np.float32)})
      ...     checkpoints.close()
      >>> restored["w"].tolist()
      [0.0, 1.0, 2.0]
    """

    def __init__(self, folder: pathlib.Path) -> None:
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports each save
        self._ocp = ocp
        self.folder = folder.resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, enable_async_checkpointing=False)
        handlers = {ITEM: ocp.StandardCheckpointHandler()}  # without them, metadata of another process reads as None
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        self._readable: dict[int, bool] = {}

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint, or None. One that was there before is read once, to see that it is whole."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            if step not in self._readable:
                self._readable[step] = self._can_read(step)
                if not self._readable[step]:
                    warnings.warn(f"{self.folder / str(step)} can't be read and is passed over", stacklevel=2)
            if self._readable[step]:
                return step
        return None

    def save(self, step: int, tree: PyTree) -> None:
        """Write ``tree`` as the checkpoint of ``step``, which must be newer than the latest.

        An unreadable checkpoint is first moved out of the way, to ``<step>.torn``.

        Raises: ValueError for an older step, which orbax would skip silently.
        """
        latest = self.latest()
        if latest is not None and step <= latest:
            raise ValueError(f"Checkpoints.save: step {step} is not newer than the latest, {latest}")
        torn = [saved for saved, readable in self._readable.items() if not readable]
        for saved in torn:
            if multihost.is_first():
                (self.folder / str(saved)).replace(self.folder / f"{saved}.torn")
            del self._readable[saved]
        if torn:
            multihost.agree(0)  # all wait for the first
            self._manager.reload()
        if not self._manager.save(step, args=self._ocp.args.Composite(**{ITEM: self._ocp.args.StandardSave(tree)})):
            raise ValueError(f"Checkpoints.save: orbax did not write step {step} in {self.folder}")
        self._readable[step] = True

    def restore(self, template: PyTree, step: int | None = None) -> PyTree:
        """The tree of ``step`` (the latest where None), with the structure, dtypes and shardings of ``template``.

        Args:
          template: arrays or ShapeDtypeStructs; device placement is taken from their shardings.
          step: which checkpoint.
        Raises: UserError where there is none, or where a parameter is missing or has another shape or dtype.
        """
        latest = self.latest() if step is None else step
        if latest is None:
            raise UserError(f"{self.folder}: holds no whole checkpoint; train the run first")
        if latest not in self._manager.all_steps():
            known = ", ".join(map(str, sorted(self._manager.all_steps()))) or "none"
            raise UserError(f"{self.folder}: holds no checkpoint of step {latest}; there are: {known}")
        where = self.folder / str(latest)
        _check(where, template, self._stored(latest))
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_sharding(leaf)), template
        )
        args = self._ocp.args.Composite(**{ITEM: self._ocp.args.StandardRestore(abstract)})
        restored = self._manager.restore(latest, args=args)[ITEM]
        _check(where, template, restored)  # only now is it known which leaves were keys, and of which kind
        return restored

    def _stored(self, step: int) -> PyTree:
        """Shapes and dtypes of what ``step`` holds, keys as their words."""
        metadata: Any = self._manager.item_metadata(step)
        item: Any = None if metadata is None else metadata[ITEM]
        return getattr(item, "tree", item)

    def _can_read(self, step: int) -> bool:
        ocp = self._ocp
        try:
            stored = self._stored(step)
            arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                reader.restore(self.folder / str(step) / ITEM, args=ocp.args.PyTreeRestore(restore_args=arrays))
        except Exception:  # orbax, tensorstore and the file system each raise their own
            return False
        return stored is not None

    def close(self) -> None:
        """Wait for what is being written and let go of the folder."""
        self._manager.close()


def _sharding(leaf: Any) -> jax.sharding.Sharding:
    sharding = getattr(leaf, "sharding", None)
    return sharding if sharding is not None else jax.sharding.SingleDeviceSharding(jax.devices()[0])


def _names(tree: PyTree) -> dict[str, Any]:
    """Path -> leaf, with the same path for a named tuple's field, a dictionary's key and a list's index."""

    def part(key: Any) -> str:
        return str(next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name)))

    return {"/".join(map(part, path)): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _check(where: pathlib.Path, template: PyTree, stored: PyTree) -> None:
    """Raise UserError unless ``stored`` has the names, shapes and dtypes of ``template``; in metadata, keys are words."""
    expected, given = _names(template), _names(stored)
    for name in sorted(expected.keys() | given.keys()):
        if name not in given or name not in expected:
            lacks = "checkpoint" if name not in given else "model"
            raise UserError(
                f"{where}: the {lacks} lacks {name}; it was saved by another configuration or version of the model"
            )
        want, have = expected[name], given[name]
        held = want
        if _is_key(want) and not isinstance(have, jax.Array):
            held = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(want.shape, want.dtype))
        if tuple(have.shape) != tuple(held.shape) or have.dtype != held.dtype:
            raise UserError(
                f"{where}: {name} has shape {tuple(have.shape)} and dtype {have.dtype}, the model needs {tuple(want.shape)} "
                f"and {want.dtype}; it was saved by another configuration of the model"
            )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
