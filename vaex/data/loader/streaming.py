"""Feed of data that does not fit on the device: batches are gathered on the host, ahead of their use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from vaex.core import Feed
from vaex.data.loader.feed import check_feed, resident_feed
from vaex.data.order import Order, batch_indices
from vaex.data.storage import host_memory

MEMORY = ("auto", "device", "host")
PIECE = 1 << 20  # bytes that a thread gathers at a time


def streamed_feed(
    arrays: Mapping[str, np.ndarray], batch_size: int, data_seed: int = 0, *, order: Order | None = None
) -> Feed:
    """Return a feed that gathers batches on the host and sends them to the device in windows, in ``resident_feed``'s order.

    The loop requests a window while the previous one is in use, so that reading and transfer overlap with the steps.
    A plan row holds the batch itself, and a run resumes from its step number alone.

    Args:
      arrays: name -> [n, ...], all of one n; memory-mapped ones may exceed the memory.
      batch_size: rows per batch, at most n.
      data_seed: of the order; see ``vaex.data.order``.
      order: as in ``resident_feed``.
    Returns: a Feed without resident arrays, whose plan rows are the batches; devices that divide a batch read only their share.
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
    """Choose where training data of ``size`` bytes is kept: "device" or "host".

    Args:
      memory: "auto" chooses by the free memory; "device" and "host" are returned as they are.
      size: bytes of the training arrays.
    Raises: ValueError for another value.
    Example:
      >>> choose_memory("auto", 1000), choose_memory("host", 1000)
      ('device', 'host')
    """
    if memory not in MEMORY:
        raise ValueError(f"choose_memory: memory is {memory!r}, expected one of {', '.join(MEMORY)}")
    if memory != "auto":
        return memory
    copies = jax.local_device_count() if jax.default_backend() == "cpu" else 1  # virtual devices share one memory
    return "device" if size * copies <= host_memory.SHARE * free_memory() else "host"


def feed_for(
    memory: str, arrays: Mapping[str, np.ndarray], batch_size: int, data_seed: int = 0, *, order: Order | None = None
) -> Feed:
    """Return the resident or the streamed feed, which yield the same batches.

    ``memory`` is as in ``choose_memory``, the other arguments as in ``resident_feed``.

    Example:
      >>> arrays = {"x": np.arange(6.0)}
      >>> bool(feed_for("auto", arrays, 2).resident), bool(feed_for("host", arrays, 2).resident)
      (True, False)
    """
    size = sum(values.nbytes for values in arrays.values())
    make = resident_feed if choose_memory(memory, size) == "device" else streamed_feed
    return make(arrays, batch_size, data_seed, order=order)


def free_memory() -> float:
    """Return the free bytes of the device, on CPU those of the machine; infinite where they are unknown."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return host_memory.free_memory()
