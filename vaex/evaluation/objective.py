"""Metrics of the objective, one value per example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def objective_values(objective: Callable[..., Any]) -> Callable[..., dict[str, jax.Array]]:
    """Return a jitted (key, variables, hparams, batch) -> metrics of the objective, each [b]; a scalar metric is repeated.

    Args:
      objective: as in ``vaex.core.Model``; called with ``train=False``.
    """

    @jax.jit
    def values(key: jax.Array, variables: Any, hparams: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        outcome = objective(key, variables, hparams, batch, train=False)
        rows = len(batch["x"])
        return {name: jnp.broadcast_to(jnp.asarray(metric), (rows,)) for name, metric in outcome.metrics.items()}

    return values
