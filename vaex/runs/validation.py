"""Validation while training goes on: rows of metrics, the best state of each member, and when to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import Batch, EvaluationKey, Metrics, PyTree, TrainState
from vaex.errors import UserError
from vaex.evaluation.examples import SEED, chosen_examples, divided_examples
from vaex.evaluation.training_curves import VALIDATION
from vaex.runs.by_batch import evaluation_batch
from vaex.runs.evaluate import model_columns
from vaex.runs.setup import Experiment
from vaex.runs.store import CheckpointStore
from vaex.schedules import resolve
from vaex.training import multihost, population
from vaex.training.step import averaged_variables

EXAMPLES = 2000  # of the validation split, at most: enough to choose by, and quick
HIGHER = ("elbo", "bound", "log_likelihood", "accuracy", "agreement")  # a metric that ends so is better when larger


class Validator:
    """Evaluates the objective of all members on a fixed random choice of the validation split.

    Args:
      experiment: gives data and recipe.
      stage: which is trained, counted from 0.
    """

    def __init__(self, experiment: Experiment, stage: int) -> None:
        spec, objective = experiment.spec, experiment.recipe.stages[stage].model.objective
        arrays = experiment.dataset.splits["validation"]
        self._key, batch = jax.random.key(SEED), evaluation_batch(spec)
        inputs_key = jax.random.fold_in(self._key, EvaluationKey.INPUTS)
        self._columns = model_columns(experiment, arrays, inputs_key, batch)
        self._batches = divided_examples(chosen_examples(len(arrays["x"]), EXAMPLES), batch)

        def metrics(key: jax.Array, state: TrainState, batch: Batch) -> Metrics:
            def of_member(member: TrainState) -> Metrics:
                hparams = resolve(member.hparams, member.step)
                outcome = objective(key, averaged_variables(member), hparams, batch, train=False)
                return {name: jnp.mean(metric) for name, metric in outcome.metrics.items()}

            return jax.lax.map(of_member, state)

        self._metrics = jax.jit(metrics)

    def check(self, metric: str, state: TrainState) -> None:
        """Raise UserError where the objective has no such metric; nothing is computed."""
        rows = self._batches[0]
        shapes = {
            name: jax.ShapeDtypeStruct(column[rows[:1]].shape, column[rows[:1]].dtype)
            for name, column in self._columns.items()
        }
        names = jax.eval_shape(self._metrics, self._key, state, shapes)
        if metric not in names:
            raise UserError(f"--keep=best:{metric}: the objective has no such metric; it has {', '.join(names)}")

    def __call__(self, state: TrainState) -> dict[str, np.ndarray]:
        """Return the mean of each metric for each member, name -> [p]."""
        sums: dict[str, Any] = {}
        count = sum(map(len, self._batches))
        for index, rows in enumerate(self._batches):
            batch = {name: column[rows] for name, column in self._columns.items()}
            key = jax.random.fold_in(jax.random.fold_in(self._key, EvaluationKey.OBJECTIVE), index)
            for name, values in multihost.fetch(self._metrics(key, state, batch)).items():
                sums[name] = sums.get(name, 0.0) + np.asarray(values, np.float64) * (len(rows) / count)
        return sums


def validation_row(step: int, metrics: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return metrics of the validation split as a row of metrics.jsonl.

    Example:
      >>> validation_row(100, {"elbo": np.array([-3.0, np.nan])})
      {'step': 100, 'validation_elbo': [-3.0, None]}
    """
    values = {name: [float(v) if np.isfinite(v) else None for v in metric] for name, metric in metrics.items()}
    return {"step": step, **{VALIDATION + name: entries for name, entries in values.items()}}


class Best:
    """The best state of each member by one metric of the validation split, and how long none has become better.

    Args:
      metric: name; larger is better where it ends as those in ``HIGHER``, else smaller.
      patience: validations without improvement after which training stops; None for never.
      checkpoints: keep the states.
    """

    def __init__(self, metric: str, patience: int | None, checkpoints: CheckpointStore) -> None:
        self.metric, self._patience, self._checkpoints = metric, patience, checkpoints
        self._sign = 1.0 if metric.endswith(HIGHER) else -1.0
        self._values: np.ndarray | None = None
        self._waited = 0
        self.steps: list[int] = []
        self.state: PyTree = None

    def resume(self, rows: Sequence[Mapping[str, Any]], state: TrainState, step: int) -> None:
        """Take up a run that continues at ``step``, from its rows and the states that were kept."""
        for row in rows:
            if VALIDATION + self.metric in row and row["step"] <= step:
                entries = row[VALIDATION + self.metric]
                self._compare(row["step"], np.array([np.nan if entry is None else entry for entry in entries]))
        if not self.steps:
            return
        current, copied = np.array([best == step for best in self.steps]), jax.tree.map(jnp.copy, state)
        self.state = copied if current.all() else population.chosen(current, copied, self._checkpoints.restore(state))

    def update(self, step: int, metrics: Mapping[str, np.ndarray], state: TrainState) -> bool:
        """Compare the members with their best; return whether one has become better, whose state is then to be kept."""
        better = self._compare(step, np.asarray(metrics[self.metric]))
        if better.any():
            copied = jax.tree.map(jnp.copy, state)
            self.state = copied if self.state is None else population.chosen(better, copied, self.state)
        return bool(better.any())

    def keep(self, step: int) -> None:
        """Write the best states, after the checkpoint of this step, from which they could be had again."""
        latest = self._checkpoints.latest()
        if latest is None or latest < step:
            self._checkpoints.save(step, self.state)

    @property
    def exhausted(self) -> bool:
        """True where patience is at its end."""
        return self._patience is not None and self._waited >= self._patience

    def _compare(self, step: int, values: np.ndarray) -> np.ndarray:
        """Return which members are better than ever before, [p]."""
        scores = np.where(np.isfinite(values), self._sign * values, -np.inf)
        if self._values is None:
            self._values, self.steps = np.full(len(values), -np.inf), [step] * len(values)
            better = np.ones(len(values), bool)
        else:
            better = scores > self._values
        self._values = np.where(better, scores, self._values)
        self.steps = [step if new else old for new, old in zip(better, self.steps, strict=True)]
        self._waited = 0 if better.any() else self._waited + 1
        return better
