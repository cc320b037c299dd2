"""A trained member of a run as functions of raw arrays."""

from __future__ import annotations

import itertools
import math
import operator
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import data, export
from vaex.api.imputation import Imputer
from vaex.api.in_batches import applied, batch_bounds, has_symbolic_shape, in_batches
from vaex.api.keys_and_labels import at_temperature, check_codes, check_key, holds_integers, labels_of
from vaex.api.step_scores import StepScorer
from vaex.core import Batch, ClassLogWeights, Distribution, LogWeights, PyTree, Recipe, Variables
from vaex.data.loader import user_examples
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.evaluation import classification, likelihood
from vaex.evaluation.imputation import Imputation
from vaex.models.conditions import drawn_labels, labels_shape
from vaex.ops.widths import in_single_width
from vaex.runs.evaluate import DRAWN_VALUES, evaluation_batch
from vaex.samplers import Sampler, draw

MOST = 1000  # examples that are computed at once; more come in batches


class TrainedModel:
    """A trained model whose methods are compiled functions of raw arrays.

    Methods compose with ``jax.jit``, ``vmap``, ``grad`` and ``jax.export`` with a batch of any size; examples are then not checked,
    and those with invalid values give NaN. More than a thousand examples are computed in batches, so that memory is bounded.

    Images x are integers in the data's own levels (0..255; 0..16 for digits) or floats in [0, 1], of shape [b, *spec.shape]. Real
    vectors are floats. The encoder receives grey values unchanged, even if training binarised them dynamically.

    A model that reads labels (``recipe.labels`` is not None) takes ``labels``: integers [b], or one for all, -1 for unlabelled if
    training had unlabelled examples; or numbers [b, m], or [m] for all, of ``spec.conditions``, in units of the data.

    Attributes:
      recipe: the model's functions.
      spec: shape and kind of the training data.
      variables: parameters, averaged where averaging was on, and state of the last stage.
      hparams: values of the hyperparameters at the last step.
      step: number of training steps of the last stage.
      latent_shape: shape of the code of one example, without the batch axis.
      described: model, options, hyperparameters and seed as JSON, where they are known; an export records them.
    """

    @in_single_width
    def __init__(
        self,
        recipe: Recipe,
        spec: Spec,
        variables: Variables,
        hparams: PyTree,
        step: int,
        described: Mapping[str, Any] | None = None,
    ) -> None:
        self.recipe, self.spec, self.variables, self.hparams, self.step = recipe, spec, variables, hparams, step
        self.described = dict(described or {})
        key = jax.random.key(0)  # encoders that draw (none of the Gaussian ones) draw the same each time
        self._encode = jax.jit(lambda v, batch: recipe.model.encode(key, v, hparams, batch))
        self._decode = jax.jit(lambda v, z, labels: recipe.model.decode(v, hparams, z, labels))
        self._sample = jax.jit(lambda k, v, h, n, labels: recipe.model.sample(k, v, h, n, labels), static_argnums=3)
        if recipe.labels is not None and recipe.labels.classify is not None:
            classify = recipe.labels.classify
            self._classify = jax.jit(lambda v, x: classify(key, v, hparams, {"x": x}))
        if recipe.sequences is not None:
            predict = recipe.sequences.predict
            self._predict = jax.jit(
                lambda k, v, batch, steps, samples: predict(k, v, hparams, batch, steps, samples), static_argnums=(3, 4)
            )
        self._most = evaluation_batch(spec, MOST)
        self._bounds: dict[tuple[str, int], Callable[..., jax.Array]] = {}
        self._imputer, self._step_scorer = Imputer(recipe, spec), StepScorer(recipe, spec)
        example: Batch = {"x": jax.ShapeDtypeStruct((1, *spec.shape), jnp.float32)}
        if recipe.labels is not None:
            example["y"] = labels_shape(recipe.labels)
        codes = jax.eval_shape(lambda v, batch: recipe.model.encode(key, v, hparams, batch).mean, variables, example)
        self.latent_shape: tuple[int, ...] = codes.shape[1:]

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__}: holds compiled functions, which cannot be pickled or copied; write run.save(directory), and "
            "read it by vaex.load(directory)"
        )

    def __repr__(self) -> str:
        likelihood = self.recipe.likelihood.title
        return f"TrainedModel({self.spec.name}, shape={self.spec.shape}, likelihood={likelihood!r}, step={self.step})"

    def _labels(
        self, caller: str, labels: ArrayLike | None, n: int, *, inferred: bool = False, optional: bool = False
    ) -> dict[str, jax.Array]:
        return labels_of(self.recipe.labels, caller, labels, n, inferred=inferred, optional=optional)

    def encode(self, x: ArrayLike, labels: ArrayLike | None = None) -> Distribution:
        """Return the posterior q(z|x) of each example, a distribution of batch shape [b].

        If the model's codes are integers, ``.mean`` holds them.

        Args:
          x: examples, [b, *spec.shape].
          labels: integers [b], or one for all examples, for a model that reads labels. A model with its own classifier infers
            those that are missing or -1, and takes the most probable class.
        Returns: a distribution over z whose ``.mean`` and ``.sample(key)`` have shape [b, *latent_shape].
        Raises: ValueError for x of another shape, dtype or range, and for labels that are missing or that the model cannot read.
        """
        inputs = user_examples.model_inputs(self.spec, "encode", x)
        given = self._labels("encode", labels, inputs.shape[0], inferred=True, optional=True)
        return in_batches(self._encoded, {"x": inputs, **given}, self._most)

    def _encoded(self, batch: Batch) -> Distribution:
        return applied(self._encode, self.variables, batch)

    def _decoded(self, batch: Batch) -> Distribution:
        labels = {"y": batch["y"]} if "y" in batch else {}
        return applied(self._decode, self.variables, batch["z"], labels)

    def decode(self, z: ArrayLike, labels: ArrayLike | None = None) -> Distribution:
        """Return the distribution p(x|z) for each code: ``.mean`` is the image, ``.sample(key)`` draws its pixels.

        Args:
          z: codes, [..., b, *latent_shape]: floats, or integers where the model's codes are.
          labels: integers [b], or one for all codes, for a model whose decoder reads labels.
        Returns: a distribution over x of batch shape [..., b].
        Raises: ValueError for z of another shape or dtype, for integers outside the codebook, and for labels as in ``encode``.
        """
        z = jnp.asarray(z)
        if z.ndim < 1 + len(self.latent_shape) or z.shape[z.ndim - len(self.latent_shape) :] != self.latent_shape:
            expected = ", ".join(map(str, self.latent_shape))
            raise ValueError(f"decode: z has shape {z.shape}, expected [b, {expected}]; one code is z[None]")
        check_codes(self.recipe.latents, z)
        z = z if holds_integers(self.recipe.latents) else z.astype(jnp.float32)
        n = z.shape[z.ndim - len(self.latent_shape) - 1]
        given, axis = self._labels("decode", labels, n, optional=True), z.ndim - len(self.latent_shape) - 1
        if has_symbolic_shape(z) or (axis and given):  # labels have one axis, that of examples
            return self._decoded({"z": z, **given})
        return in_batches(self._decoded, {"z": z, **given}, max(1, self._most // math.prod(z.shape[:axis])), axis)

    def reconstruct(self, x: ArrayLike, labels: ArrayLike | None = None) -> jax.Array:
        """Return the mean of p(x|z) at the posterior mean of z, [b, *spec.shape].

        Args:
          x: examples, [b, *spec.shape].
          labels: as in ``encode``. Inferred labels condition the decoder, too.
        Raises: ValueError as in ``encode``.
        """
        inputs = user_examples.model_inputs(self.spec, "reconstruct", x)
        given = self._labels("reconstruct", labels, inputs.shape[0], inferred=True, optional=True)
        return in_batches(self._reconstructed, {"x": inputs, **given}, self._most)

    def _reconstructed(self, batch: Batch) -> jax.Array:
        codes, given = self._encoded(batch).mean, {name: values for name, values in batch.items() if name != "x"}
        if self.recipe.labels is not None and self.recipe.labels.classify is not None:
            inferred = self._classified({"x": batch["x"]}).mode
            given = {"y": jnp.where(given["y"] >= 0, given["y"], inferred) if given else inferred}
        return self._decoded({"z": codes, **given}).mean

    def _classified(self, batch: Batch) -> Distribution:
        return applied(self._classify, self.variables, batch["x"])

    @in_single_width
    def sample(
        self,
        key: jax.Array,
        n: int,
        labels: ArrayLike | None = None,
        *,
        show: str = "mean",
        temperature: float | None = None,
        sampler: str | Sampler | None = None,
    ) -> jax.Array:
        """Draw n examples [n, *spec.shape]: decode z drawn from the prior, or from a sampler that was fitted to codes.

        The same key gives the same z for all labels, or the same noise of z if the prior depends on labels.

        Args:
          key: of the samples.
          n: number of examples, at least 1.
          labels: for a model that reads them; by default classes are drawn uniformly, conditions from training examples.
          show: "mean" for the mean of p(x|z), or "sample" for a draw from it, which has the noise of the likelihood.
          temperature: of the prior, for a model with the hyperparameter ``sample_temperature``; by default that of the run.
          sampler: a kind fitted by ``run.fit_sampler``, such as "gmm:10", or your own ``vaex.samplers.Sampler`` of codes [n, d].
        Raises: ValueError for another ``show``, n or temperature, and for labels that the model cannot read; UserError for a
          sampler that was not fitted.
        """
        if show not in ("mean", "sample"):
            raise ValueError(f"sample: show={show!r}, expected 'mean' or 'sample'")
        if operator.index(n) < 1:
            raise ValueError(f"sample: n={n}, expected at least 1")
        check_key("sample", key)
        given = None if labels is None else self._labels("sample", labels, operator.index(n)).get("y")
        fitted = self._find_sampler(sampler) if isinstance(sampler, str) else sampler
        if fitted is not None and temperature is not None:
            raise ValueError("sample: temperature is of the prior; leave it out, or the sampler")
        hparams, bounds = at_temperature(self.hparams, temperature), batch_bounds(operator.index(n), self._most)

        def drawn(index: int, start: int, stop: int) -> jax.Array:
            z_key, x_key = jax.random.split(jax.random.fold_in(key, index) if index else key)
            part = None if given is None else given[start:stop]
            if fitted is None:
                likelihood = applied(self._sample, z_key, self.variables, hparams, stop - start, part)
            else:
                likelihood = self._decoded_draws(fitted, z_key, stop - start, part)
            return likelihood.mean if show == "mean" else likelihood.sample(x_key)

        parts = [drawn(index, *pair) for index, pair in enumerate(itertools.pairwise(bounds))]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

    def _decoded_draws(self, sampler: Sampler, key: jax.Array, n: int, labels: jax.Array | None) -> Distribution:
        """Return p(x|z) of n codes of a sampler; labels are drawn where a decoder reads them and none are given."""
        codes_key, labels_key = jax.random.split(key)
        z, reads = draw(sampler, codes_key, n), self.recipe.labels
        if reads is None or (reads.prior_only and labels is None):
            return self._decoded({"z": z.reshape(n, *self.latent_shape)})
        if reads.prior_only:
            raise ValueError("sample: labels choose z in this model's prior alone; leave them out, or the sampler")
        given = drawn_labels(reads, self.spec, labels_key, n) if labels is None else labels
        return self._decoded({"z": z.reshape(n, *self.latent_shape), "y": given})

    def _find_sampler(self, kind: str) -> Sampler:  # of a member of a run, the run replaces this
        raise UserError(
            f"sample: no sampler {kind!r} is known here; pass one of vaex.samplers.fit, or use a run's member"
        )

    @in_single_width
    def export(
        self,
        directory: str | os.PathLike[str],
        what: Sequence[str] = ("encode", "decode", "sample"),
        formats: Sequence[str] = ("stablehlo", "safetensors"),
    ) -> pathlib.Path:
        """Write the model as functions of arrays, for programs without vaex.

        README.md and export.json in the folder say what each function takes and returns. Arrays have the units of ``encode``,
        ``decode`` and ``sample``, and are float32: integers of data with L levels are divided by L - 1 first. Invalid examples give
        NaN, or codes of -1.

        Args:
          directory: a folder that is not there yet, or is empty.
          what: functions to export, of "encode" (mean and standard deviation of q(z|x)), "decode" (mean of p(x|z)) and "sample"
            (mean of p(x|z) at z of the prior, which takes [0, seed]).
          formats: "stablehlo", artefacts of ``jax.export`` for CPU, CUDA and TPU with a batch of any size, parameters inside;
            "safetensors", parameters and state by name, with config.json; "onnx", encode and decode, compared by onnxruntime.
        Returns: the folder.
        Raises: UserError for a folder that holds something, unknown names, a package that is missing, or a model that a format
          cannot hold.
        """
        return export.export(self, directory, what=what, formats=formats)

    def predict(self, key: jax.Array, x: ArrayLike, steps: int, num_samples: int = 1) -> Distribution:
        """Return the distribution of the frame ``steps`` after the last of x, of batch shape [num_samples, b].

        Each sample of the latents gives one continuation: ``.mean[0]`` is the image of the first, ``.mean.mean(0)`` their average.
        The likelihood of a frame is the mean of the continuations' likelihoods.

        Args:
          key: of the latents.
          x: observed frames, [b, t, *frame], t at least 1.
          steps: frames ahead, at least 1.
          num_samples: continuations of each sequence, at least 1.
        Raises: ValueError for a model of single examples, and for invalid x, steps or num_samples.
        """
        if self.recipe.sequences is None:
            raise ValueError("predict: this model reads single examples; train one of sequences, such as td_vae")
        if operator.index(steps) < 1 or operator.index(num_samples) < 1:
            raise ValueError(f"predict: steps={steps}, num_samples={num_samples}, expected at least 1 each")
        inputs = user_examples.model_inputs(self.spec, "predict", x, any_length=True)
        check_key("predict", key)
        return applied(
            self._predict, key, self.variables, {"x": inputs}, operator.index(steps), operator.index(num_samples)
        )

    def classify(self, x: ArrayLike) -> Distribution:
        """Return q(y|x) of the model's own classifier: ``.mode`` has shape [b], ``.probabilities`` [b, classes].

        Raises: ValueError for a model without a classifier, and for x as in ``encode``. ``class_log_likelihoods`` yields a
          generative classifier from any model that reads labels and has a density.
        """
        if self.recipe.labels is None or self.recipe.labels.classify is None:
            raise ValueError(
                "classify: this model has no classifier of its own; train one that has, such as m2_vae, or see "
                "class_log_likelihoods, where it reads labels"
            )
        inputs = user_examples.model_inputs(self.spec, "classify", x)
        return in_batches(self._classified, {"x": inputs}, self._most)

    def log_likelihood(
        self, key: jax.Array, x: ArrayLike, num_samples: int = 100, labels: ArrayLike | None = None
    ) -> jax.Array:
        """Estimate log p(x) in nats by importance weighting: a lower bound in expectation, tighter with more samples.

        The data are binarised or dequantised as in training, with randomness from ``key``.

        Args:
          key: of the importance samples, and of binarisation or dequantisation.
          x: examples as in ``encode``; floats must lie on the data's levels, if it has levels.
          num_samples: K, importance samples of each example, at least 1.
          labels: for a model that is given labels; the estimate is then one of log p(x|y). A model that infers labels sums
            over them and takes none.
        Returns: estimates, [b], nats per example, float32.
        Raises: ValueError for a model that defines no density, and for invalid x, labels or num_samples.
        """
        reads = self.recipe.labels
        if labels is not None and reads is not None and reads.classify is not None:
            raise ValueError("log_likelihood: this model sums labels out; leave them out, or see class_log_likelihoods")

        def given(n: int) -> dict[str, jax.Array]:
            return self._labels("log_likelihood", labels, n, inferred=True)

        return self._bound("log_likelihood", self.recipe.model.log_weights, key, x, num_samples, given)

    def impute(self, key: jax.Array, x: ArrayLike, num_samples: int = 1000, num_draws: int = 10) -> Imputation:
        """Estimate missing values, NaN, from those that are observed, for a model trained on data with missing values.

        Args:
          key: of the importance samples and the draws.
          x: examples, [b, *spec.shape].
          num_samples: K, importance samples of each example, at least 1.
          num_draws: of each missing value, at least 1.
        Returns: mean and deviation of each value, [b, *spec.shape], draws [num_draws, b, *spec.shape], and the effective number of
          samples, [b]; in units of x.
        Raises: ValueError for data without missing values, for latents without a standard normal prior, labels or densities, and
          for invalid x or numbers.
        """
        return self._imputer(key, self.variables, self.hparams, x, num_samples, num_draws)

    def step_scores(
        self, key: jax.Array, x: ArrayLike, num_samples: int = 100, labels: ArrayLike | None = None
    ) -> jax.Array:
        """Return how surprising each step of a series is: -log of the mean of p(x_t|z) over draws of q(z|x), [b, t] nats.

        Args:
          key: of the draws.
          x: series, [b, t, c]; what is missing of them adds nothing.
          num_samples: draws for each example, at least 1.
          labels: as in ``encode``.
        Raises: ValueError for data that is no series, for a likelihood without independent steps, and as ``encode``.
        """
        given = self._labels("step_scores", labels, len(x), inferred=True, optional=True)  # type: ignore[arg-type]
        return self._step_scorer(key, self.variables, self.hparams, x, num_samples, given)

    def class_log_likelihoods(self, key: jax.Array, x: ArrayLike, num_samples: int = 100) -> jax.Array:
        """Estimate log p(x|y) of every class by importance weighting, [b, classes], nats; arguments as in ``log_likelihood``.

        ``vaex.evaluation.classification.log_posterior`` turns the estimates into a generative classifier.

        Raises: ValueError for a model that reads no classes, and as ``log_likelihood``.
        """
        reads, log_weights = self.recipe.labels, self.recipe.model.log_weights
        if reads is None or not reads.classes:
            raise ValueError("class_log_likelihoods: this model reads no classes; train one that does, such as m2_vae")
        if log_weights is not None:
            log_weights = reads.class_log_weights or classification.log_weights_by_class(log_weights, reads.classes)
        return self._bound("class_log_likelihoods", log_weights, key, x, num_samples, lambda n: {})

    @in_single_width
    def _bound(
        self,
        caller: str,
        log_weights: LogWeights | ClassLogWeights | None,
        key: jax.Array,
        x: ArrayLike,
        num_samples: int,
        given: Callable[[int], dict[str, jax.Array]],
    ) -> jax.Array:
        """Return the importance-weighted bound of ``log_weights``, compiled once for each caller and number of samples.

        ``given`` maps the number of examples to their labels as a part of a batch.
        """
        if log_weights is None:
            raise ValueError(
                f"{caller}: this run's objective ({self.recipe.likelihood.title}) defines no density of the data"
            )
        check_key(caller, key)
        num_samples = operator.index(num_samples)
        if num_samples < 1:
            raise ValueError(f"{caller}: num_samples={num_samples}, expected at least 1")
        stored, valid = user_examples.stored_values(self.spec, caller, x)
        batch = given(stored.shape[0])
        if (caller, num_samples) not in self._bounds:
            chunk = max(1, min(likelihood.SAMPLES_PER_CHUNK, DRAWN_VALUES // math.prod(self.spec.shape)))
            self._bounds[caller, num_samples] = likelihood.log_likelihood(
                log_weights, num_samples=num_samples, samples_per_chunk=chunk
            )
        data_key, model_key = jax.random.split(key)
        inputs = data.prepare(self.spec, data_key, jnp.asarray(stored))
        bound = self._bounds[caller, num_samples]
        nats = applied(bound, model_key, self.variables, self.hparams, {"x": inputs, **batch})
        return nats if valid is None else jnp.where(valid.reshape(-1, *(1,) * (nats.ndim - 1)), nats, jnp.nan)
