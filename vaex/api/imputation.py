"""Missing values estimated by a trained model, a bounded number of examples at a time."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.api.in_batches import applied, batch_bounds
from vaex.api.keys_and_labels import check_key
from vaex.core import Distribution, PyTree, Recipe, Variables
from vaex.data.loader import user_examples
from vaex.data.spec import Spec
from vaex.evaluation.imputation import Imputation, impute
from vaex.ops.widths import in_single_width
from vaex.runs.evaluate import DRAWN_VALUES


class Imputer:
    """Imputation by the models of a recipe, compiled once for each number of samples and of draws."""

    def __init__(self, recipe: Recipe, spec: Spec) -> None:
        self._recipe, self._spec = recipe, spec
        self._compiled: dict[tuple[int, int], Callable[..., Imputation]] = {}

    @in_single_width
    def __call__(
        self, key: jax.Array, variables: Variables, hparams: PyTree, x: ArrayLike, num_samples: int, num_draws: int
    ) -> Imputation:
        """Return the imputation of x; ``TrainedModel.impute`` describes arguments and errors."""
        reason = _problem(self._recipe, self._spec)
        if reason is not None:
            raise ValueError(f"impute: {reason}")
        check_key("impute", key)
        samples, draws = operator.index(num_samples), operator.index(num_draws)
        if samples < 1 or draws < 1:
            raise ValueError(f"impute: num_samples={samples}, num_draws={draws}, expected at least 1 each")
        inputs = user_examples.model_inputs(self._spec, "impute", x)
        function = self._compiled.setdefault((samples, draws), _imputation(self._recipe, samples, draws))
        bounds = batch_bounds(inputs.shape[0], max(1, DRAWN_VALUES // (samples * math.prod(self._spec.shape))))
        parts = [
            applied(function, jax.random.fold_in(key, index), variables, hparams, inputs[start:stop])
            for index, (start, stop) in enumerate(itertools.pairwise(bounds))
        ]
        axes = [1 if name == "draws" else 0 for name in Imputation._fields]  # of the examples
        return Imputation(*(jnp.concatenate(arrays, axis) for axis, *arrays in zip(axes, *parts, strict=True)))


def _problem(recipe: Recipe, spec: Spec) -> str | None:
    """Say why a model cannot impute; None where it can."""
    if not spec.missing:
        return (
            f"{spec.name} has no missing values, so the model saw none; train on data with NaN where a value is missing"
        )
    if recipe.model.log_weights is None:
        return f"this run's objective ({recipe.likelihood.title}) defines no density of the data"
    if recipe.labels is not None or any(block.kind != "normal" for block in recipe.latents):
        return "needs latents with a standard normal prior, and no labels; train a model such as vae or iwae"
    return None


def _imputation(recipe: Recipe, num_samples: int, num_draws: int) -> Callable[..., Imputation]:
    """Return the compiled function (key, variables, hparams, x [b, *shape]) -> Imputation."""

    @jax.jit
    def of_batch(key: jax.Array, variables: Variables, hparams: PyTree, x: jax.Array) -> Imputation:
        model, batch = recipe.model, {"x": x}
        posterior = model.encode(key, variables, hparams, batch)

        def decode(z: jax.Array) -> Distribution:
            return model.decode(variables, hparams, z, batch)

        return impute(key, x, posterior, decode, num_samples=num_samples, num_draws=num_draws)

    return of_batch
