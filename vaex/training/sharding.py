"""Placement of a population's arrays: members over devices where they divide, else the batch over devices."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vaex.core import Batch, PyTree
from vaex.errors import UserError


class Placement(NamedTuple):
    """``axis`` says what the devices of ``mesh`` divide: "population" (each holds whole members) or "data" (the batch)."""

    mesh: Mesh
    axis: str

    def sharding(self, *, members: bool) -> NamedSharding:
        """Sharding of arrays with a leading member axis (``members``), or of arrays that all devices hold."""
        return NamedSharding(self.mesh, PartitionSpec("population") if members else PartitionSpec())


def memories() -> int:
    """Return how many memories share a batch: devices, or processes where devices are virtual ones of the CPU."""
    return jax.process_count() if jax.default_backend() == "cpu" else jax.device_count()


def choose(
    num_members: int, batch_size: int, num_devices: int, *, devices: Sequence[Any] | None = None
) -> Placement | None:
    """The placement for a run, or None on one device.

    Members are divided first, since they need no communication; a single member (or a number of members that shares no
    divisor with the devices) divides its batch. The most devices that divide evenly are used.

    Args:
      num_members, batch_size: of the run.
      num_devices: how many devices there may be.
      devices: of them, the first; by default all that jax sees. Those that a program is only compiled for may be elsewhere.
    Raises: UserError where a process would have nothing to do.
    """
    elsewhere, devices = devices is not None, (jax.devices() if devices is None else devices)[:num_devices]
    by_member = max(n for n in range(1, len(devices) + 1) if num_members % n == 0)
    by_batch = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    axis, count = ("population", by_member) if by_member >= by_batch else ("data", by_batch)
    if num_members > 1 and by_member > 1:
        axis, count = "population", by_member
    if not elsewhere and len({device.process_index for device in devices[:count]}) < jax.process_count():
        raise UserError(
            f"--batch_size={batch_size} with {num_members} members uses {count} of {jax.device_count()} devices, and leaves "
            f"one of {jax.process_count()} processes without work; give a batch size that {jax.device_count()} divides, or "
            "fewer processes"
        )
    if count == 1:
        return None
    shape = (count, 1) if axis == "population" else (1, count)
    names, types = ("population", "data"), (AxisType.Auto,) * 2
    if elsewhere:  # jax.make_mesh orders devices by what the platform at hand says of them
        return Placement(Mesh(np.array(devices[:count]).reshape(shape), names, types), axis)
    return Placement(jax.make_mesh(shape, names, types, devices=devices[:count]), axis)


def place(tree: PyTree, placement: Placement | None, *, members: bool) -> PyTree:
    """``tree`` on the placement's devices; ``members`` where its arrays lead with the member axis.

    Where other processes hold some of the devices, each gives the same ``tree`` and places its own part.
    """
    if placement is None:
        return tree
    sharding = placement.sharding(members=members)
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _place_own(leaf, sharding), tree)


def _place_own(leaf: jax.Array | np.ndarray, sharding: NamedSharding) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        key_data = _place_own(jax.random.key_data(leaf), sharding)
        kind = jax.random.key_impl(leaf)
        return jax.jit(lambda data: jax.random.wrap_key_data(data, impl=kind), out_shardings=sharding)(key_data)
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def place_shares(share: Callable[[slice], PyTree], shapes: PyTree, placement: Placement) -> PyTree:
    """Arrays [steps, b, ...] whose batch axis is divided over the devices, each part asked for where it is needed.

    Args:
      share: rows of the batch -> arrays [steps, rows, ...]; called for the devices of this process only.
      shapes: of the whole arrays.
      placement: one whose axis is "data".
    """
    sharding, parts = NamedSharding(placement.mesh, PartitionSpec(None, "data")), {}
    leaves, structure = jax.tree.flatten(shapes)

    def part(index: tuple[slice, ...] | None, number: int) -> np.ndarray:
        assert index is not None
        key = (index[1].start, index[1].stop)
        if key not in parts:
            parts[key] = jax.tree.leaves(share(index[1]))
        return parts[key][number]

    placed = [
        jax.make_array_from_callback(leaf.shape, sharding, functools.partial(part, number=number))
        for number, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, placed)


def divided(placement: Placement | None) -> contextlib.AbstractContextManager[Any]:
    """While a step is traced: tells it, by ``jax.set_mesh``, that its batch will be divided, where the placement says so."""
    if placement is None or placement.axis != "data":
        return contextlib.nullcontext()
    return jax.set_mesh(placement.mesh)


def divide_batch(batch: Batch, placement: Placement | None) -> Batch:
    """Inside a compiled step: divide the batch over devices where the placement says so."""
    if placement is None or placement.axis != "data":
        return batch
    rows = NamedSharding(placement.mesh, PartitionSpec("data"))
    return {name: jax.lax.with_sharding_constraint(value, rows) for name, value in batch.items()}
