"""Checkpoints by orbax: a damaged one is passed over, and one that does not fit is refused by the name of the parameter."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import pathlib
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree
from vaex.errors import UserError
from vaex.files import read_json, write_json
from vaex.training import multihost
from vaex.training.parts import names

KEEP = 2
DIGESTS = "digests.json"  # of every array of every checkpoint, beside them
ITEM = "state"  # the one item of each checkpoint


class Checkpoints:
    """The checkpoints of one folder; each holds a pytree of arrays. The last two are kept.

    A process that is killed while it saves leaves no checkpoint, since orbax renames a finished one into place. What a
    crash of the machine, a failing disk or a broken copy leaves may be unreadable or hold other values: a digest of every array,
    kept beside the checkpoints, tells, and the checkpoint is passed over with a warning.

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
                damage = self._damage(step)
                self._readable[step] = damage is None
                if damage is not None:
                    warnings.warn(f"{self.folder / str(step)} {damage} and is passed over", stacklevel=2)
            if self._readable[step]:
                return step
        return None

    @property
    def damaged(self) -> tuple[int, ...]:
        """Steps of the checkpoints that ``latest`` has passed over."""
        return tuple(sorted(step for step, readable in self._readable.items() if not readable))

    def save(self, step: int, tree: PyTree) -> None:
        """Write ``tree`` as the checkpoint of ``step``, which must be newer than the latest.

        An unreadable checkpoint is first moved out of the way, to ``<step>.torn``.

        Raises: ValueError for an older step, which orbax would skip silently.
        """
        latest = self.latest()
        if latest is not None and step <= latest:
            raise ValueError(f"Checkpoints.save: step {step} is not newer than the latest, {latest}")
        torn = self.damaged
        for saved in torn:
            if multihost.is_first():
                (self.folder / str(saved)).replace(self.folder / f"{saved}.torn")
            del self._readable[saved]
        if torn:
            multihost.agree(0)  # all wait for the first
            self._manager.reload()
        self._write_digests(step, multihost.fetch(tree))
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
        latest = self._newest() if step is None else step
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

    def _newest(self) -> int:
        """The step of the newest whole checkpoint; UserError where there is none."""
        latest = self.latest()
        if latest is None:
            damaged = ", ".join(map(str, self.damaged))
            remedy = f" (damaged: {damaged}); train it again with --overwrite" if damaged else "; train the run first"
            raise UserError(f"{self.folder}: holds no whole checkpoint{remedy}")
        return latest

    def _stored(self, step: int) -> PyTree:
        """Shapes and dtypes of what ``step`` holds, keys as their words."""
        metadata: Any = self._manager.item_metadata(step)
        item: Any = None if metadata is None else metadata[ITEM]
        return getattr(item, "tree", item)

    def _damage(self, step: int) -> str | None:
        """What is wrong with the checkpoint of ``step``, None where it is whole."""
        arrays = None
        with contextlib.suppress(Exception):  # orbax, tensorstore and the file system each raise their own
            arrays = self._read_here(step)
        if arrays is None:
            _collect_coroutines()
            return "can't be read"
        saved, now = self._read_digests().get(str(step)), _digests(arrays)
        if saved is None or saved == now:  # earlier versions wrote no digests
            return None
        changed = next(name for name in sorted(saved.keys() | now.keys()) if saved.get(name) != now.get(name))
        return f"holds other values than were saved ({changed})"

    def _read_here(self, step: int) -> PyTree | None:
        """What ``step`` holds, on this process's first device; without the manager, whose restoring waits for all processes."""
        stored = self._stored(step)
        if stored is None:
            return None
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), stored)
        args = self._ocp.args.StandardRestore(abstract)
        return self._ocp.StandardCheckpointHandler().restore(self.folder / str(step) / ITEM, args=args)

    def _read_digests(self) -> dict[str, dict[str, str]]:
        """Digests by step and name of the array; {} where they are missing or damaged."""
        with contextlib.suppress(OSError, ValueError):
            digests = read_json(self.folder / DIGESTS)
            if isinstance(digests, dict) and all(isinstance(of_step, dict) for of_step in digests.values()):
                return digests
        return {}

    def _write_digests(self, step: int, tree: PyTree) -> None:
        """Add those of a checkpoint that is about to be written, and forget those of checkpoints that are gone."""
        if multihost.is_first():
            kept = {saved: of_step for saved, of_step in self._read_digests().items() if int(saved) in self._readable}
            write_json(self.folder / DIGESTS, {**kept, str(step): _digests(tree)})

    def read(self) -> PyTree:
        """The newest tree as it is stored, without a template: dictionaries of arrays.

        Raises: UserError where there is none.
        """
        return self._read_here(self._newest())

    def close(self) -> None:
        """Wait for what is being written and let go of the folder."""
        self._manager.close()


def _collect_coroutines() -> None:
    """Collect what orbax leaves behind where it can't read: coroutines that each complain of a closed event loop as they go."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook


def _sharding(leaf: Any) -> jax.sharding.Sharding:
    sharding = getattr(leaf, "sharding", None)
    return jax.sharding.SingleDeviceSharding(jax.devices()[0]) if sharding is None else sharding


def _digests(tree: PyTree) -> dict[str, str]:
    """Path -> SHA-256 of an array's dtype, shape and bytes."""

    def digest(leaf: Any) -> str:
        array = np.ascontiguousarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        total = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
        return total.hexdigest()

    return {name: digest(leaf) for name, leaf in names(tree).items()}


def _check(where: pathlib.Path, template: PyTree, stored: PyTree) -> None:
    """Raise UserError unless ``stored`` has the names, shapes and dtypes of ``template``; in metadata, keys are words."""
    expected, given = names(template), names(stored)
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
