"""Populations: every array of a train state leads with a member axis [p]; one compiled program advances all members."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.core import Algorithm, Batch, CarryOver, InitState, PyTree, TrainState, Variables
from vaex.training.step import strong

STRATEGIES = ("auto", "vmap", "members")
_of_members: set[int] = set()  # numbers of virtual devices that were made for members, at most one
VMAP_BYTES = 100_000  # on CPU, vmap wins below about this many bytes of parameters per member, members outer above


def choose_strategy(num_members: int, parameter_bytes: int, platform: str) -> str:
    """How a population runs: "solo" for one member, else "vmap" or "members" (one after the other, each its whole chunk).

    Example:
      >>> [choose_strategy(8, size, "cpu") for size in (50_000, 5_000_000)]
      ['vmap', 'members']
    """
    if num_members == 1:
        return "solo"
    return "vmap" if platform != "cpu" or parameter_bytes <= VMAP_BYTES else "members"


def cpu_devices(num_members: int, cores: int) -> int:
    """How many virtual CPU devices keep all cores busy with whole members, each on one device.

    A member that has a core for itself loses nothing to the splitting of its small operations over cores. As many devices as
    cores where the members divide so; else the fewest beyond, up to four a core; else the most below.

    Example:
      >>> [cpu_devices(members, cores=2) for members in (1, 2, 8, 9, 31)]
      [1, 2, 2, 3, 1]
    """
    divisors = [n for n in range(1, min(num_members, 4 * cores) + 1) if num_members % n == 0]
    return min((n for n in divisors if n >= cores), default=max(divisors))


def use_all_cores(num_members: int) -> None:
    """Before jax is used: have as many virtual CPU devices as suit a population, unless the user has said how many."""
    said = jax.config.jax_num_cpu_devices != -1 or "device_count" in os.environ.get("XLA_FLAGS", "")  # type: ignore[attr-defined]
    count = cpu_devices(num_members, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    if not said and count > 1:
        with contextlib.suppress(RuntimeError):  # jax is in use already, as in a notebook: the devices stay as they are
            jax.config.update("jax_num_cpu_devices", count)
            _of_members.add(count)


def default_devices(num_members: int, *, fsdp: bool = False) -> int:
    """Return how many devices a run uses where nobody says so: all, but for virtual ones of a CPU, which share its cores.

    A batch that is divided over those takes longer than on one. A population that divides over them leaves the others out. Those
    that ``use_all_cores`` made for an earlier population serve entire members only, so that a run has the numbers of a process of
    its own.

    Args:
      num_members: of the run.
      fsdp: whether devices that share a batch divide parameters, for which devices that are the user's own are all taken.
    """
    count = jax.device_count()
    by_member = max(n for n in range(1, count + 1) if num_members % n == 0)
    if count in _of_members:
        return by_member
    alone = jax.default_backend() == "cpu" and jax.process_count() == 1 and not fsdp
    return by_member if alone and by_member > 1 else count


def stack(members: Sequence[PyTree]) -> PyTree:
    """Trees of equal structure stacked on a new leading member axis.

    Example:
      >>> stack([{"beta": 1.0}, {"beta": 4.0}])["beta"].tolist()
      [1.0, 4.0]
    """
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *members)


def member(tree: PyTree, index: int) -> PyTree:
    """One member of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def with_stand_ins(tree: PyTree, members: np.ndarray) -> PyTree:
    """Return a stacked tree in which copies of the first other member take the place of these members [p], placed as before.

    Example:
      >>> with_stand_ins({"w": jnp.array([1.0, 2.0, 3.0])}, np.array([True, False, False]))["w"].tolist()
      [2.0, 2.0, 3.0]
    """
    source = np.where(members, np.argmin(members), np.arange(len(members)))
    return _placed_as(_taken, tree)(tree, source)


def chosen(members: np.ndarray, first: PyTree, second: PyTree) -> PyTree:
    """Return a stacked tree with these members [p] of ``first``, and the others of ``second``, as which it is placed.

    Example:
      >>> chosen(np.array([True, False]), {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, 4.0])})["w"].tolist()
      [1.0, 4.0]
    """
    return _placed_as(_chosen, second)(members, first, second)


def _taken(tree: PyTree, source: jax.Array) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[source], tree)


def _chosen(members: jax.Array, first: PyTree, second: PyTree) -> PyTree:
    def choose(left: jax.Array, right: jax.Array) -> jax.Array:
        return jnp.where(members.reshape(-1, *(1,) * (left.ndim - 1)), left, right)

    return jax.tree.map(choose, first, second)


def _placed_as(function: Callable[..., PyTree], tree: PyTree) -> Callable[..., PyTree]:
    leaves, structure = jax.tree.flatten(tree)
    return _compiled(function, structure, tuple(leaf.sharding for leaf in leaves))


@functools.lru_cache(maxsize=8)
def _compiled(
    function: Callable[..., PyTree], structure: PyTree, shardings: tuple[jax.sharding.Sharding, ...]
) -> Callable[..., PyTree]:
    return jax.jit(function, out_shardings=jax.tree.unflatten(structure, shardings))


def size(state: PyTree) -> int:
    """The number of members of a stacked tree."""
    return jax.tree.leaves(state)[0].shape[0]


def init(
    algorithm: Algorithm,
    seeds: Sequence[int],
    hparams: PyTree,
    batch: Batch,
    *,
    stage: int = 0,
    carry_over: CarryOver | None = None,
    finished: Mapping[str, Variables] | None = None,
    given: Mapping[str, jax.Array] | None = None,
) -> TrainState:
    """Train states of all members, stacked. Each is computed as if alone, so it equals its solo run bit for bit.

    Args:
      algorithm: gives ``init``.
      seeds: one per member, each the root of that member's randomness.
      hparams: stacked hyperparameters, [p] each.
      batch: an example batch, for shapes.
      stage: how many stages of the recipe came before; each has randomness of its own.
      carry_over: as in ``Stage``; its result becomes ``Variables.state``.
      finished: stage -> stacked variables of the stages before, for ``carry_over``.
      given: name -> stacked variables that replace the drawn ones.
    """
    roots = jnp.asarray(np.asarray(seeds, np.uint32))
    return _init(algorithm.init, stage, carry_over, roots, hparams, batch, dict(finished or {}), dict(given or {}))


def stage_key(seed: ArrayLike, stage: int) -> jax.Array:
    """Return the root key of a member, made of its seed, in a stage, counted from 0."""
    root = jax.random.key(seed)
    return jax.random.fold_in(root, stage) if stage else root


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _init(
    init_one: InitState,
    stage: int,
    carry_over: CarryOver | None,
    seeds: jax.Array,
    hparams: PyTree,
    batch: Batch,
    finished: dict[str, Variables],
    given: dict[str, jax.Array],
) -> TrainState:
    def state_of(args: tuple[jax.Array, PyTree, dict[str, Variables], dict[str, jax.Array]]) -> TrainState:
        seed, values, before, taken = args
        key = stage_key(seed, stage)
        state = init_one(key, values, batch, taken) if taken else init_one(key, values, batch)
        if carry_over is None:
            return state
        return state._replace(variables=state.variables._replace(state=strong(carry_over(before))))

    return jax.lax.map(state_of, (seeds, hparams, finished, given))


def member_shapes(state: PyTree) -> PyTree:
    """Shapes and dtypes of one member of a stacked tree."""
    return jax.eval_shape(lambda tree: member(tree, 0), state)
