"""Feed of data that fits on the device: the arrays stay there, and only indices are transferred."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import Batch, Feed
from vaex.data.order import Order, batch_indices
from vaex.errors import UserError


def resident_feed(
    arrays: Mapping[str, np.ndarray], batch_size: int, data_seed: int = 0, *, order: Order | None = None
) -> Feed:
    """Return a feed that gathers batches on the device, from arrays that are placed there once.

    Args:
      arrays: name -> [n, ...], all of one n; "x", and "y" where labelled.
      batch_size: rows per batch, at most n.
      data_seed: of the order; see ``vaex.data.order``.
      order: another order than ``batch_indices``.
    Returns: a Feed whose ``resident`` is the arrays on the default device, whose plan rows are int32 [batch_size] indices,
      and whose batches have the arrays' names, dtypes and trailing shapes.
    Raises: UserError for a batch size below 1 or above n; ValueError for arrays of different lengths.
    Example:
      >>> feed = resident_feed({"x": np.arange(6.0)}, batch_size=6)
      >>> row = feed.plan(0, 1)[0]
      >>> sorted(feed.batch(feed.resident, row)["x"].tolist())
      [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    n = check_feed("resident_feed", arrays, batch_size, data_seed)

    def plan(first_step: int, count: int) -> np.ndarray:
        return order(first_step, count) if order else batch_indices(data_seed, n, batch_size, first_step, count)

    # jnp.array copies: on CPU a plain device_put may share memory with an array that its owner can still change
    return Feed({name: jnp.array(values) for name, values in arrays.items()}, plan, _gather)


def check_feed(caller: str, arrays: Mapping[str, np.ndarray], batch_size: int, data_seed: int) -> int:
    """Check the arguments of a feed and return the number of examples.

    Raises: UserError for a batch size below 1 or above n, or a data seed out of range; ValueError for arrays of different
      lengths.
    """
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"{caller}: arrays have lengths {lengths}, expected one or more of the same length")
    n = next(iter(lengths.values()))
    if batch_size < 1:
        raise UserError(f"--batch_size={batch_size}: give a positive number")
    if batch_size > n:
        raise UserError(f"--batch_size={batch_size} is larger than the training data of {n} examples; give at most {n}")
    if not 0 <= data_seed < 2**64:
        raise UserError(f"--data_seed={data_seed}: give a number from 0 to 2**64 - 1")
    return n


def _gather(resident: Mapping[str, jax.Array], row: jax.Array) -> Batch:
    indices = jnp.asarray(row)
    return {name: values.at[indices].get(mode="promise_in_bounds") for name, values in resident.items()}
