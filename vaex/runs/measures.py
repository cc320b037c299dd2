"""The numbers of one member: terms of the objective, log-likelihood, latents, labels that are kept, predictions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

from vaex.core import Batch, EvaluationKey, PyTree, Variables
from vaex.data.loader.lazy_inputs import chosen_intensities
from vaex.distributions import Normal
from vaex.evaluation import classification, generation, latents, likelihood, prediction
from vaex.evaluation.aggregate_posterior import aggregate_kl
from vaex.evaluation.examples import chosen_examples
from vaex.runs.by_batch import BatchedValues, over_batches
from vaex.runs.evaluate import DRAWN_VALUES, Evaluator, Progress

AGGREGATE_SAMPLES = 1000  # draws of z at which the density of the aggregate posterior is taken
NEIGHBOURS = 10_000  # examples on either side of the nearest-neighbour classifier: enough, and quick
NEIGHBOUR_VALUES = 2**27  # and values on either side: so many labelled examples that they make up 0.5 GB
MOST_CLASSES = 100  # whose metrics are told
BOUNDS = (
    "elbo",
    "prediction_bound",
    "cross_entropy",
    "reconstruction",
)  # the first of which training examples are compared by

Numbers: TypeAlias = dict[str, Any]  # name -> a number, None where it is not finite


class Evaluated(NamedTuple):
    """Evaluation of one member.

    Attributes:
      numbers: name -> a number, in nats per example unless named otherwise, None where it is not finite.
      statistics: names of those that are statistics of a batch, whose standard error, if any, is over batches.
      log_likelihoods: of each of ``Evaluator.rows`` [n], nats; None without a density.
    """

    numbers: Numbers
    statistics: tuple[str, ...]
    log_likelihoods: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class MemberEvaluation:
    """Computes the numbers of one member.

    Attributes:
      evaluator: of the run.
      variables: the member's, averaged where there is an average.
      hparams: the member's, at the last step.
      tell: hears how many log-likelihoods are done.
    """

    evaluator: Evaluator
    variables: Variables
    hparams: PyTree
    tell: Progress

    def evaluated(self) -> Evaluated:
        """Return all numbers."""
        evaluator, member = self.evaluator, (self.variables, self.hparams)
        numbers: Numbers = {}
        values, moments = evaluator.terms_and_moments(*member)
        for name, of_examples in values.examples.items():
            _put(numbers, name, likelihood.estimate(of_examples))
        numbers |= _statistics(values)
        numbers |= self._training_bound(values)
        log_likelihoods = evaluator.log_likelihoods(*member, self.tell)
        numbers["log_likelihood"] = None
        if log_likelihoods is not None:
            numbers |= self._likelihood_numbers(values, log_likelihoods)
        numbers |= self._latents(values, moments)
        if "y" in evaluator.arrays and evaluator.run.spec.num_classes and len(evaluator.run.spec.shape) == 3:
            numbers |= self._agreement()
        scores: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if evaluator.run.recipe.labels is not None and evaluator.run.recipe.labels.classes:
            scores = self._class_scores()
            numbers |= _accuracies(scores)
        numbers |= self._by_class(values, log_likelihoods, scores)
        for steps in evaluator.predictive:
            numbers |= self._predictions(steps)
        statistics = tuple(name for name in values.statistics if f"{name}_standard_error" not in numbers)
        return Evaluated(numbers, statistics, log_likelihoods)

    def _training_bound(self, values: BatchedValues) -> Numbers:
        """The bound of some training examples, which shows overfitting: "training_elbo", or of what the model has instead."""
        name = next((name for name in BOUNDS if name in values.examples), None)
        if name is None or not self.evaluator.run.own_data:
            return {}
        of_training = self.evaluator.training_terms(self.variables, self.hparams).examples[name]
        return _put({}, f"training_{name}", likelihood.estimate(of_training))

    def _likelihood_numbers(self, values: BatchedValues, log_likelihoods: np.ndarray) -> Numbers:
        """The log-likelihood of the chosen examples; their ELBO, where they are not all; and the paired difference."""
        weighted = likelihood.estimate(log_likelihoods)
        numbers = _put({}, "log_likelihood", weighted)
        if "elbo" in values.examples and len(log_likelihoods) > 1:
            elbo = values.examples["elbo"][self.evaluator.rows]
            if len(elbo) < len(values.examples["elbo"]):
                _put(numbers, "elbo_same_examples", likelihood.estimate(elbo))
            _put(numbers, "log_likelihood_above_elbo", likelihood.estimate(log_likelihoods.astype(np.float64) - elbo))
        return numbers | self._bits(weighted)

    def _bits(self, weighted: likelihood.Estimate) -> Numbers:
        """Bits per dimension, where the likelihood bounds the probability of the data's own levels."""
        spec, discrete = self.evaluator.run.spec, self.evaluator.run.recipe.likelihood.discrete
        if spec.levels in (None, 2) or spec.binarize != "none" or not (discrete or spec.dequantize == "uniform"):
            return {}
        size = math.prod(spec.shape)
        bits = likelihood.bits_per_dimension(weighted.mean, size, levels=spec.levels, density=not discrete)
        return {"bits_per_dimension": bits} if math.isfinite(bits) else {}

    def _latents(self, values: BatchedValues, moments: Mapping[str, np.ndarray]) -> Numbers:
        """Active units, KL per latent, and the parts of the average KL where the model asks for them."""
        sound = all(np.isfinite(of_examples).all() for of_examples in moments.values())
        latent_variables = self.evaluator.latent_variables(moments["mean"])
        many = sound and len(moments["mean"]) > 1
        numbers: Numbers = {"active_units": latents.count_active(latent_variables, **moments) if many else None}
        kl = latents.kl_per_latent(latent_variables, **moments) if sound else None
        if kl is None:
            return numbers
        numbers["kl_per_latent"] = [round(float(nats), 6) for nats in kl]
        if "total_correlation" in values.statistics and self._has_diagonal_posteriors():
            # of all posteriors: what an objective estimates from a batch is biased, and may be far below 0
            key = jax.random.fold_in(self.evaluator.key, EvaluationKey.AGGREGATE)
            parts = aggregate_kl(key, moments["mean"], 0.5 * np.log(moments["variance"]), AGGREGATE_SAMPLES)
            for name, part in parts._asdict().items():
                _put(numbers, name, part)
        return numbers

    def _has_diagonal_posteriors(self) -> bool:
        batch = {name: column[np.arange(1)] for name, column in self.evaluator.inputs.items()}
        encode = self.evaluator.run.recipe.model.encode
        return isinstance(jax.eval_shape(encode, self.evaluator.key, self.variables, self.hparams, batch), Normal)

    def _class_scores(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Scores of each class [n, classes], and labels, of the model's own classifier on the split's values as they are shown, and
        of the generative classifier on the chosen examples."""
        evaluator, member = self.evaluator, (self.variables, self.hparams)
        y, scored = evaluator.arrays["y"], {}
        if evaluator.run.recipe.labels is not None and evaluator.run.recipe.labels.classify is not None:
            pieces = np.array_split(np.arange(len(y)), -(-len(y) // evaluator.batch))
            scores = [evaluator.class_scores(*member, evaluator.shown(rows)) for rows in pieces]
            scored["accuracy"] = np.concatenate(scores), y
        log_px = evaluator.class_log_likelihoods(*member, self.tell)
        if log_px is not None:
            scored["generative_accuracy"] = classification.log_posterior(log_px), y[evaluator.rows]
        return scored

    def _by_class(
        self,
        values: BatchedValues,
        log_likelihoods: np.ndarray | None,
        scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ) -> Numbers:
        """Terms of the objective, log-likelihood and accuracies of the examples of each class of labelled data."""
        y, spec = self.evaluator.arrays.get("y"), self.evaluator.run.spec
        if y is None or not 2 <= spec.num_classes <= MOST_CLASSES:
            return {}
        of_examples = {name: (of, y) for name, of in values.examples.items()}
        if log_likelihoods is not None:
            of_examples["log_likelihood"] = log_likelihoods, y[self.evaluator.rows]
        records = []
        for label in (label for label in range(spec.num_classes) if np.any(y == label)):
            name = spec.label_names[label] if spec.label_names else str(label)
            record: Numbers = {"class": name, "examples": int(np.sum(y == label))}
            for metric, (of, labels) in of_examples.items():
                if np.any(labels == label):
                    _put(record, metric, likelihood.estimate(of[labels == label]))
            for metric, (of, labels) in scores.items():
                accuracy = classification.accuracy(of[labels == label], labels[labels == label])
                if accuracy is not None:
                    _put(record, metric, accuracy)
            records.append(record)
        return {"by_class": records} if records else {}

    def _predictions(self, steps: int) -> Numbers:
        """log p(x_{t+k} | x_{<=t}) of the chosen sequences, all with the same t, and of the baselines."""
        evaluator = self.evaluator
        shape, predict, baselines = evaluator.run.spec.shape, evaluator.predictive[steps], evaluator.baselines
        start, frame_values = prediction.context_frames(shape[0]), math.prod(shape[1:])

        def log_probabilities(keys: jax.Array, batch: Batch) -> dict[str, ArrayLike]:
            x, frame = batch["x"][:, :start], batch["x"][:, start - 1 + steps]
            log_probs = {"log_p": predict(keys, self.variables, self.hparams, x, frame)}
            if baselines is None:
                return log_probs
            copied = baselines.copy_last(x[:, -1], frame, steps)
            return {**log_probs, "copy_last": copied, "mean_frame": baselines.independent(frame)}

        size = max(1, min(evaluator.batch, DRAWN_VALUES // (prediction.SAMPLES * frame_values)))
        key = jax.random.fold_in(jax.random.fold_in(evaluator.key, EvaluationKey.PREDICTIONS), steps)
        inputs = {"x": evaluator.inputs["x"]}
        numbers: Numbers = {}
        for name, values in over_batches(log_probabilities, key, inputs, size=size, rows=evaluator.rows).items():
            _put(numbers, f"{name}_{steps}_ahead", likelihood.estimate(values))
        return numbers

    def _agreement(self) -> Numbers:
        """The share of reconstructions that keep their original's label, according to a classifier of training images."""
        evaluator, member = self.evaluator, (self.variables, self.hparams)
        train, spec = evaluator.run.dataset.splits["train"], evaluator.run.spec
        most = min(NEIGHBOURS, NEIGHBOUR_VALUES // math.prod(spec.shape))
        known, labelled = (_labelled(labels, most) for labels in (train["y"], evaluator.arrays["y"]))
        if len(known) < 1 or len(labelled) < 1:
            return {}
        originals = evaluator.shown(labelled)
        codes = evaluator.posterior(*member, originals)["mean"]
        reconstructions = evaluator.decode(*member, codes, evaluator.labels(*member, originals))
        if not np.isfinite(reconstructions).all():
            return {}
        result = generation.knn_label_agreement(
            chosen_intensities(spec, train["x"], known, evaluator.batch),
            train["y"][known],
            reconstructions,
            originals["y"],
            k=min(5, len(known)),
            originals=originals["x"],
        )
        return {"knn_label_agreement": result.agreement, "knn_accuracy_on_originals": result.accuracy}


def _statistics(values: BatchedValues) -> Numbers:
    """Statistics of batches, with their standard errors over batches where there are several."""
    numbers: Numbers = {}
    for name, of_batches in values.statistics.items():
        mean, error, _ = likelihood.estimate_over_batches(of_batches, values.sizes)
        numbers[name] = finite(mean)
        if len(of_batches) > 1:
            numbers[f"{name}_standard_error_over_batches"] = finite(error)
    return numbers


def _accuracies(scores: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Numbers:
    """Accuracies of classifiers, given their scores and labels."""
    numbers: Numbers = {}
    for name, of_classifier in scores.items():
        estimate = classification.accuracy(*of_classifier)
        if estimate is not None:
            _put(numbers, name, estimate)
    return numbers


def _labelled(labels: np.ndarray, most: int) -> np.ndarray:
    """Numbers of labelled examples (-1 is unlabelled), ``most`` at most, chosen at random."""
    known = np.flatnonzero(labels >= 0)
    return known[np.sort(chosen_examples(len(known), most))]


def _put(numbers: Numbers, name: str, estimate: likelihood.Estimate) -> Numbers:
    numbers[name] = finite(estimate.mean)
    numbers[f"{name}_standard_error"] = finite(estimate.standard_error)
    return numbers


def finite(value: float) -> float | None:
    """Return ``value``, or None (JSON's null) where it is NaN or infinite.

    Example:
      >>> finite(1.5), finite(math.nan)
      (1.5, None)
    """
    return float(value) if math.isfinite(value) else None
