r"""k-sparse autoencoder: of each example's codes only the k largest are kept, the others are zero.

Objective, in nats per example: :math:`-\log p(x|z)`, with z the k largest of the encoder's outputs (not of their absolute
values). k is ``num_active``, a hyperparameter: ``--num_active=ramp:64:8:2000`` narrows it as the paper does, against latents
that are never chosen; from ``latent_dim`` on, all are kept.

Source: Makhzani & Frey 2014, k-Sparse autoencoders, section 2.1; the schedule: section 4.2.1.
Command: ``python experiments/run.py --model=k_sparse_autoencoder``
Result: digits, test: 8 active codes in every example, 55 of 64 in use over all; reconstruction 71.5 nats.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vaex.configuration import hparam, hyperparameters, options, with_default
from vaex.core import Batch, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models.autoencoders import _point as point
from vaex.models.autoencoders._point import TINY
from vaex.plots.records import Grid
from vaex.schedules import Scalar, ramp

__all__ = ["TINY", "Config", "HParams", "build"]

NARROWED = ramp(64.0, 8.0, 2000)


@options
class Config(point.Config):
    """Options of ``k_sparse_autoencoder``."""

    latent_dim: int = with_default(point.Config, "latent_dim", 64)
    hidden: tuple[int, ...] = with_default(point.Config, "hidden", ())


@hyperparameters
class HParams(point.HParams):
    """Hyperparameters of ``k_sparse_autoencoder``."""

    num_active: Scalar = hparam(NARROWED, low=1.0, doc="How many codes of an example are kept, rounded.")


def keep_largest(hparams: Any, raw: jax.Array) -> jax.Array:
    """``raw`` [b, d] with all but the ``hparams.num_active`` largest of each row set to 0; of equal ones the first are kept.

    Example:
      >>> keep_largest(HParams(num_active=2), jnp.array([[3.0, -1.0, 2.0, 2.0]]))
      Array([[3., 0., 2., 0.]], dtype=float32)
    """
    order = jnp.argsort(-raw, axis=-1, stable=True)
    rank = jnp.argsort(order, axis=-1)  # so that the number kept may be traced: no shape depends on it
    return jnp.where(rank < jnp.round(hparams.num_active), raw, 0.0)


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec."""

    def count(hparams: Any, terms: point.Terms) -> tuple[jax.Array, dict[str, jax.Array]]:
        return jnp.zeros(()), {"active_codes": jnp.sum(terms.z != 0.0, axis=-1).astype(jnp.float32)}

    def features(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> Grid:
        codes = recipe.model.encode(key, variables, hparams, batch).mean
        return point.features(lambda z: recipe.model.decode(variables, hparams, z, {}), codes)

    recipe = point.recipe(config, spec, code=keep_largest, penalty=count, figures={"features": features})
    return recipe
