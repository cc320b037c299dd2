"""What the linear models share: an affine encoder and decoder, a Gaussian likelihood, and a picture of the directions."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vaex.configuration import hparam, hyperparameters, option, options, with_default
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.networks import BaseConfig, NetworkConfig
from vaex.plots.records import Grid
from vaex.schedules import Scalar, cosine
from vaex.training.hyperparameters import TrainingHParams
from vaex.training.optimizers import Optimizer

TINY: dict[str, Any] = {"latent_dim": 2}
DEFAULTS: dict[str, Any] = {"steps": 4000, "batch_size": 2000}  # whole epochs of small data: an exact gradient
FALLING = cosine(0.03, 0.0, 4000)


@options
class Config:
    """Options of ``linear``."""

    latent_dim: int = option(10, low=1, doc="Number of latent variables, fewer than values in an example.")
    likelihood_scale: Literal["global", "fixed"] = option("global", doc="One learned standard deviation, or sigma.")
    optimizer: Optimizer = with_default(BaseConfig, "optimizer", "adam")

    def check(self) -> None:
        self.networked()

    def networked(self) -> NetworkConfig:
        """The same for the builders of models with networks: an MLP without hidden layers.

        Raises: UserError for a number of latents or an optimizer that is none.
        """
        return NetworkConfig(
            latent_dim=self.latent_dim,
            hidden=(),
            likelihood="gaussian",
            likelihood_scale=self.likelihood_scale,
            optimizer=self.optimizer,
        )


@hyperparameters
class HParams(TrainingHParams):
    """Hyperparameters of ``linear``."""

    learning_rate: Scalar = with_default(TrainingHParams, "learning_rate", FALLING)
    sigma: Scalar = hparam(1.0, low=1e-06, doc="Standard deviation of the likelihood where likelihood_scale is fixed.")


def check(config: Config, spec: Spec) -> None:
    """Raise UserError where there are as many latents as values, or binarised ones, of which PCA is no model."""
    size = math.prod(spec.shape)
    if config.latent_dim >= size:
        raise UserError(f"--latent_dim={config.latent_dim}: expected fewer than the {size} values of an example")
    if spec.binarize != "none":
        raise UserError(f"--binarize={spec.binarize}: a linear model has a Gaussian likelihood; use --binarize=none")


def loadings(decode: Any, latent_dim: int) -> jax.Array:
    """How far the decoder's mean moves with each latent: [d, *shape].

    Args:
      decode: z [n, d] -> a distribution over x, its mean affine in z.
      latent_dim: d.
    """
    means = decode(jnp.concatenate([jnp.zeros((1, latent_dim)), jnp.eye(latent_dim)])).mean
    return means[1:] - means[:1]


def directions(decode: Any, covariance: jax.Array) -> Grid:
    """The principal axes of the decoded codes, the widest first: each an image, 0 as grey, the largest value white.

    Args:
      decode: z [n, d] -> a distribution over x, its mean affine in z.
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
