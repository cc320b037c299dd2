"""The evaluation of each member on one split: the objective's terms, log-likelihood, latents, labels kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import jax
import numpy as np
from jax.typing import ArrayLike

from vaex import data
from vaex.core import Batch, EvaluationKey, LogWeights, PyTree, Variables
from vaex.data.loader.lazy_inputs import LazyInputs, chosen_intensities
from vaex.evaluation import classification, generation, latents, likelihood, objective, prediction
from vaex.runs.setup import Experiment

BATCH = 500
BATCH_VALUES = 2**27  # of the images of a batch, at most: 0.5 GB; larger images come in smaller batches
LIKELIHOOD_BATCH = 100  # per call of the compiled importance bound, so that progress can be told
DRAWN_VALUES = 2**23  # samples decoded at once times values per example, at most
NEIGHBOURS = 10_000  # examples on either side of the nearest-neighbour classifier: enough, and quick
NEIGHBOUR_VALUES = 2**27  # and values on either side: the first labelled examples that make up 0.5 GB


Numbers: TypeAlias = dict[str, Any]  # name -> a number, None where it is not finite
Bound: TypeAlias = Callable[[jax.Array, Variables, PyTree, Batch], jax.Array]
Progress: TypeAlias = Callable[[int, int], None]  # how many examples are done, of how many


def over_batches(
    function: Callable[..., Any],
    key: Any,
    arrays: Mapping[str, np.ndarray],
    *args: Any,
    size: int = BATCH,
    count: int | None = None,
) -> Any:
    """Return ``function(key_i, *args, batch)`` over the first ``count`` examples, [b, ...] joined to [n, ...] on the host.

    Batches have a "mask", 1 for rows that count. Arrays are read a batch at a time; what comes back, of all examples, is to be
    small. ``key`` may be a tuple of keys.
    """
    n = len(arrays["x"]) if count is None else min(count, len(arrays["x"]))
    size = min(size, n)
    joined: list[np.ndarray] = []
    tree: Any = None
    for index, batch in enumerate(data.padded_batches(arrays, size, n)):
        rows = int(np.sum(batch["mask"]))
        keys = jax.tree.map(lambda batch_key, i=index: jax.random.fold_in(batch_key, i), key)
        leaves, tree = jax.tree.flatten(function(keys, *args, batch))
        joined = joined or [np.empty((n, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
        for into, leaf in zip(joined, leaves, strict=True):
            into[index * size : index * size + rows] = np.asarray(leaf)[:rows]
    return jax.tree.unflatten(tree, joined)


class Evaluator:
    """The compiled functions that evaluate one member after the other, and the split they look at.

    Values are binarised or dequantised with a key of the evaluation's own, so that all numbers, members and runs are of the
    same values and may be compared example by example. The split may exceed the memory: it is read and prepared batch by
    batch, and only codes and numbers of all its examples are kept, never their values. Models with a classifier of their own
    (``Labels.classify``) see no label of the split.

    Attributes:
      arrays: the split as stored; inputs: the same as model inputs, made as they are read; batch: examples at a time.
    """

    def __init__(self, run: Experiment) -> None:
        spec, recipe, flags = run.spec, run.recipe, run.settings.evaluation
        self.run, self.key = run, jax.random.key(20131220)
        self.arrays = run.dataset.splits[flags.eval_split]
        self.batch = max(1, min(BATCH, BATCH_VALUES // math.prod(spec.shape)))
        prepared = LazyInputs(spec, jax.random.fold_in(self.key, EvaluationKey.INPUTS), self.arrays["x"], self.batch)
        self.inputs = {**self._visible(self.arrays), "x": cast(np.ndarray, prepared)}
        self._objective = objective.objective_values(recipe.stages[-1].model.objective)
        self._posterior = jax.jit(self._moments)
        self._decode = jax.jit(
            lambda variables, hparams, z, labels: recipe.model.decode(variables, hparams, z, labels).mean
        )
        self._draw = jax.jit(
            lambda key, variables, hparams, z, labels: recipe.model.decode(variables, hparams, z, labels).sample(key)
        )
        self._bound = self._class_bound = None
        if recipe.model.log_weights is not None:
            self._bound = self._compiled_bound(recipe.model.log_weights, math.prod(spec.shape))
        if recipe.model.log_weights is not None and recipe.labels is not None:
            classes = recipe.labels.classes
            of_all = recipe.labels.class_log_weights or classification.log_weights_by_class(
                recipe.model.log_weights, classes
            )
            self._class_bound = self._compiled_bound(of_all, classes * math.prod(spec.shape))
        if recipe.labels is not None and recipe.labels.classify is not None:
            classify = recipe.labels.classify
            self._classify = jax.jit(lambda *args: classify(*args).log_probabilities)
        self._predictive: dict[int, Callable[..., Any]] = {}
        if recipe.sequences is not None and recipe.model.log_weights is not None:
            predict, ahead = recipe.sequences.predict, prediction.horizons(spec.shape[0])
            self._predictive = {k: prediction.predictive_log_likelihood(predict, steps=k) for k in ahead}
            self._baselines = self._fitted_baselines(tuple(ahead))

    def _compiled_bound(self, log_weights: LogWeights, values: int) -> Bound:
        """The importance bound of each example; ``values``: how many numbers a sample is."""
        chunk = max(1, min(likelihood.SAMPLES_PER_CHUNK, DRAWN_VALUES // values))
        samples = self.run.settings.evaluation.eval_samples
        return likelihood.log_likelihood(log_weights, num_samples=samples, samples_per_chunk=chunk)

    def _visible(self, columns: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The columns that the model may read: not the labels, where it infers them."""
        labels = self.run.recipe.labels
        hidden = labels is not None and labels.classify is not None
        return {name: column for name, column in columns.items() if not (hidden and name == "y")}

    def _moments(self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> dict[str, jax.Array]:
        posterior = self.run.recipe.model.encode(key, variables, hparams, batch)
        rows = len(batch["x"])
        return {"mean": posterior.mean.reshape(rows, -1), "variance": posterior.variance.reshape(rows, -1)}

    def posterior(
        self, variables: Variables, hparams: PyTree, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return posterior "mean" and "variance" of each example, [n, d]."""
        key = jax.random.fold_in(self.key, EvaluationKey.POSTERIOR)
        return over_batches(self._posterior, key, self._visible(inputs), variables, hparams, size=self.batch)

    def labels(self, variables: Variables, hparams: PyTree, inputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Return the labels [n] to decode codes of these examples with: None for a model that reads none; the most probable ones
        where it infers them, else their own."""
        if self.run.recipe.labels is None:
            return None
        if self.run.recipe.labels.classify is None:
            return inputs["y"]
        return np.argmax(self.class_scores(variables, hparams, inputs), axis=1).astype(np.int32)

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

        def decode(key: jax.Array, batch: Batch) -> jax.Array:
            z = batch.pop("x")
            if show == "sample":
                return self._draw(key, variables, hparams, z, batch)
            return self._decode(variables, hparams, z, batch)

        columns = {"x": np.asarray(z, np.float32)} | ({} if labels is None else {"y": labels})
        return over_batches(
            decode, jax.random.fold_in(self.key, EvaluationKey.LIKELIHOOD_SAMPLES), columns, size=self.batch
        )

    def log_likelihood(self, variables: Variables, hparams: PyTree, tell: Progress) -> likelihood.Estimate | None:
        """Importance-weighted log-likelihood of the first ``eval_images`` examples, or None without a density."""
        if self._bound is None:
            return None
        return likelihood.estimate(self._bounds(self._bound, variables, hparams, tell))

    def _bounds(self, bound: Bound, variables: Variables, hparams: PyTree, tell: Progress) -> np.ndarray:
        """A compiled bound of the first ``eval_images`` examples."""
        count = min(self.run.settings.evaluation.eval_images, len(self.inputs["x"]))
        done = 0

        def bound_of(key: jax.Array, batch: Batch) -> jax.Array:
            nonlocal done
            tell(done, count)
            done += len(batch["x"])
            return bound(key, variables, hparams, batch)

        size = min(LIKELIHOOD_BATCH, self.batch)
        values = over_batches(
            bound_of, jax.random.fold_in(self.key, EvaluationKey.LOG_LIKELIHOOD), self.inputs, size=size, count=count
        )
        tell(count, count)
        return values

    def member(self, variables: Variables, hparams: PyTree, tell: Progress) -> tuple[dict[str, Any], np.ndarray | None]:
        """Return all numbers of one member, in nats per example unless named otherwise, None where one is not finite; and the
        log-likelihood of each example that has one, [n], or None without a density.
        """
        numbers: Numbers = {}

        def terms_and_moments(keys: tuple[jax.Array, jax.Array], batch: Batch) -> PyTree:
            terms = self._objective(keys[0], variables, hparams, batch)
            return terms, self._posterior(keys[1], variables, hparams, batch)

        keys = (
            jax.random.fold_in(self.key, EvaluationKey.OBJECTIVE),
            jax.random.fold_in(self.key, EvaluationKey.POSTERIOR),
        )
        terms, moments = over_batches(
            terms_and_moments, keys, self.inputs, size=self.batch
        )  # together: reading is slow
        for name, values in terms.items():
            _put(numbers, name, likelihood.estimate(values))
        weighted = self.log_likelihood(variables, hparams, tell)
        numbers["log_likelihood"] = None
        if weighted is not None:
            _put(numbers, "log_likelihood", weighted)
            numbers |= self._bits(weighted)
        sound = all(np.isfinite(values).all() for values in moments.values())
        latent_variables = self.latent_variables(moments["mean"])
        many = sound and len(moments["mean"]) > 1
        numbers["active_units"] = latents.count_active(latent_variables, moments["mean"]) if many else None
        kl = latents.kl_per_latent(latent_variables, **moments) if sound else None
        if kl is not None:
            numbers["kl_per_latent"] = [round(float(nats), 6) for nats in kl]
        if "y" in self.arrays and len(self.run.spec.shape) == 3:
            numbers |= self._agreement(variables, hparams)
        if self.run.recipe.labels is not None:
            self._classify_split(numbers, variables, hparams, tell)
        for steps in self._predictive:
            self._predictions(numbers, variables, hparams, steps)
        return numbers, None if weighted is None else weighted.values

    def _classify_split(self, numbers: Numbers, variables: Variables, hparams: PyTree, tell: Progress) -> None:
        """Accuracies of the model's own classifier on the split's values as they are shown, and of the generative classifier
        on the first ``eval_images`` examples."""
        y, accuracies = self.arrays["y"], {}
        if self.run.recipe.labels is not None and self.run.recipe.labels.classify is not None:
            pieces = np.array_split(np.arange(len(y)), -(-len(y) // self.batch))
            scores = [self.class_scores(variables, hparams, self.shown(rows)) for rows in pieces]
            accuracies["accuracy"] = classification.accuracy(np.concatenate(scores), y)
        if self._class_bound is not None:
            log_px = self._bounds(self._class_bound, variables, hparams, tell)
            accuracies["generative_accuracy"] = classification.accuracy(
                classification.log_posterior(log_px), y[: len(log_px)]
            )
        for name, estimate in accuracies.items():
            if estimate is not None:
                _put(numbers, name, estimate)

    def _fitted_baselines(self, ahead: tuple[int, ...]) -> prediction.Baselines | None:
        """Predictions without a model, of the training sequences that are kept; None where values are not binary."""
        spec, stored = self.run.spec, self.run.dataset.splits["train"]["x"][:NEIGHBOURS]
        if spec.kind != "binary" and spec.binarize == "none":
            return None
        prepared = LazyInputs(spec, jax.random.fold_in(self.key, EvaluationKey.BASELINES), stored, self.batch)
        return prediction.fit_baselines(prepared[np.arange(len(stored))], ahead)

    def _predictions(self, numbers: Numbers, variables: Variables, hparams: PyTree, steps: int) -> None:
        """log p(x_{t+k} | x_{<=t}) of the first ``eval_images`` sequences, all with the same t, and of the baselines."""
        start, frame_values = prediction.context_frames(self.run.spec.shape[0]), math.prod(self.run.spec.shape[1:])

        def log_probabilities(key: jax.Array, batch: Batch) -> dict[str, ArrayLike]:
            x, frame = batch["x"][:, :start], batch["x"][:, start - 1 + steps]
            log_probs = {"log_p": self._predictive[steps](key, variables, hparams, x, frame)}
            if self._baselines is None:
                return log_probs
            copied = self._baselines.copy_last(x[:, -1], frame, steps)
            return {**log_probs, "copy_last": copied, "mean_frame": self._baselines.independent(frame)}

        size = max(1, min(self.batch, DRAWN_VALUES // (prediction.SAMPLES * frame_values)))
        count = self.run.settings.evaluation.eval_images
        key = jax.random.fold_in(jax.random.fold_in(self.key, EvaluationKey.PREDICTIONS), steps)
        for name, values in over_batches(
            log_probabilities, key, {"x": self.inputs["x"]}, size=size, count=count
        ).items():
            _put(numbers, f"{name}_{steps}_ahead", likelihood.estimate(values))

    def _bits(self, weighted: likelihood.Estimate) -> dict[str, float]:
        """Bits per dimension, where the likelihood bounds the probability of the data's own levels."""
        spec, discrete = self.run.spec, self.run.recipe.likelihood.discrete
        if spec.levels in (None, 2) or spec.binarize != "none" or not (discrete or spec.dequantize == "uniform"):
            return {}
        size = math.prod(spec.shape)
        bits = likelihood.bits_per_dimension(weighted.mean, size, levels=spec.levels, density=not discrete)
        return {"bits_per_dimension": bits} if math.isfinite(bits) else {}

    def _agreement(self, variables: Variables, hparams: PyTree) -> Numbers:
        """The share of reconstructions that keep their original's label, according to a classifier of the training images."""
        train, spec = self.run.dataset.splits["train"], self.run.spec
        most = min(NEIGHBOURS, NEIGHBOUR_VALUES // math.prod(spec.shape))
        known, labelled = (np.flatnonzero(labels >= 0)[:most] for labels in (train["y"], self.arrays["y"]))
        if len(known) < 1 or len(labelled) < 1:  # -1 is unlabelled
            return {}
        originals = self.shown(labelled)
        codes = self.posterior(variables, hparams, originals)["mean"]
        reconstructions = self.decode(variables, hparams, codes, self.labels(variables, hparams, originals))
        if not np.isfinite(reconstructions).all():
            return {}
        result = generation.knn_label_agreement(
            chosen_intensities(spec, train["x"], known, self.batch),
            train["y"][known],
            reconstructions,
            originals["y"],
            k=min(5, len(known)),
            originals=originals["x"],
        )
        return {"knn_label_agreement": result.agreement, "knn_accuracy_on_originals": result.accuracy}


def _put(numbers: Numbers, name: str, estimate: likelihood.Estimate) -> None:
    numbers[name] = finite(estimate.mean)
    numbers[f"{name}_standard_error"] = finite(estimate.standard_error)


def finite(value: float) -> float | None:
    """Return ``value``, or None (JSON's null) where it is NaN or infinite.

    Example:
      >>> finite(1.5), finite(math.nan)
      (1.5, None)
    """
    return float(value) if math.isfinite(value) else None
