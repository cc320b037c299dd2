"""How surprising each step of a series is to a trained model, a bounded number of examples at a time."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.api.in_batches import applied, in_batches
from vaex.api.keys_and_labels import check_key
from vaex.core import Batch, PyTree, Recipe, Variables
from vaex.data.loader import user_examples
from vaex.data.spec import Spec
from vaex.evaluation.series import step_scores
from vaex.ops.widths import in_single_width
from vaex.runs.evaluate import DRAWN_VALUES


class StepScorer:
    """Scores of steps by the model of a recipe, compiled once for each number of samples."""

    def __init__(self, recipe: Recipe, spec: Spec) -> None:
        self._recipe, self._spec = recipe, spec
        self._compiled: dict[int, Callable[..., jax.Array]] = {}

    @in_single_width
    def __call__(
        self,
        key: jax.Array,
        variables: Variables,
        hparams: PyTree,
        x: ArrayLike,
        num_samples: int,
        labels: dict[str, jax.Array],
    ) -> jax.Array:
        """Return the scores of x; ``TrainedModel.step_scores`` describes arguments and errors."""
        if len(self._spec.shape) != 2:
            raise ValueError(
                f"step_scores: {self._spec.name} has examples of shape {self._spec.shape}, expected series [t, c]"
            )
        check_key("step_scores", key)
        samples = operator.index(num_samples)
        if samples < 1:
            raise ValueError(f"step_scores: num_samples={samples}, expected at least 1")
        inputs = user_examples.model_inputs(self._spec, "step_scores", x)
        function = self._compiled.setdefault(samples, self._scores(samples))
        size = max(1, DRAWN_VALUES // (samples * math.prod(self._spec.shape)))
        score = functools.partial(applied, function, key, variables, hparams)
        return in_batches(score, {"x": inputs, **labels}, size)

    def _scores(self, num_samples: int) -> Callable[..., jax.Array]:
        """Return the compiled function (key, variables, hparams, batch) -> [b, t]."""
        model = self._recipe.model

        @jax.jit
        def of_batch(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> jax.Array:
            posterior = model.encode(key, variables, hparams, batch)
            z = posterior.sample(key, (num_samples,))
            return step_scores(model.decode(variables, hparams, z, batch), jnp.asarray(batch["x"]))

        return of_batch
