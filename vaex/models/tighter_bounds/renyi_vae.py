r"""Renyi VAE: the variational Renyi bound of order alpha, between the ELBO (1) and the importance bound (0).

Objective, in nats per example: :math:`-\frac1{1-\alpha}\log\frac1k\sum_i\left(\frac{p(x, z_i)}{q(z_i|x)}\right)^{1-\alpha}`.
It falls as alpha grows; below 0 it is no longer a bound on log p(x) with infinitely many samples.

Source: Li & Turner 2016, Renyi divergence variational inference, eq. 7.
Command: ``python experiments/run.py --model=renyi_vae --alpha=0,0.5,1 --steps=1000``
Result: digits, test: log-likelihood (K = 100) -84.4, -84.4 and -85.1; the bound that is trained -86.8, -87.7 and -88.5.
"""

from __future__ import annotations

import jax

from vaex import bounds
from vaex.configuration import hparam, hyperparameters
from vaex.core import PyTree, Recipe
from vaex.data.spec import Spec
from vaex.models import gaussian
from vaex.models.tighter_bounds import _importance as importance
from vaex.models.tighter_bounds._importance import TINY, Config
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of a Gaussian VAE, and the order of its bound."""

    alpha: Scalar = hparam(0.5, doc="Order of the Renyi divergence: 1 gives the ELBO, 0 the importance bound.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a VAE trained on the Renyi bound of order ``hparams.alpha`` (eq. 7)."""

    def bound(hparams: PyTree, log_weights: jax.Array) -> jax.Array:
        return bounds.renyi_bound(log_weights, alpha=hparams.alpha)

    recipe = importance.recipe(config, spec, "renyi_bound", bound)
    return recipe._replace(figures=importance.figures(recipe.model.log_weights, spec, {"Renyi bound": bound}))
