r"""Linear autoencoder: PCA by gradient descent.

Objective, in nats per example: :math:`-\log\mathcal N(x; W f(x) + m, \sigma^2 I)`, f affine: squared error. Its only minima
span the subspace of the leading principal components; within it the codes may be sheared.

Source: Bourlard & Kamp 1988; Baldi & Hornik 1989 (no other minima).
Command: ``python experiments/run.py --model=linear_autoencoder``
Result: digits, test: reconstruction -35.9 nats; its subspace is PCA's within 0.002 degrees (experiments/linear.py).
"""

from __future__ import annotations

import jax

from vaex.core import Batch, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models.autoencoders import _linear as linear
from vaex.models.autoencoders import _point as point
from vaex.models.autoencoders._linear import DEFAULTS, TINY, Config, HParams
from vaex.plots.records import Grid

__all__ = ["DEFAULTS", "TINY", "Config", "HParams", "build"]


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of an affine encoder and decoder without a penalty.

    Raises: UserError for as many latents as values, or binarised data.
    """
    linear.check(config, spec)

    def draw_directions(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
        return linear.directions(
            lambda z: recipe.model.decode(variables, hparams, z, {}), variables.state["covariance"]
        )

    recipe = point.recipe(config.network_config(), spec, figures={"directions": draw_directions})
    return recipe
