r"""JointVAE: continuous and categorical latents, the KL of each drawn to a growing capacity of its own.

Objective, in nats per example: :math:`-\mathbb E\log p(x|z, c) + \gamma\,|\mathrm{KL}(q(z|x)\,\|\,p(z)) - C_z|
+ \gamma\,|\mathrm{KL}(q(c|x)\,\|\,p(c)) - C_c|`, both KLs averaged over the batch, z Gaussian and c relaxed one-hot vectors as
in ``gumbel_vae``; :math:`C_c` stops at what the categorical variables can hold.

Source: Dupont 2018, Learning disentangled joint continuous and discrete representations, eq. 7.
Command: ``python experiments/run.py --model=joint_vae``
Result: digits, test: elbo -93.9, log-likelihood -90.4 (K = 100); KL 11.9 of the continuous latents, 2.26 of the discrete one.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp

from vaex import bounds
from vaex.configuration import hparam, hyperparameters, option, options, with_default
from vaex.core import Batch, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import gaussian, latent, networks
from vaex.models.priors import _categorical
from vaex.plots.records import Grid
from vaex.schedules import Scalar, ramp

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**networks.TINY, "classes": 3}
STYLES = 10  # columns of the figure
# the categorical variable learns first: what a continuous latent has taken up, it never gets
DISCRETE_CAPACITY, CONTINUOUS_CAPACITY = ramp(0.0, 2.3, 2000), ramp(0.0, 12.0, 2000, begin=2000)


@options
class Config(_categorical.Config):
    """Options of the JointVAE."""

    variables: int = option(1, low=1, doc="Number of categorical latents.")
    posterior: Literal["diagonal", "full"] = option(
        "diagonal", doc="Posterior of the continuous latents: Gaussian with a diagonal or full covariance."
    )

    def check(self) -> None:
        super().check()
        if self.variables < 1:
            raise UserError(
                f"--variables={self.variables}: expected at least 1; without any, it is --model=annealed_vae"
            )


@hyperparameters
class HParams(_categorical.HParams):
    """Hyperparameters of the JointVAE."""

    continuous_capacity: Scalar = hparam(
        CONTINUOUS_CAPACITY, low=0.0, doc="Target of the mean KL divergence of the continuous latents, in nats."
    )
    discrete_capacity: Scalar = hparam(
        DISCRETE_CAPACITY,
        low=0.0,
        doc="Target of the mean KL divergence of the categorical latents, in nats; at most variables times "
        "log(classes) is used.",
    )
    gamma: Scalar = hparam(
        10.0, low=0.0, doc="Weight of the distances between the KL divergences and their capacities."
    )
    temperature: Scalar = with_default(_categorical.HParams, "temperature", 0.67)


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the JointVAE for data of this spec."""
    posterior = gaussian.gaussian_posterior(config.posterior, config.latent_dim)
    components, blocks = _categorical.build_components(config, spec, config.variables, config.classes, posterior)
    most = config.variables * math.log(config.classes)

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params = variables.params["vae"]
        terms = _categorical.draw_terms(
            key, components, params, hparams, batch, train=train, hard=config.straight_through
        )
        continuous, categorical = terms.continuous_kl, terms.categorical_kl
        capacities = hparams.continuous_capacity, jnp.minimum(hparams.discrete_capacity, most)
        penalty = sum(
            bounds.capacity_penalty(jnp.mean(kl), capacity=capacity, gamma=hparams.gamma)
            for kl, capacity in zip((continuous, categorical), capacities, strict=True)
        )
        kl_parts = {"continuous_kl": continuous, "discrete_kl": categorical}
        metrics = terms.metrics(components.likelihood, continuous + categorical) | kl_parts
        return Outcome({"vae": jnp.mean(-terms.log_px) + penalty}, variables.state, metrics)

    figures = {"classes": lambda *args: draw_classes(components, config, *args)}
    model = latent.model(components, objective)._replace(compares_examples=True)
    return latent.single_stage(model, config, components.likelihood, figures, blocks)


def draw_classes(
    components: latent.Components, config: Config, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch
) -> Grid:
    """A row for each class of the first categorical variable; each column has its own draw of all other latents."""
    params = variables.params["vae"]
    z = components.prior(params, hparams).sample(key, (STYLES,))
    first = config.latent_dim
    z = (
        jnp.tile(z, (config.classes, 1, 1))
        .at[..., first : first + config.classes]
        .set(jnp.eye(config.classes)[:, None])
    )
    rows = tuple(f"class {index}" for index in range(config.classes))
    return Grid(
        components.decode(params, hparams, z, batch).mean, rows, (), "Classes of c0; a column shares all other latents"
    )
