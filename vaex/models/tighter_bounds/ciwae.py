r"""CIWAE: a combination of the ELBO and the importance bound of the same k samples.

Objective, in nats per example: :math:`-\beta\,\mathrm{ELBO} - (1-\beta)\,\mathrm{IWAE}_k`; beta is ``--mix``.

Source: Rainforth et al. 2018, Tighter variational bounds are not necessarily better, eq. 15.
Command: ``python experiments/run.py --model=ciwae --mix=0,0.5,1 --steps=1000``
Result: digits, test: log-likelihood (K = 100) -84.3, -84.4 and -85.1; elbo -90.5, -88.6 and -88.5.
"""

from __future__ import annotations

from vaex import bounds
from vaex.configuration import hparam, hyperparameters
from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.models import gaussian
from vaex.models.tighter_bounds import _importance as importance
from vaex.models.tighter_bounds._importance import TINY, Config
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of a Gaussian VAE, and how its two bounds are mixed."""

    mix: Scalar = hparam(
        0.5, low=0.0, high=1.0, doc="Weight of the ELBO; the weight of the importance bound is 1 - mix."
    )


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a VAE trained on a convex combination of ELBO and importance bound (eq. 15)."""
    return importance.recipe(
        config,
        spec,
        "ciwae_bound",
        lambda hparams, log_weights: bounds.combined_importance_bound(log_weights, mix=hparams.mix),
    )
