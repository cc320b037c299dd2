r"""MIWAE: the mean of m importance bounds of k samples each.

Objective, in nats per example: :math:`-\frac1m\sum_{j=1}^m\log\frac1k\sum_{i=1}^k w_{ij}`, where
:math:`w_{ij} = p(x, z_{ij})/q(z_{ij}|x)`. More groups lower the variance of the encoder's gradient, more samples tighten the bound.

Source: Rainforth et al. 2018, Tighter variational bounds are not necessarily better, eq. 14.
Command: ``python experiments/run.py --model=miwae --steps=1000``
Result: digits, test: elbo -89.6, MIWAE bound -86.7, log-likelihood (K = 100) -84.3,
1.4 ± 0.2 nats above ``vae`` after as many steps (paired).
"""

from __future__ import annotations

import jax

from vaex import bounds
from vaex.core import PyTree, Recipe
from vaex.data.spec import Spec
from vaex.models.gaussian import HParams
from vaex.models.tighter_bounds import _importance as importance
from vaex.models.tighter_bounds._importance import GroupedConfig as Config

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**importance.TINY, "num_samples": 3, "num_groups": 2}


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a VAE trained on the mean of ``num_groups`` importance bounds (eq. 14)."""

    def bound(hparams: PyTree, log_weights: jax.Array) -> jax.Array:
        return bounds.mean_importance_bound(log_weights.reshape(config.num_groups, -1, *log_weights.shape[1:]))

    samples = config.num_groups * config.num_samples
    return importance.recipe(config, spec, "miwae_bound", bound, num_samples=samples)
