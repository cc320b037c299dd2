r"""The plain autoencoder: a point code without a prior.

Objective, in nats per example: :math:`-\log p(x|z = f(x))`. It defines no density over x; samples are drawn from a Gaussian
with the codes' mean and covariance, which training tracks in ``Variables.state``.

Source: Hinton & Salakhutdinov 2006; the Gaussian over codes: Ghosh et al. 2020, section 4.
Command: ``python experiments/run.py --model=autoencoder``
Result: digits, test: reconstruction 119.4 nats, 36.5 on the training images: it overfits most of all; neighbours of a code have its
label for 96.5% of images.
"""

from __future__ import annotations

from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.models.autoencoders import _point as point
from vaex.models.autoencoders._point import TINY, Config, HParams

__all__ = ["TINY", "Config", "HParams", "build"]


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of an autoencoder without a penalty, for data of this spec."""
    return point.recipe(config, spec)
