"""The checkpoints of one folder.

A process by itself writes the item ``packed``, all arrays in one vector, beside their ``layout``. Several processes write the item
``state``, to which each adds its share of each array, and so did earlier versions.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import logging
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vaex.core import PyTree
from vaex.errors import UserError
from vaex.files import read_json, write_json
from vaex.training import multihost, sharding
from vaex.training.checkpoint import complaints, packing
from vaex.training.checkpoint.packing import is_key
from vaex.training.parts import names

KEEP = 2
RETRIES = 20  # of reading beside a run that is at work and removes what is read
DIGESTS = "digests.json"  # of every array of every checkpoint, beside them
STATE, PACKED, LAYOUT = "state", "packed", "layout"  # items of a checkpoint
BYTES = "bytes"  # the one array of the item ``packed``
KEYS = "keys of "  # and their kind: the name under which a checkpoint holds the words of keys


class Checkpoints:
    """The checkpoints of one folder; each holds a pytree of arrays. The last ones are kept.

    A process that is killed while it saves leaves no checkpoint, since orbax renames a finished one into place. What a
    crash of the machine, a failing disk or a broken copy leaves may be unreadable or hold other values: a digest of every array,
    kept beside the checkpoints, tells, and the checkpoint is passed over with a warning.

    Args:
      folder: made where it is missing.
      keep: how many stay as newer ones are saved.
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

    def __init__(self, folder: pathlib.Path, *, keep: int = KEEP) -> None:
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax reports each save, and what it raises as well
        complaints.silence_abandoned_reads()
        self._ocp = ocp
        self.folder = folder.resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._handlers: dict[str, Any] = {
            STATE: ocp.StandardCheckpointHandler(),
            PACKED: ocp.PyTreeCheckpointHandler(use_ocdbt=False),
            LAYOUT: ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=self._handlers)
        self._readable: dict[int, bool] = {}
        self._failed = False

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint, or None. One that was there before is read once, to see that it is whole."""
        for _ in range(RETRIES):
            removed = False
            for step in sorted(self._manager.all_steps(), reverse=True):
                if step not in self._readable:
                    damage = self._damage(step)
                    removed = damage is not None and self._is_gone(step)
                    if removed:
                        break
                    self._readable[step] = damage is None
                    if damage is not None:
                        warnings.warn(f"{self.folder / str(step)} {damage} and is passed over", stacklevel=2)
                if self._readable[step]:
                    return step
            if not removed:
                break
        return None

    def _is_gone(self, step: int) -> bool:
        """Return True if a checkpoint is there no longer, since a run at work here keeps its last ones; they are listed anew."""
        if (self.folder / str(step)).exists():
            return False
        self._manager.reload()
        return True

    @property
    def damaged(self) -> tuple[int, ...]:
        """Steps of the checkpoints that ``latest`` has passed over."""
        return tuple(sorted(step for step, readable in self._readable.items() if not readable))

    def save(self, step: int, tree: PyTree) -> None:
        """Write ``tree`` as the checkpoint of ``step``, which must be newer than the latest.

        An unreadable checkpoint is first moved out of the way, to ``<step>.torn``.

        Raises: ValueError for an older step, which orbax would skip silently; UserError where it cannot be written.
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
        problem = self._write(step, tree)
        if problem is not None:
            multihost.check_others()
            kept = "no step is kept yet" if latest is None else f"step {latest} is kept"
            raise UserError(
                f"{self.folder}: the checkpoint of step {step} cannot be written ({problem}); {kept}. Check the disk and its "
                "permissions, then run the same command again"
            )
        self._readable[step] = True
        _return_memory()

    def _write(self, step: int, tree: PyTree) -> str | None:
        """Write a checkpoint; return what went wrong, None where nothing did."""
        problem = None
        try:
            written = self._manager.save(step, args=self._ocp.args.Composite(**self._items(tree)))
        except (OSError, ValueError, RuntimeError) as error:  # of the system, of tensorstore, of XLA
            problem = complaints.reason(error)
        if problem is None:
            return None if written else "orbax left it out"
        self._failed = True
        gc.collect()  # what orbax abandoned, here, where the error and its frames are gone
        return problem

    def _items(self, tree: PyTree) -> dict[str, Any]:
        """Return what orbax is to write, by item."""
        args = self._ocp.args
        if jax.process_count() > 1:
            return {STATE: args.StandardSave(tree)}
        data, layout = packing.pack(tree)
        return {PACKED: args.PyTreeSave({BYTES: data}), LAYOUT: args.JsonSave({"arrays": layout})}

    def restore(self, template: PyTree, step: int | None = None) -> PyTree:
        """The tree of ``step`` (the latest where None), with the structure, dtypes and shardings of ``template``.

        Args:
          template: arrays or ShapeDtypeStructs; device placement is taken from their shardings.
          step: which checkpoint.
        Raises: UserError where there is none, or where a parameter is missing or has another shape or dtype.
        """
        if step is not None:
            damage = self._damage(step) if step in self._manager.all_steps() else None
            if damage is not None:
                raise UserError(f"{self.folder / str(step)} {damage}; load another step")
            return self._restore(template, step)
        return self._of_newest(lambda latest: self._restore(template, latest))

    def _of_newest(self, read: Callable[[int], PyTree]) -> PyTree:
        """Return what is read of the newest step; again, where a run that is at work here has removed it meanwhile."""
        for _ in range(RETRIES):
            latest = self._newest()
            try:
                return read(latest)
            except Exception:
                if not self._is_gone(latest):
                    raise
        raise UserError(f"{self.folder}: a run writes its checkpoints faster than they can be read; wait until it ends")

    def _restore(self, template: PyTree, latest: int) -> PyTree:
        if latest not in self._manager.all_steps():
            known = ", ".join(map(str, sorted(self._manager.all_steps()))) or "none"
            raise UserError(f"{self.folder}: holds no checkpoint of step {latest}; there are: {known}")
        where = self.folder / str(latest)
        if self._is_packed(latest):
            arrays = self._read_packed(latest)
            _check(where, template, arrays)
            by_name = names(arrays)
            placed = [sharding.place_as(by_name[name], _sharding(leaf)) for name, leaf in names(template).items()]
            return jax.tree.unflatten(jax.tree.structure(template), placed)
        stored = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self._stored(latest))
        _check(where, template, jax.eval_shape(_with_keys, stored), keys_are_words=True)
        has_key_data = any(KEYS in name for name in names(stored))
        expected = jax.eval_shape(_with_key_data, template) if has_key_data else template
        args = self._ocp.args.Composite(**{STATE: self._ocp.args.StandardRestore(_placed(expected, template))})
        restored = _with_keys(self._manager.restore(latest, args=args)[STATE])
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

    def _is_packed(self, step: int) -> bool:
        return (self.folder / str(step) / LAYOUT).exists()

    def _read_packed(self, step: int) -> PyTree:
        """Return what a process by itself wrote: NumPy's arrays, and keys on the first device."""
        where: Any = self.folder / str(step)
        layout = self._handlers[LAYOUT].restore(where / LAYOUT, args=self._ocp.args.JsonRestore())["arrays"]
        as_numpy = {BYTES: self._ocp.RestoreArgs(restore_type=np.ndarray)}
        args = self._ocp.args.PyTreeRestore(restore_args=as_numpy)
        return packing.unpack(self._handlers[PACKED].restore(where / PACKED, args=args)[BYTES], layout)

    def _stored(self, step: int) -> PyTree:
        """Shapes and dtypes of what several processes, or an earlier version, wrote as ``step``, keys as their words."""
        metadata: Any = self._manager.item_metadata(step)
        item: Any = None if metadata is None else metadata[STATE]
        return getattr(item, "tree", item)

    def _damage(self, step: int) -> str | None:
        """What is wrong with the checkpoint of ``step``, None where it is whole."""
        arrays = None
        with contextlib.suppress(Exception):  # orbax, tensorstore and the file system each raise their own
            arrays = self._read_here(step)
        if arrays is None:
            gc.collect()  # what orbax abandoned, which complains at the latest as the process ends, when no hook is asked
            return "can't be read"
        saved, now = self._read_digests().get(str(step)), _digests(arrays)
        if saved is None or saved == now:  # earlier versions wrote no digests
            return None
        changed = next(name for name in sorted(saved.keys() | now.keys()) if saved.get(name) != now.get(name))
        return f"holds other values than were saved ({changed})"

    def _read_here(self, step: int) -> PyTree | None:
        """What ``step`` holds, at most on this process's first device; without the manager, whose restoring waits for all
        processes."""
        if self._is_packed(step):
            return self._read_packed(step)
        stored = self._stored(step)
        if stored is None:
            return None
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), stored)
        args = self._ocp.args.StandardRestore(abstract)
        where: Any = self.folder / str(step) / STATE
        return _with_keys(self._ocp.StandardCheckpointHandler().restore(where, args=args))

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
        return self._of_newest(self._read_here)

    def close(self) -> None:
        """Wait for what is being written and let go of the folder."""
        with contextlib.suppress(Exception) if self._failed else contextlib.nullcontext():  # it was raised by save
            self._manager.close()


def _return_memory() -> None:
    """Give the memory that saving took back to the system, where the C library is glibc, which keeps it in pieces otherwise."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _with_key_data(tree: PyTree) -> PyTree:
    """Return keys as their words, each in a dictionary that names their kind."""
    return jax.tree.map(
        lambda leaf: {f"{KEYS}{jax.random.key_impl(leaf)}": jax.random.key_data(leaf)} if is_key(leaf) else leaf, tree
    )


def _with_keys(tree: PyTree) -> PyTree:
    """Invert ``_with_key_data``, of which version 0.2 wrote checkpoints; what is stored as keys stays."""

    def is_key_data(node: PyTree) -> bool:
        return isinstance(node, dict) and len(node) == 1 and next(iter(node)).startswith(KEYS)

    def wrapped(node: PyTree) -> PyTree:
        if not is_key_data(node):
            return node
        ((name, key_data),) = node.items()
        return jax.random.wrap_key_data(key_data, impl=name.removeprefix(KEYS))

    return jax.tree.map(wrapped, tree, is_leaf=is_key_data)


def _placed(tree: PyTree, template: PyTree) -> PyTree:
    """Return shapes and dtypes with the shardings of ``template``, whose keys may be words."""

    def placed(leaf: Any, part: PyTree) -> PyTree:
        return jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=_sharding(leaf)), part
        )

    return jax.tree.map(placed, template, tree)


def _sharding(leaf: object) -> jax.sharding.Sharding:
    sharding = getattr(leaf, "sharding", None)
    return jax.sharding.SingleDeviceSharding(jax.devices()[0]) if sharding is None else sharding


def _digests(tree: PyTree) -> dict[str, str]:
    """Path -> SHA-256 of an array's dtype, shape and bytes."""

    def digest(leaf: jax.Array) -> str:
        array = np.ascontiguousarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        total = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
        return total.hexdigest()

    return {name: digest(leaf) for name, leaf in names(tree).items()}


def _check(where: pathlib.Path, template: PyTree, stored: PyTree, *, keys_are_words: bool = False) -> None:
    """Raise UserError unless ``stored`` has the names, shapes and dtypes of ``template``; in orbax's metadata, keys are words."""
    expected, given = names(template), names(stored)
    for name in sorted(expected.keys() | given.keys()):
        if name not in given or name not in expected:
            lacks = "checkpoint" if name not in given else "model"
            raise UserError(
                f"{where}: the {lacks} lacks {name}; it was saved by another configuration or version of the model"
            )
        want, have = expected[name], given[name]
        held = want
        if keys_are_words and is_key(want) and not is_key(have):
            held = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(want.shape, want.dtype))
        if tuple(have.shape) != tuple(held.shape) or have.dtype != held.dtype:
            raise UserError(
                f"{where}: {name} has shape {tuple(have.shape)} and dtype {have.dtype}, the model needs {tuple(want.shape)} "
                f"and {want.dtype}; it was saved by another configuration of the model"
            )
