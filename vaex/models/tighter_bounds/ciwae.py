r"""CIWAE: a combination of the elbo and the importance bound of the same k samples.

Objective, in nats per example: :math:`-\beta\,\mathrm{ELBO} - (1-\beta)\,\mathrm{IWAE}_k`; the elbo's share beta is ``--mix``.

Source: Rainforth et al. 2018, Tighter variational bounds are not necessarily better, eq. 15.
Command: ``python experiments/run.py --model=ciwae --mix=0,0.5,1 --steps=1000``
Result: digits, test: log-likelihood (K = 100) -84.3, -84.4 and -85.1; elbo -90.5, -88.6 and -88.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax

from vaex import bounds
from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.models import gaussian
from vaex.models.tighter_bounds import _importance as importance
from vaex.models.tighter_bounds._importance import TINY, Config
from vaex.schedules import Schedule

__all__ = ["TINY", "Config", "HParams", "build"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HParams(gaussian.HParams):
    """What scales something; traced.

    Attributes:
      mix: share of the elbo; the rest is the importance bound's.
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {"mix": (0.0, 1.0)}

    mix: Schedule | float = 0.5


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec."""
    return importance.recipe(
        config,
        spec,
        HParams(),
        "ciwae_bound",
        lambda hparams, weights: bounds.combined_importance_bound(weights, hparams.mix),
    )
