"""Runs as they start, without a run directory, and the kinds of data that they are of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from helpers.command import parse
from vaex.api.trained_model import TrainedModel
from vaex.data.spec import Spec
from vaex.runs import setup
from vaex.schedules import resolve
from vaex.training import population

GREY = Spec("grey", (8, 8, 1), "grey", levels=256, binarization_noise=0.1)
DIGITS = Spec("digits", (8, 8, 1), "grey", levels=17)
BINARY = Spec("binary", (8, 8, 1), "binary", levels=2)
COLOR = Spec("color", (8, 9, 3), "color", levels=256)
CONTINUOUS = Spec("continuous", (8, 8, 1), "grey", levels=None)
REAL = Spec("real", (5,), "real", levels=None)


@functools.cache
def untrained(spec: Spec, *flags: str, model: str = "beta_vae") -> TrainedModel:
    """Return a run of these flags on data of this spec, before its first step."""
    settings = parse([f"--model={model}", "--hidden=8", "--latent_dim=2", *flags])
    spec = setup.resolve_spec(settings, spec)
    recipe = setup.build_recipe(settings, spec)
    variables = jax.jit(recipe.stages[0].model.init)(jax.random.key(0), {"x": jnp.zeros((1, *spec.shape))})
    hparams = resolve(population.member(setup.stack_hparams(settings), 0), np.int32(0))
    return TrainedModel(recipe, spec, variables, hparams, 0)
