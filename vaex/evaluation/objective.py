"""Metrics of the objective, one value per example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from vaex.core import Batch, Metrics, Objective, PyTree, Variables


class ObjectiveValues(Protocol):
    """Returns the metrics of an objective, name -> [b]."""

    def __call__(self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, /) -> Metrics: ...


def objective_values(objective: Objective) -> ObjectiveValues:
    """Return a jitted (key, variables, hparams, batch) -> metrics of the objective, each [b]; a scalar metric is repeated.

    Args:
      objective: as in ``vaex.core.Model``; called with ``train=False``.
    """

    @jax.jit
    def values(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Metrics:
        outcome = objective(key, variables, hparams, batch, train=False)
        rows = len(batch["x"])
        return {name: jnp.broadcast_to(jnp.asarray(metric), (rows,)) for name, metric in outcome.metrics.items()}

    return values
