"""The compiled functions that evaluate the members of a run, and the split that they look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import jax
import numpy as np

from vaex.core import Batch, EvaluationKey, LogWeights, PyTree, Recipe, Variables
from vaex.data.loader.lazy_inputs import LazyInputs, chosen_intensities
from vaex.evaluation import classification, latents, likelihood, objective, prediction
from vaex.evaluation.examples import SEED, chosen_examples, divided_examples, random_order
from vaex.evaluation.objective import ObjectiveValues
from vaex.runs.by_batch import BATCH, BatchedValues, evaluation_batch, over_batches, over_divisions
from vaex.runs.setup import Experiment

TRAINING_EXAMPLES = 1000  # by which the objective is evaluated on training data
LIKELIHOOD_BATCH = 100  # per call of the compiled importance bound, so that progress can be told
DRAWN_VALUES = 2**23  # samples decoded at once times values per example, at most
NEIGHBOURS = 10_000  # training sequences to which predictions without a model are fitted

Bound: TypeAlias = Callable[[jax.Array, Variables, PyTree, Batch], jax.Array]
Progress: TypeAlias = Callable[[int, int], None]  # how many examples are done, of how many


def visible_columns(recipe: Recipe, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns that a model may read: not the labels, where it infers them."""
    hidden = recipe.labels is not None and recipe.labels.classify is not None
    return {name: column for name, column in columns.items() if not (hidden and name == "y")}


def model_columns(
    run: Experiment, arrays: Mapping[str, np.ndarray], key: jax.Array, batch: int
) -> dict[str, np.ndarray]:
    """Return the columns of a split as a model reads them: x as inputs that are made ``batch`` at a time, as they are read."""
    prepared = LazyInputs(run.spec, key, arrays["x"], batch)
    return {**visible_columns(run.recipe, arrays), "x": cast(np.ndarray, prepared)}


class Evaluator:
    """The compiled functions that evaluate one member after the other, and the split they look at.

    Values are binarised or dequantised with a key of the evaluation's own, so that all numbers, members and runs are of the
    same values and may be compared example by example. The split may exceed the memory: it is read and prepared batch by
    batch, and only codes and numbers of all its examples are kept, never their values. Models with a classifier of their own
    (``Labels.classify``) see no label of the split.

    Which examples are chosen and how they are divided into batches is random but fixed, see ``vaex.evaluation.examples``. The
    draws that belong to an example (its binarisation, its importance samples) depend on its number in the split alone.

    Args:
      run: data, recipe and settings.
      batch: examples at a time, fewer where they are large.

    Attributes:
      arrays: the split as stored; inputs: the same as model inputs, made as they are read; batch: examples at a time.
      rows: numbers of the examples whose log-likelihood is estimated, [n].
      divisions: numbers of the examples of each batch whose statistics are taken.
      predictive: horizon -> log-likelihoods of frames, for models of sequences that have a density.
      baselines: predictions without a model, where they are fitted.
    """

    def __init__(self, run: Experiment, *, batch: int = BATCH) -> None:
        spec, recipe, flags = run.spec, run.recipe, run.settings.evaluation
        self.run, self.key = run, jax.random.key(SEED)
        self.arrays = run.dataset.splits[flags.eval_split]
        self.batch = evaluation_batch(spec, batch)
        total = len(self.arrays["x"])
        self.rows = np.sort(chosen_examples(total, flags.eval_images))
        self.divisions = divided_examples(random_order(total), self.batch)
        self.inputs = self._prepared(self.arrays, EvaluationKey.INPUTS)
        self._objective = objective.objective_values(recipe.stages[-1].model.objective)
        self._posterior = jax.jit(self._moments)
        self._decode = jax.jit(
            lambda variables, hparams, z, labels: recipe.model.decode(variables, hparams, z, labels).mean
        )
        self._draw = jax.jit(jax.vmap(self._drawn, in_axes=(0, None, None, 0, 0)))
        self._bound = self._class_bound = None
        if recipe.model.log_weights is not None:
            self._bound = self._compiled_bound(recipe.model.log_weights, math.prod(spec.shape))
        if recipe.model.log_weights is not None and recipe.labels is not None and recipe.labels.classes:
            classes = recipe.labels.classes
            of_all = recipe.labels.class_log_weights or classification.log_weights_by_class(
                recipe.model.log_weights, classes
            )
            self._class_bound = self._compiled_bound(of_all, classes * math.prod(spec.shape))
        if recipe.labels is not None and recipe.labels.classify is not None:
            classify = recipe.labels.classify
            self._classify = jax.jit(lambda keys, *args: classify(keys[0], *args).log_probabilities)
        self.predictive: dict[int, Callable[..., Any]] = {}
        self.baselines: prediction.Baselines | None = None
        if recipe.sequences is not None and recipe.model.log_weights is not None:
            predict, ahead = recipe.sequences.predict, prediction.horizons(spec.shape[0])
            self.predictive = {k: prediction.predictive_log_likelihood(predict, steps=k) for k in ahead}
            self.baselines = self._fitted_baselines(tuple(ahead))

    def _compiled_bound(self, log_weights: LogWeights, values: int) -> Bound:
        """The importance bound of each example; ``values``: how many numbers a sample is."""
        chunk = max(1, min(likelihood.SAMPLES_PER_CHUNK, DRAWN_VALUES // values))
        samples = self.run.settings.evaluation.eval_samples
        return likelihood.log_likelihood(log_weights, num_samples=samples, samples_per_chunk=chunk)

    def _visible(self, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return visible_columns(self.run.recipe, columns)

    def _prepared(self, arrays: Mapping[str, np.ndarray], purpose: EvaluationKey) -> dict[str, np.ndarray]:
        """Columns of a split as the model reads them, x as inputs that are made as they are read."""
        return model_columns(self.run, arrays, jax.random.fold_in(self.key, purpose), self.batch)

    def _drawn(self, key: jax.Array, variables: Variables, hparams: PyTree, z: jax.Array, labels: Batch) -> jax.Array:
        """A draw from the likelihood of one code [d]."""
        single = {name: label[None] for name, label in labels.items()}
        return self.run.recipe.model.decode(variables, hparams, z[None], single).sample(key)[0]

    def _moments(self, keys: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> dict[str, jax.Array]:
        posterior = self.run.recipe.model.encode(keys if keys.ndim == 0 else keys[0], variables, hparams, batch)
        rows = len(batch["x"])
        return {"mean": posterior.mean.reshape(rows, -1), "variance": posterior.variance.reshape(rows, -1)}

    def posterior(
        self, variables: Variables, hparams: PyTree, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return posterior "mean" and "variance" of each example, [n, d]."""
        key = jax.random.fold_in(self.key, EvaluationKey.POSTERIOR)
        return over_batches(self._posterior, key, self._visible(inputs), variables, hparams, size=self.batch)

    def labels(self, variables: Variables, hparams: PyTree, inputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Return the labels [n], or conditions [n, m], to decode codes of these examples with: None for a model that reads none;
        the most probable ones where it infers them, else their own."""
        if self.run.recipe.labels is None:
            return None
        if self.run.recipe.labels.classify is None:
            return inputs["y"]
        return np.argmax(self.class_scores(variables, hparams, inputs), axis=1).astype(np.int32)

    def terms_and_moments(self, variables: Variables, hparams: PyTree) -> tuple[BatchedValues, dict[str, np.ndarray]]:
        """Metrics of the objective on the split, and "mean" and "variance" of the posteriors [n, d]; in one pass, as reading is
        slow."""
        moments = ("mean", "variance")
        posterior_key = jax.random.fold_in(self.key, EvaluationKey.POSTERIOR)

        def terms(key: jax.Array, batch: Batch) -> ObjectiveValues:
            values = self._objective(key, variables, hparams, batch)
            posterior = self._posterior(posterior_key, variables, hparams, batch)
            return values._replace(
                examples=values.examples | {f"posterior {name}": posterior[name] for name in moments}
            )

        key = jax.random.fold_in(self.key, EvaluationKey.OBJECTIVE)
        values = over_divisions(terms, key, self.inputs, self.divisions)
        return values, {name: values.examples.pop(f"posterior {name}") for name in moments}

    def training_terms(self, variables: Variables, hparams: PyTree) -> BatchedValues:
        """Metrics of the objective on some training examples, chosen at random."""
        arrays = self.run.dataset.splits["train"]
        size, total = len(self.divisions[0]), len(arrays["x"])  # that of a batch of the split: its program is compiled
        rows = chosen_examples(total, max(1, min(TRAINING_EXAMPLES, total) // size) * size)
        key = jax.random.fold_in(self.key, EvaluationKey.TRAINING_EXAMPLES)
        return over_divisions(
            lambda batch_key, batch: self._objective(batch_key, variables, hparams, batch),
            jax.random.fold_in(key, EvaluationKey.OBJECTIVE),
            self._prepared(arrays, EvaluationKey.TRAINING_EXAMPLES),
            divided_examples(rows, size),
        )

    def class_scores(self, variables: Variables, hparams: PyTree, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """log q(y|x) of each example by the model's own classifier, [n, classes]."""
        key = jax.random.fold_in(self.key, EvaluationKey.CLASSIFICATION)
        return over_batches(self._classify, key, self._visible(inputs), variables, hparams, size=self.batch)

    def latent_variables(self, codes: np.ndarray) -> tuple[latents.LatentVariable, ...]:
        """Return the latent variables that codes [n, d] are made of."""
        return latents.latent_variables(self.run.recipe.latents, codes.shape[-1])

    def shown(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return chosen examples of the split, values as they are shown: without randomness."""
        chosen = {name: column[rows] for name, column in self.arrays.items() if name != "x"}
        return {"x": chosen_intensities(self.run.spec, self.arrays["x"], rows, self.batch), **chosen}

    def decode(
        self,
        variables: Variables,
        hparams: PyTree,
        z: np.ndarray,
        labels: np.ndarray | None = None,
        *,
        show: str = "mean",
    ) -> np.ndarray:
        """Examples of ``z`` [n, d] and, for a model that reads them, ``labels`` [n]: the likelihood's mean, or with
        show="sample" a draw from it."""

        def decode(keys: jax.Array, batch: Batch) -> jax.Array:
            z = batch.pop("x")
            if show == "sample":
                return self._draw(keys, variables, hparams, z, batch)
            return self._decode(variables, hparams, z, batch)

        columns = {"x": np.asarray(z, np.float32)} | ({} if labels is None else {"y": labels})
        return over_batches(
            decode, jax.random.fold_in(self.key, EvaluationKey.LIKELIHOOD_SAMPLES), columns, size=self.batch
        )

    def log_likelihoods(self, variables: Variables, hparams: PyTree, tell: Progress) -> np.ndarray | None:
        """Importance-weighted log-likelihood of each of ``rows`` [n], nats, or None without a density."""
        return None if self._bound is None else self._bounds(self._bound, variables, hparams, tell)

    def class_log_likelihoods(self, variables: Variables, hparams: PyTree, tell: Progress) -> np.ndarray | None:
        """The same given each class, [n, classes], or None for a model that reads no classes."""
        return None if self._class_bound is None else self._bounds(self._class_bound, variables, hparams, tell)

    def _bounds(self, bound: Bound, variables: Variables, hparams: PyTree, tell: Progress) -> np.ndarray:
        """A compiled bound of the chosen examples."""
        done = 0

        def bound_of(keys: jax.Array, batch: Batch) -> jax.Array:
            nonlocal done
            tell(done, len(self.rows))
            done += len(batch["x"])
            return bound(keys, variables, hparams, batch)

        size = min(LIKELIHOOD_BATCH, self.batch)
        key = jax.random.fold_in(self.key, EvaluationKey.LOG_LIKELIHOOD)
        values = over_batches(bound_of, key, self.inputs, size=size, rows=self.rows)
        tell(len(self.rows), len(self.rows))
        return values

    def _fitted_baselines(self, ahead: tuple[int, ...]) -> prediction.Baselines | None:
        """Predictions without a model, of some training sequences; None where values are not binary."""
        spec, train = self.run.spec, self.run.dataset.splits["train"]
        if (spec.kind != "binary" and spec.binarize == "none") or len(spec.shape) != 4:
            return None
        inputs = self._prepared(train, EvaluationKey.BASELINES)["x"]
        return prediction.fit_baselines(inputs[np.sort(chosen_examples(len(inputs), NEIGHBOURS))], ahead)
