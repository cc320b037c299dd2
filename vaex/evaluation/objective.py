"""Metrics of the objective: one value per example, or one for a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from vaex.core import Batch, Metrics, Objective, PyTree, Variables


class ObjectiveValues(NamedTuple):
    """Metrics of a batch: ``examples``, name -> [b], a value of each example; ``statistics``, name -> [], of the batch."""

    examples: Metrics
    statistics: Metrics


class EvaluateObjective(Protocol):
    """Returns the metrics of an objective on a batch."""

    def __call__(self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, /) -> ObjectiveValues: ...


def objective_values(objective: Objective) -> EvaluateObjective:
    """Return a jitted (key, variables, hparams, batch) -> metrics of the objective, those per example apart from statistics.

    All rows of the batch count: it holds no padding.

    Args:
      objective: as in ``vaex.core.Model``; called with ``train=False``.
    Raises: ValueError, when called, for a metric that is neither [] nor [b].
    """

    @jax.jit
    def values(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> ObjectiveValues:
        outcome = objective(key, variables, hparams, batch, train=False)
        metrics = {name: jnp.asarray(metric) for name, metric in outcome.metrics.items()}
        rows = len(batch["x"])
        for name, metric in metrics.items():
            if metric.shape not in ((), (rows,)):
                raise ValueError(
                    f"objective_values: the metric {name} has shape {metric.shape}, expected [] or [{rows}]; reduce it to a "
                    "value of each example, or of the batch"
                )
        examples = {name: metric for name, metric in metrics.items() if metric.ndim}
        return ObjectiveValues(examples, {name: metric for name, metric in metrics.items() if not metric.ndim})

    return values
