r"""Sparse autoencoder: few latents are active at a time.

Objective, in nats per example, by ``--sparsity``:
kl: codes in (0, 1) by a sigmoid, :math:`-\log p(x|z) + w\sum_j\mathrm{KL}(\mathrm{Bernoulli}(\rho)\,\|\,
\mathrm{Bernoulli}(\hat\rho_j))`, with :math:`\hat\rho_j` the mean activation of latent j over the batch;
l1: codes >= 0 by a rectifier, :math:`-\log p(x|z) + w\sum_j |z_j|`; none: sigmoid codes without a penalty.
``--dropout`` zeroes entries of codes at random in training and scales up the others, alone or beside a penalty.

Source: Ng 2011, CS294A lecture notes, section 3 (kl); Glorot et al. 2011, section 3.2 (rectified codes, l1);
Srivastava et al. 2014 (dropout, and that it alone makes codes sparse: section 7.2).
Command: ``python experiments/run.py --model=sparse_autoencoder``
Result: digits, test: mean activation 0.103, where the target is 0.1; reconstruction 59.4 nats.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from vaex import divergences
from vaex.configuration import hparam, hyperparameters, option, options, with_default
from vaex.core import Batch, Metrics, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models.autoencoders import _point as point
from vaex.plots.records import Bars, Grid
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = point.TINY


@options
class Config(point.Config):
    """Options of an autoencoder with a wide code, and what makes the code sparse."""

    latent_dim: int = with_default(point.Config, "latent_dim", 64)
    hidden: tuple[int, ...] = with_default(point.Config, "hidden", ())
    sparsity: Literal["kl", "l1", "none"] = option(
        "kl", doc="Penalty: kl (of mean activations from target_activation), l1 or none."
    )
    dropout: bool = option(False, doc="Zero entries of codes at random in training, with probability dropout_rate.")


@hyperparameters
class HParams(point.HParams):
    """Hyperparameters of an autoencoder, and the strength of each way to sparse codes."""

    target_activation: Scalar = hparam(
        0.1,
        low=0.0001,
        high=0.9999,
        doc="Mean activation to which the penalty kl draws each latent.",
        needs={"sparsity": ("kl",)},
    )
    kl_weight: Scalar = hparam(100.0, low=0.0, doc="Weight of the penalty kl.", needs={"sparsity": ("kl",)})
    l1_weight: Scalar = hparam(0.3, low=0.0, doc="Weight of the penalty l1.", needs={"sparsity": ("l1",)})
    dropout_rate: Scalar = hparam(
        0.5,
        low=0.0,
        high=0.999,
        doc="Probability that dropout zeroes an entry of a code.",
        needs={"dropout": (True,)},
    )


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of an autoencoder with sparse codes, and figures of activations and features."""

    def code(hparams: PyTree, raw: jax.Array) -> jax.Array:
        return jax.nn.relu(raw) if config.sparsity == "l1" else jax.nn.sigmoid(raw)

    def drop(key: jax.Array, hparams: PyTree, z: jax.Array) -> jax.Array:
        kept = jax.random.uniform(key, z.shape) >= hparams.dropout_rate
        return jnp.where(kept, z / (1.0 - hparams.dropout_rate), 0.0)

    def penalty(hparams: PyTree, terms: point.Terms) -> tuple[jax.Array, Metrics]:
        activation = {"mean_activation": jnp.mean(terms.z, axis=-1)}
        if config.sparsity == "none":
            return jnp.zeros(()), activation
        if config.sparsity == "l1":
            value = jnp.sum(jnp.abs(terms.z), axis=-1)
            return hparams.l1_weight * value, activation | {"l1": value, "zeros": jnp.mean(terms.z == 0.0, axis=-1)}
        value = jnp.sum(divergences.bernoulli_kl(hparams.target_activation, jnp.mean(terms.z, axis=0)))
        return hparams.kl_weight * value, activation | {"sparsity_kl": value}

    def draw_activations(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Bars:
        means = jnp.sort(variables.state["activation"])[::-1]
        return Bars(means, x_label="latents, by activation", y_label="mean activation", title="Mean activations")

    def draw_features(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
        codes = recipe.model.encode(key, variables, hparams, batch).mean
        return point.draw_features(lambda z: recipe.model.decode(variables, hparams, z, {}), codes)

    recipe = point.recipe(
        config,
        spec,
        code=code,
        corrupt_codes=drop if config.dropout else None,
        penalty=penalty,
        figures={"activations": draw_activations, "features": draw_features},
        compares_examples=config.sparsity == "kl",
    )
    return recipe
