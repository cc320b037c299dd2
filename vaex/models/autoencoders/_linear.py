"""Linear models: options of an affine encoder and decoder with a Gaussian likelihood, and a figure of the principal directions."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp

from vaex.configuration import hyperparameters, option, options, with_default
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.errors import UserError
from vaex.models import latent
from vaex.models.networks import BaseConfig, NetworkConfig
from vaex.plots.records import Grid
from vaex.schedules import Scalar, cosine
from vaex.training.hyperparameters import TrainingHParams
from vaex.training.optimizers import Optimizer

TINY: dict[str, Any] = {"latent_dim": 2}
DEFAULTS: dict[str, Any] = {"steps": 4000, "batch_size": 2000}  # whole epochs of small data: an exact gradient
FALLING = cosine(0.03, 0.0, 4000)


class DecodeCodes(Protocol):
    """Returns p(x|z) for z [n, d]."""

    def __call__(self, z: jax.Array, /) -> Distribution: ...


@options
class Config:
    """Options of linear models."""

    latent_dim: int = option(
        10, low=1, doc="Number of latent variables; at least one fewer than an example has values."
    )
    likelihood_scale: Literal["global", "fixed"] = option(
        "global", doc="Standard deviation of x given z: one learned number (global), or sigma (fixed)."
    )
    optimizer: Optimizer = with_default(BaseConfig, "optimizer", "adam")

    def check(self) -> None:
        self.network_config()

    def network_config(self) -> NetworkConfig:
        """Return these options as those of a model whose networks are MLPs without hidden layers.

        Raises: UserError for a number of latents below 1, or an unknown optimizer.
        """
        return NetworkConfig(
            latent_dim=self.latent_dim,
            hidden=(),
            likelihood="gaussian",
            likelihood_scale=self.likelihood_scale,
            optimizer=self.optimizer,
        )


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of linear models, with a learning rate that falls to zero."""

    learning_rate: Scalar = with_default(TrainingHParams, "learning_rate", FALLING)


def check(config: Config, spec: Spec) -> None:
    """Raise UserError for as many latents as values, and for binarised values, which have no Gaussian likelihood."""
    size = math.prod(spec.shape)
    if config.latent_dim >= size:
        raise UserError(f"--latent_dim={config.latent_dim}: expected fewer than the {size} values of an example")
    if spec.binarize != "none":
        raise UserError(f"--binarize={spec.binarize}: a linear model has a Gaussian likelihood; use --binarize=none")


def loadings(decode: DecodeCodes, latent_dim: int) -> jax.Array:
    """Return how far the decoder's mean moves with each latent, [d, *shape].

    Args:
      decode: p(x|z), with a mean affine in z.
      latent_dim: d.
    """
    means = decode(jnp.concatenate([jnp.zeros((1, latent_dim)), jnp.eye(latent_dim)])).mean
    return means[1:] - means[:1]


def directions(decode: DecodeCodes, covariance: jax.Array) -> Grid:
    """Draw the principal axes of decoded codes as images, the widest first; 0 is grey, the largest value white.

    Args:
      decode: p(x|z), with a mean affine in z.
      covariance: of the codes, [d, d].
    """
    d = len(covariance)
    weights = loadings(decode, d)
    flat = weights.reshape(d, -1)
    root = jnp.linalg.cholesky(covariance + 1e-6 * jnp.eye(d))
    _, scale, axes = jnp.linalg.svd(root.T @ flat, full_matrices=False)
    largest = jnp.take_along_axis(axes, jnp.argmax(jnp.abs(axes), axis=1)[:, None], axis=1)  # also decides the sign
    images = (0.5 + 0.5 * axes / largest).reshape(weights.shape)
    labels = tuple(f"±{s:.2g}" for s in scale)
    return Grid(images[None], column_labels=labels, title="Principal directions, with their standard deviations")
