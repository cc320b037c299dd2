r"""Denoising autoencoder: the encoder sees a corrupted input, and the decoder must reconstruct the clean one.

Objective, in nats per example: :math:`-\log p(x|z = f(\tilde x))`, with :math:`\tilde x` drawn anew at every step: Gaussian
noise of scale ``noise_scale``, or a share ``corruption_rate`` of the values set to 0 (masking), or to 0 or 1 with equal
chances (salt and pepper). "denoising" is this loss; "reconstruction" that of clean inputs, computed in evaluation.

Source: Vincent et al. 2008, section 2.3; Vincent et al. 2010, section 3.1 (the three corruptions).
Command: ``python experiments/run.py --model=denoising_autoencoder --corruption=gaussian``
Result: digits, test: reconstruction 78.7 nats from clean images, 88.1 from images with Gaussian noise; neighbours of a code have
its label for 98% of images. Beside a plain autoencoder: experiments/autoencoders.py.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.autoencoders import _point as point
from vaex.models.autoencoders._point import TINY, Corruption
from vaex.plots.records import Grid
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build", "corruption"]

FIGURE_IMAGES = 10


@options
class Config(point.Config):
    """Options of an autoencoder, and the corruption of its inputs."""

    corruption: Literal["gaussian", "masking", "salt_and_pepper"] = option(
        "gaussian",
        doc="Corruption of inputs: gaussian (by noise_scale), masking or salt_and_pepper (by corruption_rate).",
    )


@hyperparameters
class HParams(point.HParams):
    """Hyperparameters of an autoencoder, and the strength of the corruption."""

    noise_scale: Scalar = hparam(
        0.5,
        low=0.0,
        doc="Standard deviation of gaussian corruption, in units of the data.",
        needs={"corruption": ("gaussian",)},
    )
    corruption_rate: Scalar = hparam(
        0.3,
        low=0.0,
        high=1.0,
        doc="Probability that masking or salt_and_pepper replaces a value.",
        needs={"corruption": ("masking", "salt_and_pepper")},
    )


def corruption(kind: str) -> Corruption:
    """Return the function that corrupts each value of x independently.

    Args:
      kind: as ``Config.corruption``; the function reads ``hparams.noise_scale`` or ``hparams.corruption_rate``.
    Example:
      >>> x = jnp.ones((1, 2, 2, 1))
      >>> corruption("masking")(jax.random.key(0), HParams(corruption_rate=1.0), x).sum()
      Array(0., dtype=float32)
    """

    def gaussian(key: jax.Array, hparams: PyTree, x: jax.Array) -> jax.Array:
        return x + hparams.noise_scale * jax.random.normal(key, x.shape, x.dtype)

    def masking(key: jax.Array, hparams: PyTree, x: jax.Array) -> jax.Array:
        return jnp.where(jax.random.uniform(key, x.shape) < hparams.corruption_rate, 0.0, x)

    def salt_and_pepper(key: jax.Array, hparams: PyTree, x: jax.Array) -> jax.Array:
        u, rate = jax.random.uniform(key, x.shape), hparams.corruption_rate
        return jnp.where(u < rate, jnp.where(u < rate / 2, 0.0, 1.0), x)

    return {"gaussian": gaussian, "masking": masking, "salt_and_pepper": salt_and_pepper}[kind]


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of an autoencoder of corrupted inputs, with a figure of what it restores.

    Raises: UserError for salt and pepper on data without black and white.
    """
    if config.corruption == "salt_and_pepper" and spec.kind == "real":
        raise UserError(
            f"--corruption=salt_and_pepper sets values to 0 or 1, but {spec.name} holds real numbers; use gaussian or masking, "
            "or rescale the data to [0, 1]"
        )
    corrupt = corruption(config.corruption)

    def denoised(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
        clean = jnp.asarray(batch["x"][:FIGURE_IMAGES])
        noisy = corrupt(key, hparams, clean)
        codes = recipe.model.encode(key, variables, hparams, {"x": noisy}).mean
        restored = recipe.model.decode(variables, hparams, codes, {}).mean
        rows = jnp.clip(jnp.stack([clean, noisy, restored]), 0.0, 1.0)
        return Grid(rows, ("original", "corrupted", "denoised"), title=f"Denoising ({config.corruption})")

    recipe = point.recipe(config, spec, corrupt=corrupt, figures={"denoised": denoised})
    return recipe
