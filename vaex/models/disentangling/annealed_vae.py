r"""Annealed VAE: the KL is drawn to a capacity that grows over training.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + \gamma\,|\mathrm{KL} - C|`, the KL averaged over the
batch and C the capacity at this step.

Source: Burgess et al. 2018, Understanding disentangling in beta-VAE, eq. 8.
Command: ``python experiments/run.py --model=annealed_vae --capacity=ramp:0:25:2000``
Result: digits, test: KL 25.1, drawn to 25; elbo -107.6, log-likelihood -102.8 (K = 100).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex import bounds
from vaex.configuration import hparam, hyperparameters
from vaex.core import PyTree, Recipe
from vaex.data.spec import Spec
from vaex.models import gaussian
from vaex.models.gaussian import TINY, Config
from vaex.schedules import Scalar, ramp

__all__ = ["TINY", "Config", "HParams", "build"]

CAPACITY = ramp(0.0, 25.0, 2000)


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of a Gaussian VAE, and the capacity of its KL divergence."""

    capacity: Scalar = hparam(
        CAPACITY, low=0.0, doc="Target of the mean KL divergence of a batch, in nats; a ramp lets it grow."
    )
    gamma: Scalar = hparam(10.0, low=0.0, doc="Weight of the distance between the KL divergence and the capacity.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a Gaussian VAE whose penalty is the distance of its KL from the capacity (eq. 8)."""

    def penalty(hparams: PyTree, terms: gaussian.Terms) -> jax.Array:
        return bounds.capacity_penalty(jnp.mean(terms.kl), capacity=hparams.capacity, gamma=hparams.gamma)

    return gaussian.recipe(config, spec, penalty, compares_examples=True)
