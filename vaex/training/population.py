"""Populations: every array of a train state leads with a member axis [p]; one compiled program advances all members."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import Algorithm, Batch, PyTree, TrainState

STRATEGIES = ("auto", "vmap", "members")
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


def size(state: PyTree) -> int:
    """The number of members of a stacked tree."""
    return jax.tree.leaves(state)[0].shape[0]


def init(algorithm: Algorithm, seeds: Sequence[int], hparams: PyTree, batch: Batch) -> TrainState:
    """Train states of all members, stacked. Each is computed as if alone, so it equals its solo run bit for bit.

    Args:
      algorithm: gives ``init``.
      seeds: one per member, each the root of that member's randomness.
      hparams: stacked hyperparameters, [p] each.
      batch: an example batch, for shapes.
    """
    return _init(algorithm.init, jnp.asarray(np.asarray(seeds, np.uint32)), hparams, batch)


@functools.partial(jax.jit, static_argnums=0)
def _init(init_one: Callable[..., TrainState], words: jax.Array, hparams: PyTree, batch: Batch) -> TrainState:
    def one(args: tuple[jax.Array, Any]) -> TrainState:
        seed, values = args
        return init_one(jax.random.key(seed), values, batch)

    return jax.lax.map(one, (words, hparams))


def member_shapes(state: PyTree) -> PyTree:
    """Shapes and dtypes of one member of a stacked tree."""
    return jax.eval_shape(lambda tree: member(tree, 0), state)
