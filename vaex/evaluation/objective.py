"""The objective over a whole split, and what the posterior says of each latent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

BATCH = 500


def batches(arrays: Mapping[str, np.ndarray], size: int = BATCH) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Batches of exactly ``size`` rows (or of all, if fewer), the last filled up by repeating its first row; and how many count.

    Example:
      >>> [(batch["x"].tolist(), count) for batch, count in batches({"x": np.arange(3)}, 2)]
      [([0, 1], 2), ([2, 2], 1)]
    """
    total = len(arrays["x"])
    size = min(size, total)
    for start in range(0, total, size):
        rows = np.arange(start, start + size)
        count = int(np.sum(rows < total))
        rows[count:] = start
        yield {name: values[rows] for name, values in arrays.items()}, count


def over_batches(
    function: Callable[..., Any], key: jax.Array, arrays: Mapping[str, np.ndarray], *args: Any, size: int = BATCH
) -> Any:
    """``function(key_i, *args, batch)`` over all examples, its [b, ...] results joined to [n, ...] on the host."""
    parts = []
    for index, (batch, count) in enumerate(batches(arrays, size)):
        result = function(jax.random.fold_in(key, index), *args, batch)
        parts.append(jax.tree.map(lambda leaf, c=count: np.asarray(leaf)[:c], result))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def objective_values(objective: Callable[..., Any], prepare: Callable[..., jax.Array]) -> Callable[..., dict[str, jax.Array]]:
    """A jitted (key, variables, hparams, batch) -> the objective's metrics, each [b]; a scalar metric stands for all rows.

    Args:
      objective: as in ``vaex.core.Model``; called with ``train=False``.
      prepare: (key, x) -> model inputs.
    """

    @jax.jit
    def values(key: jax.Array, variables: Any, hparams: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        data_key, model_key = jax.random.split(key)
        inputs = batch | {"x": prepare(data_key, batch["x"])}
        outcome = objective(model_key, variables, hparams, inputs, train=False)
        rows = len(batch["x"])
        return {name: jnp.broadcast_to(jnp.asarray(metric), (rows,)) for name, metric in outcome.metrics.items()}

    return values


def latent_kl(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    r"""KL of each latent's Gaussian marginal to the standard normal, averaged over examples.

    :math:`\frac12(\mu^2 + \sigma^2 - 1 - \log\sigma^2)`; for a diagonal posterior their sum is the KL, for a full covariance
    it leaves out the latents' dependence.

    Args:
      mean, variance: [n, d].
    Returns: [d], nats.
    Example:
      >>> latent_kl(np.zeros((2, 1)), np.ones((2, 1)))
      array([0.])
    """
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    return np.mean(0.5 * (mean**2 + variance - 1.0 - np.log(variance)), axis=0)
