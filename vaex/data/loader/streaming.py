"""How batches reach the compiled loop when the data does not fit on the device: gathered on the host, ahead of their use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from vaex.core import Feed
from vaex.data.loader.feed import Order, check_feed, resident_feed
from vaex.data.order import batch_indices
from vaex.data.storage import machine

MEMORY = ("auto", "device", "host")
PIECE = 1 << 20  # bytes that a thread gathers at a time


def streamed_feed(
    arrays: Mapping[str, np.ndarray], batch_size: int, data_seed: int = 0, *, order: Order | None = None
) -> Feed:
    """Batches gathered on the host and sent to the device in windows, in the same order as ``resident_feed``'s.

    The loop asks for a window while the one before it is in use, so that reading and transfer go on beside the steps.
    Since a plan row holds the batch itself, a run that continues needs nothing but its step number.

    Args:
      arrays: name -> [n, ...], all of one n; memory-mapped ones may exceed the memory.
      batch_size: rows per batch, at most n.
      data_seed: of the order; see ``vaex.data.order``.
      order: as in ``resident_feed``.
    Returns: a Feed without resident arrays, whose plan rows are the batches; devices that divide a batch read their own share.
    Raises: as ``resident_feed``.
    Example:
      >>> feed = streamed_feed({"x": np.arange(6.0)}, batch_size=6)
      >>> row = jax.tree.map(lambda leaf: leaf[0], feed.plan(0, 1))
      >>> sorted(feed.batch(feed.resident, row)["x"].tolist())
      [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    n = check_feed("streamed_feed", arrays, batch_size, data_seed)
    threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "vaex-gather")

    def gather(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        out = np.empty((*rows.shape, *values.shape[1:]), values.dtype)
        step = max(1, PIECE // max(out[0].nbytes, 1))
        cuts = range(0, len(rows), step)
        list(
            threads.map(
                lambda at: np.take(values, rows[at : at + step], axis=0, out=out[at : at + step], mode="clip"), cuts
            )
        )
        return out

    def share(first_step: int, count: int, rows: slice) -> dict[str, np.ndarray]:
        indices = order(first_step, count) if order else batch_indices(data_seed, n, batch_size, first_step, count)
        return {name: gather(values, indices[:, rows]) for name, values in arrays.items()}

    def plan(first_step: int, count: int) -> dict[str, np.ndarray]:
        return share(first_step, count, slice(None))

    return Feed({}, plan, lambda resident, row: dict(row), share)


def choose_memory(memory: str, size: int) -> str:
    """Where training data of ``size`` bytes is kept: "device" or "host".

    Args:
      memory: "auto" chooses by the memory that is free; the other two are taken as they are.
      size: bytes of the training arrays.
    Raises: ValueError for another word.
    Example:
      >>> choose_memory("auto", 1000), choose_memory("host", 1000)
      ('device', 'host')
    """
    if memory not in MEMORY:
        raise ValueError(f"choose_memory: memory is {memory!r}, expected one of {', '.join(MEMORY)}")
    if memory != "auto":
        return memory
    copies = jax.local_device_count() if jax.default_backend() == "cpu" else 1  # virtual devices share one memory
    return "device" if size * copies <= machine.SHARE * _free_memory() else "host"


def feed_for(
    memory: str, arrays: Mapping[str, np.ndarray], batch_size: int, data_seed: int = 0, *, order: Order | None = None
) -> Feed:
    """The resident or the streamed feed; ``memory`` as in ``choose_memory``, the rest as in both. They give the same batches.

    Example:
      >>> arrays = {"x": np.arange(6.0)}
      >>> bool(feed_for("auto", arrays, 2).resident), bool(feed_for("host", arrays, 2).resident)
      (True, False)
    """
    size = sum(values.nbytes for values in arrays.values())
    make = resident_feed if choose_memory(memory, size) == "device" else streamed_feed
    return make(arrays, batch_size, data_seed, order=order)


def _free_memory() -> float:
    """Bytes free on the device; on CPU, of the machine. Infinite where it can't be told."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return machine.free_memory()
