"""A trained run as a codec in Python: ``run = vaex.load("runs/...")``."""

from __future__ import annotations

import dataclasses
import math
import operator
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from vaex import data
from vaex.configuration.settings import Settings
from vaex.core import Recipe, TrainState, Variables
from vaex.data.loader import user_examples
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.evaluation import classification, likelihood
from vaex.runs import setup
from vaex.runs.config_file import read_config, read_spec, restore_settings
from vaex.runs.evaluate import DRAWN_VALUES
from vaex.schedules import resolve
from vaex.training import loop, population
from vaex.training.checkpoint import Checkpoints
from vaex.training.step import averaged_variables


def load(directory: str | os.PathLike[str], *, member: int = 0) -> Run:
    """One member of a trained run, from its newest checkpoint (the averaged parameters where averaging was on).

    Args:
      directory: the run directory.
      member: which member of a population, in the order of summary.json.
    Returns: a ``Run``.
    Raises: UserError where there is no such run or member, or no checkpoint yet.
    """
    folder = pathlib.Path(directory).expanduser()
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"load: {folder} holds no config.json; give the run directory that training printed")
    content = read_config(path)
    settings = restore_settings(content["identity"])
    if not 0 <= operator.index(member) < len(settings.members):
        raise UserError(f"load: member={member}, but {folder} has {len(settings.members)} member(s), counted from 0")
    try:
        spec = read_spec(content)
    except KeyError as error:
        raise UserError(f"load: {path} lacks data.{error.args[0]}; it was written by another version of vaex") from None
    recipe = setup.build_recipe(settings, spec)
    for index, stage in enumerate(recipe.stages):
        if not (setup.stage_folder(folder, recipe, index) / "checkpoints").is_dir():
            which = f" of the stage {stage.name}" if len(recipe.stages) > 1 else ""
            raise UserError(f"load: {folder} holds no checkpoint{which} yet; train the run first")
    state = _member_state(folder, settings, recipe, spec, member)
    return Run(recipe, spec, averaged_variables(state), resolve(state.hparams, state.step), int(state.step))


def _member_state(folder: pathlib.Path, settings: Settings, recipe: Recipe, spec: Spec, member: int) -> TrainState:
    """The newest train state of one member, in the last stage."""
    batch = {"x": jnp.zeros((settings.run.batch_size or 1, *spec.shape), jnp.float32)}
    if spec.num_classes:
        batch["y"] = jnp.zeros(len(batch["x"]), jnp.int32)
    seeds = [member.seed for member in settings.members]
    hparams = setup.stack_hparams(settings)

    def first(hparams: Any) -> TrainState:
        finished: dict[str, Variables] = {}
        for index, stage in enumerate(recipe.stages):
            arguments: dict[str, Any] = {"stage": index, "carry_over": stage.carry_over, "finished": finished}
            state = population.init(stage.algorithm, seeds, hparams, batch, **arguments)
            finished[stage.name] = averaged_variables(state)
        return state

    state, last = jax.eval_shape(first, hparams), len(recipe.stages) - 1
    _, metrics = jax.eval_shape(recipe.stages[last].algorithm.step, population.member_shapes(state), batch)
    window: Any = jax.ShapeDtypeStruct((len(seeds), len(metrics)), jnp.float32)
    template = loop.Carry(state, window)
    checkpoints = Checkpoints(setup.stage_folder(folder, recipe, last) / "checkpoints")
    try:
        return population.member(checkpoints.restore(template).state, member)
    finally:
        checkpoints.close()


class Run:
    """A trained model as jitted functions of raw arrays.

    Images are integers in the data's own levels (0..255; 0..16 for digits) or floats in [0, 1], ``[b, *spec.shape]``; real
    vectors are floats. Grey values go to the encoder as they are, also where training binarised them dynamically.

    Models that read labels (``recipe.labels``) take ``labels``, integers [b] or one for all: classes, or -1 where the model learned
    from unlabelled examples what that means.

    Attributes:
      recipe: the model's functions.
      spec: what the data looked like.
      variables: parameters and state.
      hparams: hyperparameters at the last step.
      step: how many steps it was trained.
      latent_shape: of the code of one example.
    """

    def __init__(self, recipe: Any, spec: Any, variables: Any, hparams: Any, step: int) -> None:
        self.recipe, self.spec, self.variables, self.hparams, self.step = recipe, spec, variables, hparams, step
        key = jax.random.key(0)  # encoders that draw (none of the Gaussian ones) draw the same each time
        self._encode = jax.jit(lambda v, batch: recipe.model.encode(key, v, hparams, batch))
        self._decode = jax.jit(lambda v, z, labels: recipe.model.decode(v, hparams, z, labels))
        self._sample = jax.jit(lambda k, v, h, n, labels: recipe.model.sample(k, v, h, n, labels), static_argnums=3)
        self._classify = jax.jit(lambda v, x: recipe.labels.classify(key, v, hparams, {"x": x}))
        self._predict = jax.jit(
            lambda k, v, batch, *sizes: recipe.sequences.predict(k, v, hparams, batch, *sizes), static_argnums=(3, 4)
        )
        self._bounds: dict[Any, Any] = {}
        example: dict[str, Any] = {"x": jax.ShapeDtypeStruct((1, *spec.shape), jnp.float32)}
        if recipe.labels is not None:
            example["y"] = jax.ShapeDtypeStruct((1,), jnp.int32)
        codes = jax.eval_shape(lambda v, batch: recipe.model.encode(key, v, hparams, batch).mean, variables, example)
        self.latent_shape: tuple[int, ...] = codes.shape[1:]

    def __repr__(self) -> str:
        return f"Run({self.spec.name}, shape={self.spec.shape}, likelihood={self.recipe.likelihood.title!r}, step={self.step})"

    def _labels(
        self, caller: str, labels: ArrayLike | None, n: int, *, inferred: bool = False, optional: bool = False
    ) -> dict[str, jax.Array]:
        """``labels`` of n examples as a part of a batch. ``inferred``: whether the model finds out those that are missing;
        ``optional``: whether it does without, where only its prior reads them."""
        reads = self.recipe.labels
        if reads is None:
            if labels is not None:
                raise ValueError(f"{caller}: this model reads no labels; leave them out")
            return {}
        inferred = inferred and reads.classify is not None
        if labels is None:
            if inferred or (optional and reads.prior_only):
                return {}
            raise ValueError(
                f"{caller}: this model needs labels, integers from 0 to {reads.classes - 1}, one for each example"
            )
        array = np.asarray(labels)
        if array.dtype.kind not in "iu" or array.shape not in ((), (n,)):
            raise ValueError(
                f"{caller}: labels have dtype {array.dtype} and shape {array.shape}, expected integers [{n}], or one for all"
            )
        least = -1 if inferred or reads.classify is None else 0
        if array.min(initial=least) < least or array.max(initial=least) >= reads.classes:
            unknown = f", or {least} for unlabelled" if least else ""
            raise ValueError(
                f"{caller}: labels go from {array.min()} to {array.max()}, expected 0 to {reads.classes - 1}{unknown}"
            )
        return {"y": jnp.broadcast_to(jnp.asarray(array, jnp.int32), (n,))}

    def encode(self, x: ArrayLike, labels: ArrayLike | None = None) -> Any:
        """The posterior of each example, a distribution over z [b, d] with sample, mean, log_prob; where codes are integers its
        ``.mean`` holds them, [b, *latent_shape].

        Models with a classifier of their own take its most probable label where none (or -1) is given.
        """
        inputs = user_examples.model_inputs(self.spec, "encode", x)
        given = self._labels("encode", labels, len(inputs), inferred=True, optional=True)
        return self._encode(self.variables, {"x": inputs, **given})

    def decode(self, z: ArrayLike, labels: ArrayLike | None = None) -> Any:
        """The distribution over x given z [b, d], or integer codes: ``.mean`` is the image, ``.sample(key)`` draws pixels."""
        z = jnp.asarray(z)
        if z.ndim < 1 + len(self.latent_shape) or z.shape[z.ndim - len(self.latent_shape) :] != self.latent_shape:
            expected = ", ".join(map(str, self.latent_shape))
            raise ValueError(f"decode: z has shape {z.shape}, expected [b, {expected}]; one code is z[None]")
        self._check_codes(z)
        z = z if self._integers() else z.astype(jnp.float32)
        n = z.shape[z.ndim - len(self.latent_shape) - 1]
        return self._decode(self.variables, z, self._labels("decode", labels, n, optional=True))

    def _integers(self) -> bool:
        """True if codes are integers."""
        return any(block.kind == "code" for block in self.recipe.latents)

    def _check_codes(self, z: jax.Array) -> None:
        """Raise ValueError where codes ought to be integers of some range and z is something else."""
        if not self._integers():
            return
        if not jnp.issubdtype(z.dtype, jnp.integer):
            raise ValueError(
                f"decode: z has dtype {z.dtype}, expected integers, such as encode(x).mean; codes are counted"
            )
        classes = np.concatenate([np.full(block.size, block.classes) for block in self.recipe.latents])
        if isinstance(z, Tracer):
            return
        codes = np.asarray(z).reshape(-1, len(classes))
        if np.any((codes < 0) | (codes >= classes)):
            raise ValueError(
                f"decode: z holds integers from {codes.min()} to {codes.max()}, expected codes 0 to {classes.max() - 1}"
            )

    def reconstruct(self, x: ArrayLike, labels: ArrayLike | None = None) -> jax.Array:
        """The mean image of the posterior mean, [b, *shape]; labels as in ``encode``."""
        inputs = user_examples.model_inputs(self.spec, "reconstruct", x)
        given = self._labels("reconstruct", labels, len(inputs), inferred=True, optional=True)
        codes = self._encode(self.variables, {"x": inputs, **given}).mean
        if self.recipe.labels is not None and self.recipe.labels.classify is not None:
            inferred = self._classify(self.variables, inputs).mode
            given = {"y": jnp.where(given["y"] >= 0, given["y"], inferred) if given else inferred}
        return self._decode(self.variables, codes, given).mean

    def sample(
        self,
        key: jax.Array,
        n: int,
        labels: ArrayLike | None = None,
        *,
        show: str = "mean",
        temperature: float | None = None,
    ) -> jax.Array:
        """n new images [n, *shape] with z from the prior: the likelihood's mean, or with show="sample" a draw from it.

        The same key gives the same z whatever the labels, or the same random numbers where z depends on them; where a model reads
        labels and none are given, they are drawn. ``temperature``: of the prior, where it has one (``sample_temperature``); by
        default the run's own.
        """
        if show not in ("mean", "sample"):
            raise ValueError(f"sample: show={show!r}, expected 'mean' or 'sample'")
        if operator.index(n) < 1:
            raise ValueError(f"sample: n={n}, expected at least 1")
        given = None if labels is None else self._labels("sample", labels, operator.index(n)).get("y")
        z_key, x_key = jax.random.split(key)
        drawn = self._sample(z_key, self.variables, self._at_temperature(temperature), operator.index(n), given)
        return drawn.mean if show == "mean" else drawn.sample(x_key)

    def _at_temperature(self, temperature: float | None) -> Any:
        """The hyperparameters, with this temperature of samples."""
        if temperature is None:
            return self.hparams
        if not hasattr(self.hparams, "sample_temperature"):
            raise ValueError("sample: this model's samples have no temperature; leave it out")
        if not 1e-3 <= temperature < math.inf:
            raise ValueError(f"sample: temperature={temperature}, expected at least 0.001, and finite")
        return dataclasses.replace(self.hparams, sample_temperature=jnp.asarray(temperature, jnp.float32))

    def predict(self, key: jax.Array, x: ArrayLike, steps: int, num_samples: int = 1) -> Any:
        """The distribution over the frame ``steps`` after the last of x, of batch shape [num_samples, b].

        Each sample of the latents gives one continuation; ``.mean[0]`` is the image of one, ``.mean.mean(0)`` of all. The
        likelihood of a frame is the mean of theirs.

        Args:
          key: of the latents.
          x: frames seen so far, [b, t, *frame], t any number from 1 on.
          steps: frames ahead, from 1 on.
          num_samples: ways on of each sequence.
        Raises: ValueError for a model of single examples, and for x, steps or num_samples that can't be used.
        """
        if self.recipe.sequences is None:
            raise ValueError("predict: this model reads single examples; train one of sequences, such as td_vae")
        if operator.index(steps) < 1 or operator.index(num_samples) < 1:
            raise ValueError(f"predict: steps={steps}, num_samples={num_samples}, expected at least 1 each")
        inputs = user_examples.model_inputs(self.spec, "predict", x, any_length=True)
        return self._predict(key, self.variables, {"x": inputs}, operator.index(steps), operator.index(num_samples))

    def classify(self, x: ArrayLike) -> Any:
        """q(y|x) of each example by the model's own classifier: a distribution over classes with mode, probabilities.

        Raises: ValueError for a model without one; ``class_log_likelihoods`` gives a generative one of any that reads labels.
        """
        if self.recipe.labels is None or self.recipe.labels.classify is None:
            raise ValueError(
                "classify: this model has no classifier of its own; train one that has, such as m2_vae, or see "
                "class_log_likelihoods, where it reads labels"
            )
        return self._classify(self.variables, user_examples.model_inputs(self.spec, "classify", x))

    def log_likelihood(
        self, key: jax.Array, x: ArrayLike, num_samples: int = 100, labels: ArrayLike | None = None
    ) -> jax.Array:
        """Importance-weighted estimate of log p(x) in nats, [b]: a lower bound in expectation, tighter with more samples.

        Where training binarised grey values, so does this, with ``key``.

        Args:
          key: of the importance samples, and of binarisation or dequantisation.
          x: as for ``encode``; floats must lie on the data's levels, where it has such.
          num_samples: K.
          labels: for a model that needs them, the estimate is of log p(x|y); one that infers them sums them out.
        Returns: [b], nats per example, float32.
        Raises: ValueError for a model that defines no density, or for x, labels or num_samples that can't be used.
        """
        reads = self.recipe.labels
        if labels is not None and reads is not None and reads.classify is not None:
            raise ValueError("log_likelihood: this model sums labels out; leave them out, or see class_log_likelihoods")

        def given(n: int) -> dict[str, jax.Array]:
            return self._labels("log_likelihood", labels, n, inferred=True)

        return self._bound("log_likelihood", self.recipe.model.log_weights, key, x, num_samples, given)

    def class_log_likelihoods(self, key: jax.Array, x: ArrayLike, num_samples: int = 100) -> jax.Array:
        """Importance-weighted estimates of log p(x|y) for every class, [b, classes] nats; arguments as in ``log_likelihood``.

        ``vaex.evaluation.classification.log_posterior`` of them is a generative classifier.

        Raises: ValueError for a model that reads no labels, and as ``log_likelihood``.
        """
        reads, log_weights = self.recipe.labels, self.recipe.model.log_weights
        if reads is None:
            raise ValueError("class_log_likelihoods: this model reads no labels; train one that does, such as m2_vae")
        if log_weights is not None:
            log_weights = reads.class_log_weights or classification.log_weights_by_class(log_weights, reads.classes)
        return self._bound("class_log_likelihoods", log_weights, key, x, num_samples, lambda n: {})

    def _bound(
        self,
        caller: str,
        log_weights: Any,
        key: jax.Array,
        x: ArrayLike,
        num_samples: int,
        given: Callable[[int], dict[str, jax.Array]],
    ) -> jax.Array:
        """The importance bound of ``log_weights``, compiled once for each caller and number of samples.

        ``given``: number of examples -> their labels as a part of a batch.
        """
        if log_weights is None:
            raise ValueError(
                f"{caller}: this run's objective ({self.recipe.likelihood.title}) defines no density of the data"
            )
        num_samples = operator.index(num_samples)
        if num_samples < 1:
            raise ValueError(f"{caller}: num_samples={num_samples}, expected at least 1")
        stored = user_examples.stored_values(self.spec, caller, x)
        batch = given(len(stored))
        if (caller, num_samples) not in self._bounds:
            chunk = max(1, min(likelihood.SAMPLES_PER_CHUNK, DRAWN_VALUES // math.prod(self.spec.shape)))
            self._bounds[caller, num_samples] = likelihood.log_likelihood(
                log_weights, num_samples=num_samples, samples_per_chunk=chunk
            )
        data_key, model_key = jax.random.split(key)
        inputs = data.prepare(self.spec, data_key, jnp.asarray(stored))
        return self._bounds[caller, num_samples](model_key, self.variables, self.hparams, {"x": inputs, **batch})
