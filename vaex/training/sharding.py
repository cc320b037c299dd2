"""Placement of a run's arrays: members over devices, the batch over devices, parameters over those that share a batch (FSDP)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from vaex.core import Batch, Metrics, PyTree, Step, TrainState, Variables
from vaex.errors import UserError

T = TypeVar("T")
FSDP = "data_fsdp"  # axis of a mesh that divides the batch and parameters
SMALL = 1024  # numbers: arrays of fewer are not worth a collective of their own, and stay on every device


class Placement(NamedTuple):
    """Devices of a run.

    Attributes:
      mesh: its axis "population" divides the members, the other one the batch; either may be of one device. Where the latter is
        called "data_fsdp" rather than "data", it divides parameters, optimizer state and averages too.
    """

    mesh: Mesh

    @property
    def divides_members(self) -> bool:
        """True if devices hold different members."""
        return self.mesh.devices.shape[0] > 1

    @property
    def divides_batch(self) -> bool:
        """True if devices compute different examples of a batch."""
        return self.mesh.devices.shape[1] > 1

    @property
    def axis(self) -> str:
        """What the devices divide: "population", "data", "data_fsdp", or as in "population x data" both."""
        sizes = zip(self.mesh.axis_names, self.mesh.devices.shape, strict=True)
        return " x ".join(name for name, size in sizes if size > 1)

    def sharding(self, *, members: bool) -> NamedSharding:
        """Sharding of arrays with a leading member axis (``members``), or of arrays that all devices hold."""
        return NamedSharding(self.mesh, PartitionSpec("population") if members else PartitionSpec())

    def shardings(self, tree: PyTree) -> PyTree:
        """Return the sharding of each array of a tree that leads with the member axis, such as a stacked train state."""

        def placed(node: PyTree) -> PyTree:
            if not isinstance(node, TrainState):
                return self.sharding(members=True)
            member = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape[1:], array.dtype), node)
            specs = _specs(member, self.mesh)
            return jax.tree.map(lambda spec: NamedSharding(self.mesh, PartitionSpec("population", *spec)), specs)

        return jax.tree.map(placed, tree, is_leaf=lambda node: isinstance(node, TrainState))


def memories() -> int:
    """Return how many memories share a batch: devices, or processes where devices are virtual ones of the CPU."""
    return jax.process_count() if jax.default_backend() == "cpu" else jax.device_count()


def choose(
    num_members: int,
    batch_size: int,
    num_devices: int,
    *,
    devices: Sequence[Any] | None = None,
    fsdp: bool = False,
) -> Placement | None:
    """The placement for a run, or None on one device.

    Members are divided where they can be, since they need no communication, and devices that are left divide the batch; a single
    member (or a number of members that shares no divisor with the devices) divides its batch alone. Of what divides evenly, that
    which uses the most devices is taken, and of such that which divides members the most.

    Args:
      num_members, batch_size: of the run.
      num_devices: how many devices there may be.
      devices: of them, the first; by default all that jax sees. Those that a program is only compiled for may be elsewhere.
      fsdp: whether devices that divide a batch divide parameters too.
    Raises: UserError where a process would have nothing to do, or FSDP nothing to divide.
    """
    elsewhere, devices = devices is not None, (jax.devices() if devices is None else devices)[:num_devices]
    shape = _most_devices(num_members, batch_size, len(devices))
    count = shape[0] * shape[1]
    if not elsewhere and len({device.process_index for device in devices[:count]}) < jax.process_count():
        raise UserError(
            f"--batch_size={batch_size} with {num_members} members uses {count} of {jax.device_count()} devices, and leaves "
            f"one of {jax.process_count()} processes without work; give a batch size that {jax.device_count()} divides, or "
            "fewer processes"
        )
    if fsdp and shape[1] == 1:
        raise UserError(f"--fsdp: {_undivided(num_members, batch_size, len(devices), shape[0])}, or leave --fsdp out")
    if count == 1:
        return None
    names, types = ("population", FSDP if fsdp else "data"), (AxisType.Auto,) * 2
    if elsewhere:  # jax.make_mesh orders devices by what the platform at hand says of them
        return Placement(Mesh(np.array(devices[:count]).reshape(shape), names, types))
    return Placement(jax.make_mesh(shape, names, types, devices=devices[:count]))


def _most_devices(num_members: int, batch_size: int, available: int) -> tuple[int, int]:
    """Return how many devices divide the members, and how many the batch."""
    shapes = [
        (by_member, by_batch)
        for by_member in range(1, available + 1)
        for by_batch in range(1, available // by_member + 1)
        if num_members % by_member == 0 and batch_size % by_batch == 0
    ]
    dividing_members = [shape for shape in shapes if shape[0] > 1]
    return max(dividing_members or shapes, key=lambda shape: (shape[0] * shape[1], shape[0]))


def _undivided(num_members: int, batch_size: int, available: int, by_member: int) -> str:
    """Return why no devices share a batch, and what to give so that some do."""
    if available == 1:
        return "parameters are divided over several devices, and the run has one; give it more (--devices)"
    if by_member > 1:
        return (
            f"parameters are divided over devices that share a batch, and {num_members} members of {batch_size} examples leave "
            f"no such of {available} devices; train fewer members at once"
        )
    return (
        f"parameters are divided over devices that share a batch, and no number up to {available} of them divides "
        f"--batch_size={batch_size}; give a multiple of {available}"
    )


def place(tree: PyTree, placement: Placement | None, *, members: bool) -> PyTree:
    """``tree`` on the placement's devices; ``members`` where its arrays lead with the member axis.

    Where other processes hold some of the devices, each gives the same ``tree`` and places its own part.
    """
    if placement is None:
        return tree
    everywhere = placement.sharding(members=False)
    shardings = placement.shardings(tree) if members else jax.tree.map(lambda _: everywhere, tree)
    if everywhere.is_fully_addressable:
        return jax.device_put(tree, shardings)
    return jax.tree.map(place_as, tree, shardings)


def place_as(leaf: jax.Array | np.ndarray, sharding: Sharding) -> jax.Array:
    """Return an array that every process has, on the devices of ``sharding``; each process places its own part."""
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        key_data = place_as(jax.random.key_data(leaf), sharding)
        kind = jax.random.key_impl(leaf)
        return jax.jit(lambda data: jax.random.wrap_key_data(data, impl=kind), out_shardings=sharding)(key_data)
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def place_shares(share: Callable[[slice], PyTree], shapes: PyTree, placement: Placement) -> PyTree:
    """Arrays [steps, b, ...] whose batch axis is divided over the devices, each part asked for where it is needed.

    Args:
      share: rows of the batch -> arrays [steps, rows, ...]; called for the devices of this process only.
      shapes: of the whole arrays.
      placement: one that divides the batch.
    """
    sharding, parts = NamedSharding(placement.mesh, PartitionSpec(None, placement.mesh.axis_names[1])), {}
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


def traced_divided(trace: Callable[[], T], placement: Placement | None) -> T:
    """Return ``trace()``, a trace of a step, which sees by the mesh of jax's context that its batch will be divided, where the
    placement says so."""
    if placement is None or not placement.divides_batch:
        return trace()
    if not placement.divides_members:
        with jax.set_mesh(placement.mesh):
            return trace()
    results: list[T] = []

    def probe(zero: jax.Array) -> jax.Array:
        results.append(trace())
        return zero

    # among members that devices divide, the mesh is that of ``map_members``
    everyone = PartitionSpec()
    jax.eval_shape(_map(probe, placement, everyone, everyone), jax.ShapeDtypeStruct((), jnp.float32))
    return results[0]


def divide_batch(batch: Batch, placement: Placement | None) -> Batch:
    """Inside a compiled step: divide the batch over devices where the placement says so."""
    if placement is None or not placement.divides_batch:
        return batch
    rows = PartitionSpec(placement.mesh.axis_names[1])
    return {name: _constrained(value, rows, placement) for name, value in batch.items()}


def divide_step(step: Step, placement: Placement | None) -> Step:
    """Return the step of a member whose next train state is divided as the placement says: each device updates its part."""
    if placement is None or FSDP not in placement.mesh.axis_names:
        return step

    def constrained(state: TrainState) -> TrainState:
        specs = _specs(state, placement.mesh)
        return jax.tree.map(lambda leaf, spec: _constrained(leaf, spec, placement), state, specs)

    def divided_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        # without the first, updates would read the gathered parameters, which had to be kept for them
        state, metrics = step(constrained(state), batch)
        return constrained(state), metrics

    return divided_step


def gathered(params: PyTree) -> PyTree:
    """Return the parameters of an objective, all of them on each device, and their gradients divided, where FSDP divides them;
    else ``params``. Left to itself, XLA exchanges activations where these are smaller.

    Example:
      >>> gathered({"w": 1.0})  # one device
      {'w': 1.0}
    """
    mesh = jax.sharding.get_abstract_mesh()
    if FSDP not in mesh.axis_names:
        return params

    @jax.custom_vjp
    def gather(leaf: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(leaf, PartitionSpec())

    def forward(leaf: jax.Array) -> tuple[jax.Array, None]:
        return gather(leaf), None

    def backward(_: None, gradient: jax.Array) -> tuple[jax.Array]:
        return (jax.lax.with_sharding_constraint(gradient, _spec(gradient, mesh)),)

    gather.defvjp(forward, backward)
    return jax.tree.map(gather, params)


def _specs(state: TrainState, mesh: Mesh | AbstractMesh) -> TrainState:
    """Return how one member's train state, whose shapes suffice, is divided over the devices of FSDP."""
    everywhere = jax.tree.map(lambda _: PartitionSpec(), state)
    if FSDP not in mesh.axis_names:
        return everywhere
    divided = state.variables.params, state.opt_state, state.average
    params, opt_state, average = jax.tree.map(lambda leaf: _spec(leaf, mesh), divided)
    variables = Variables(params, everywhere.variables.state)
    return everywhere._replace(variables=variables, opt_state=opt_state, average=average)


def _spec(leaf: Any, mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """Return the longest axis that the devices of FSDP divide; none of a small array, or where they divide none."""
    axes = [axis for axis, length in enumerate(leaf.shape) if length % mesh.shape[FSDP] == 0]
    if not axes or leaf.size < SMALL:
        return PartitionSpec()
    return PartitionSpec(*(None,) * max(axes, key=lambda axis: leaf.shape[axis]), FSDP)


def map_members(chunk: Callable[..., PyTree], placement: Placement | None) -> Callable[..., PyTree]:
    """Return ``chunk(carry, ...)`` with each device's own members, where the placement divides them; the others of its seven
    arguments are whole on all devices. XLA goes on dividing the batch."""
    if placement is None or not placement.divides_members:
        return chunk
    ours, everyone = PartitionSpec("population"), PartitionSpec()
    return _map(chunk, placement, (ours, *(everyone,) * 6), ours)


def _map(function: Callable[..., PyTree], placement: Placement, in_specs: Any, out_specs: Any) -> Callable[..., PyTree]:
    axes = {"population"} if placement.divides_batch else set(placement.mesh.axis_names)
    return jax.shard_map(
        function, mesh=placement.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False, axis_names=axes
    )


def _constrained(array: jax.Array, spec: PartitionSpec, placement: Placement) -> jax.Array:
    # among members that devices divide, the mesh is that of ``map_members``
    sharding = spec if placement.divides_members else NamedSharding(placement.mesh, spec)
    return jax.lax.with_sharding_constraint(array, sharding)
