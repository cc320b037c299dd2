"""Where a population's arrays live: members over devices where they divide, else the batch over devices."""

from __future__ import annotations

from typing import NamedTuple

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vaex.core import Batch, PyTree


class Placement(NamedTuple):
    """``axis`` says what the devices of ``mesh`` divide: "population" (each holds whole members) or "data" (the batch)."""

    mesh: Mesh
    axis: str

    def sharding(self, *, members: bool) -> NamedSharding:
        """Sharding of arrays with a leading member axis (``members``), or of arrays that all devices hold."""
        return NamedSharding(self.mesh, PartitionSpec("population") if members else PartitionSpec())


def choose(num_members: int, batch_size: int, num_devices: int) -> Placement | None:
    """The placement for a run, or None on one device.

    Members are divided first, since they need no communication; a single member (or a number of members that shares no
    divisor with the devices) divides its batch. The most devices that divide evenly are used.
    """
    devices = jax.devices()[:num_devices]
    by_member = max(n for n in range(1, len(devices) + 1) if num_members % n == 0)
    by_batch = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    if max(by_member, by_batch) == 1:
        return None
    axis, count = ("population", by_member) if by_member >= by_batch else ("data", by_batch)
    if num_members > 1 and by_member > 1:
        axis, count = "population", by_member
    shape = (count, 1) if axis == "population" else (1, count)
    return Placement(jax.make_mesh(shape, ("population", "data"), (AxisType.Auto,) * 2, devices=devices[:count]), axis)


def place(tree: PyTree, placement: Placement | None, *, members: bool) -> PyTree:
    """``tree`` on the placement's devices; ``members`` where its arrays lead with the member axis."""
    if placement is None:
        return tree
    return jax.device_put(tree, placement.sharding(members=members))


def divide_batch(batch: Batch, placement: Placement | None) -> Batch:
    """Inside a compiled step: divide the batch over devices where the placement says so."""
    if placement is None or placement.axis != "data":
        return batch
    rows = NamedSharding(placement.mesh, PartitionSpec("data"))
    return {name: jax.lax.with_sharding_constraint(value, rows) for name, value in batch.items()}
