"""Models that compare examples with means of p(x|z) by another measure; -log p(x|z) trains the likelihood's scale alone."""

from __future__ import annotations

from typing import Literal

import jax

from vaex.configuration import option, options
from vaex.core import Batch, PyTree
from vaex.models import latent, networks


@options
class Config(networks.NetworkConfig):
    """Options of such a model: a likelihood whose means are numbers like x, and whose scale is one number."""

    likelihood: Literal["gaussian", "laplace"] = option(
        "gaussian", doc="Likelihood, whose scale alone is trained by it."
    )
    likelihood_scale: Literal["global", "fixed"] = option("global", doc="Scale of the likelihood: learned, or sigma.")


def log_px_of_scale(
    components: latent.Components, params: PyTree, hparams: PyTree, z: jax.Array, batch: Batch
) -> jax.Array:
    """Return log p(x|z) [..., b], nats, at z [..., b, d]; its gradient reaches the parameters of the likelihood alone."""
    fixed, z = jax.lax.stop_gradient((params, z))
    return components.decode(fixed | {"likelihood": params["likelihood"]}, hparams, z, batch).log_prob(batch["x"])
