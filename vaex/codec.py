"""A trained run as a codec in Python: ``run = vaex.load("runs/...")``."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex import data, experiment, identity
from vaex.errors import UserError
from vaex.evaluation import likelihood
from vaex.files import read_json
from vaex.schedules import resolve
from vaex.training import algorithm, loop, population
from vaex.training.checkpoint import Checkpoints


def load(directory: str | os.PathLike[str], *, member: int = 0) -> Run:
    """One member of a trained run, from its newest checkpoint (the averaged parameters where averaging was on).

    Args:
      directory: the run directory.
      member: which member of a population, in the order of summary.json.
    Returns: a ``Run``.
    Raises: UserError where there is no such run or member, or no checkpoint yet.
    """
    folder = pathlib.Path(directory)
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"load: {folder} holds no config.json; give the run directory that training printed")
    facts = read_json(path)
    settings = identity.restore(facts["identity"])
    if not 0 <= member < len(settings.members):
        raise UserError(f"load: member={member}, but {folder} has {len(settings.members)} member(s), counted from 0")
    spec = experiment.load_spec(facts)
    recipe = experiment.build_recipe(settings, spec)
    stage = recipe.stages[0]
    batch = {"x": jnp.zeros((settings.run.batch_size or 1, *spec.shape), jnp.float32)}
    if spec.num_classes:
        batch["y"] = jnp.zeros(len(batch["x"]), jnp.int32)
    seeds = [one.seed for one in settings.members]
    hparams = experiment.stack_hparams(settings)
    state = jax.eval_shape(lambda h: population.init(stage.algorithm, seeds, h, batch), hparams)
    _, metrics = jax.eval_shape(stage.algorithm.step, population.member_shapes(state), batch)
    template = loop.Carry(state, jax.ShapeDtypeStruct((len(seeds), len(metrics)), jnp.float32))
    if not (folder / "checkpoints").is_dir():
        raise UserError(f"load: {folder} holds no checkpoint yet; train the run first")
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        restored = checkpoints.restore(template).state
    finally:
        checkpoints.close()
    mine = population.member(restored, member)
    return Run(recipe, spec, algorithm.averaged_variables(mine), resolve(mine.hparams, mine.step), int(mine.step))


class Run:
    """A trained model as jitted functions of raw arrays.

    Images are uint8 in the data's own levels (0..255; 0..16 for digits) or floats in [0, 1], ``[b, *spec.shape]``; real
    vectors are floats. Grey values go to the encoder as they are, also where training binarised them.

    Attributes:
      recipe: the model's functions.
      spec: what the data looked like.
      variables: parameters and state.
      hparams: hyperparameters at the last step.
      step: how many steps it was trained.
    """

    def __init__(self, recipe: Any, spec: Any, variables: Any, hparams: Any, step: int) -> None:
        self.recipe, self.spec, self.variables, self.hparams, self.step = recipe, spec, variables, hparams, step
        key = jax.random.key(0)  # encoders that draw (none of the Gaussian ones) draw the same each time
        self._encode = jax.jit(lambda v, x: recipe.encode(key, v, hparams, {"x": x}))
        self._decode = jax.jit(lambda v, z: recipe.decode(v, hparams, z, {}))
        self._sample = jax.jit(lambda k, v, n: recipe.sample(k, v, hparams, n, None), static_argnums=2)
        self._bounds: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"Run({self.spec.name}, shape={self.spec.shape}, likelihood={self.recipe.likelihood.title!r}, step={self.step})"

    def _inputs(self, x: ArrayLike) -> jax.Array:
        """Model inputs of x: levels scaled to [0, 1], everything checked."""
        array = np.asarray(x)
        shape = self.spec.shape
        if array.shape[1:] != shape and (*array.shape[1:], 1) == shape:
            array = array[..., None]
        if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
            raise ValueError(
                f"x has shape {array.shape}, expected [b, {', '.join(map(str, shape))}] like the training data"
            )
        if array.dtype == np.bool_:
            array = array.astype(np.float32)
        if array.dtype.kind in "iu":
            levels = self.spec.levels or 256
            if array.min(initial=0) < 0 or array.max(initial=0) >= levels:
                raise ValueError(
                    f"x holds integers from {array.min()} to {array.max()}, expected levels 0 to {levels - 1}; "
                    "or give floats in [0, 1]"
                )
            return data.intensities(self.spec, jnp.asarray(array, jnp.uint8 if levels <= 256 else jnp.int32))
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError(f"x holds {int(np.sum(~np.isfinite(array)))} NaN or infinite values; clean them first")
        if self.spec.kind != "real" and array.size and (array.min() < 0 or array.max() > 1):
            raise ValueError(
                f"x holds floats from {array.min():g} to {array.max():g}, expected [0, 1]; divide 8-bit values by 255"
            )
        return jnp.asarray(array)

    def _stored(self, x: ArrayLike) -> jax.Array:
        """x as the data set stores it: level indices where the data has levels."""
        inputs = self._inputs(x)
        if self.spec.levels is None or np.asarray(x).dtype.kind in "iu":
            return inputs if self.spec.levels is None else jnp.asarray(np.asarray(x)).reshape(inputs.shape)
        scaled = np.asarray(inputs) * (self.spec.levels - 1)
        if np.abs(scaled - np.round(scaled)).max(initial=0.0) > 1e-2:
            raise ValueError(
                f"log_likelihood: x holds floats between the data's {self.spec.levels} levels k/{self.spec.levels - 1}; a "
                "likelihood is defined at the levels: round first, or give integers"
            )
        return jnp.asarray(np.round(scaled), jnp.int32)

    def encode(self, x: ArrayLike) -> Any:
        """The posterior of each example, a distribution over z [b, d] with sample, mean, log_prob."""
        return self._encode(self.variables, self._inputs(x))

    def decode(self, z: ArrayLike) -> Any:
        """The distribution over x given z [b, d]: ``.mean`` is the picture, ``.sample(key)`` draws pixels."""
        z = jnp.asarray(z, jnp.float32)
        return self._decode(self.variables, z)

    def reconstruct(self, x: ArrayLike) -> jax.Array:
        """The mean image of the posterior mean, [b, *shape]."""
        return self.decode(self.encode(x).mean).mean

    def sample(self, key: jax.Array, n: int, *, show: str = "mean") -> jax.Array:
        """n new images [n, *shape] with z from the prior: the likelihood's mean, or with show="sample" a draw from it."""
        if show not in ("mean", "sample"):
            raise ValueError(f"sample: show={show!r}, expected 'mean' or 'sample'")
        z_key, x_key = jax.random.split(key)
        drawn = self._sample(z_key, self.variables, int(n))
        return drawn.mean if show == "mean" else drawn.sample(x_key)

    def log_likelihood(self, key: jax.Array, x: ArrayLike, num_samples: int = 100) -> jax.Array:
        """Importance-weighted estimate of log p(x) in nats, [b]: a lower bound in expectation, tighter with more samples.

        Where training binarised grey values, so does this, with ``key``.

        Raises: ValueError for a model that defines no density.
        """
        if self.recipe.log_weights is None:
            raise ValueError(
                f"log_likelihood: this run's objective ({self.recipe.likelihood.title}) defines no density of the data"
            )
        if num_samples not in self._bounds:
            self._bounds[num_samples] = likelihood.log_likelihood(self.recipe.log_weights, num_samples=num_samples)
        data_key, model_key = jax.random.split(key)
        inputs = data.prepare(self.spec, data_key, self._stored(x))
        return self._bounds[num_samples](model_key, self.variables, self.hparams, {"x": inputs})
