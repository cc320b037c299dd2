r"""Annealed VAE: the KL is drawn to a capacity that grows over training.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + \gamma\,|\mathrm{KL} - C|`, the KL averaged over the
batch and C the capacity at this step.

Source: Burgess et al. 2018, Understanding disentangling in beta-VAE, eq. 8.
Command: ``python experiments/run.py --model=annealed_vae --capacity=ramp:0:25:2000``
Result: digits, test: KL 25.1, drawn to 25; elbo -107.6, log-likelihood -102.8 (K = 100).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vaex import bounds
from vaex.configuration import hparam, hyperparameters
from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.models import gaussian
from vaex.models.gaussian import TINY, Config
from vaex.schedules import Scalar, ramp

__all__ = ["TINY", "Config", "HParams", "build"]

CAPACITY = ramp(0.0, 25.0, 2000)


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of ``annealed_vae``."""

    capacity: Scalar = hparam(CAPACITY, low=0.0, doc="The KL aimed at, nats.")
    gamma: Scalar = hparam(10.0, low=0.0, doc="Weight of the distance to the capacity.")


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec."""

    def penalty(hparams: Any, terms: gaussian.Terms) -> jax.Array:
        return bounds.capacity_penalty(jnp.mean(terms.kl), capacity=hparams.capacity, gamma=hparams.gamma)

    return gaussian.recipe(config, spec, penalty)
