r"""Ladder VAE: layers of latents whose posteriors merge what x suggests with the prior from above, by their precisions.

Objective, in nats per example:
:math:`-\mathbb E\log p(x|z_1) + \beta \sum_l \mathbb E\,\mathrm{KL}(q(z_l|z_{l+1}, x)\,\|\,p(z_l|z_{l+1}))`, beta warmed up to 1.
An upward pass without noise gives :math:`\hat\mu_l, \hat\sigma_l`, and
:math:`q(z_l|z_{l+1}, x) \propto N(z_l; \hat\mu_l, \hat\sigma_l)\,p(z_l|z_{l+1})`. Metrics count layers from the top.

Source: Sonderby et al. 2016, Ladder variational autoencoders, eqs. 12 to 19; the batch statistics are those of the upward pass.
Command: ``python experiments/run.py --model=ladder_vae``
Result: digits, test: KL of the layers from the top 0.0, 6.7, 13.0; elbo -100.5; log-likelihood -90.7 (K = 100).
"""

from __future__ import annotations

from functools import partial

from vaex import nets
from vaex.configuration import hyperparameters, option, options, with_default
from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.models.hierarchies import _hierarchy as hierarchy
from vaex.models.networks import network_inputs
from vaex.schedules import Scalar, ramp

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {"hidden": (8, 4), "latents": (2, 1)}
WARM_UP = ramp(0.0, 1.0, 1000)


@options
class Config(hierarchy.Config):
    """Options of the ladder VAE."""

    hidden: tuple[int, ...] = option(
        (256, 128, 64),
        low=1,
        doc="Widths of the dense layers, two before each layer of latents, from the data up, such as 256x128x64.",
    )
    latents: tuple[int, ...] = option(
        (32, 16, 8),
        low=1,
        doc="Number of latent variables of each layer, from the data up; as many entries as hidden has.",
    )
    activation: str = option(
        "leaky_relu", doc="Activation function: relu, tanh, gelu, silu, elu, softplus, leaky_relu or sigmoid."
    )
    batch_norm: bool = option(
        True, doc="Normalise the bottom-up pass by the moments of the batch, in evaluation by running ones."
    )

    def check(self) -> None:
        super().check()
        if len(self.hidden) != len(self.latents) or not self.latents:
            text = {name: "x".join(map(str, getattr(self, name))) for name in ("hidden", "latents")}
            raise UserError(
                f"--latents={text['latents']} has {len(self.latents)} layers and --hidden={text['hidden']} {len(self.hidden)} "
                "widths; give equally many, such as --hidden=256x128x64 --latents=32x16x8"
            )
        nets.activation_function(self.activation)


@hyperparameters
class HParams(hierarchy.HParams):
    """Hyperparameters of the ladder VAE."""

    beta: Scalar = with_default(hierarchy.HParams, "beta", WARM_UP)


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the ladder VAE for data of this spec."""
    likelihood = likelihoods.build(config.likelihood, spec, scale=config.likelihood_scale, mean=config.mean)
    network = nets.LadderNetwork(
        spec.shape,
        config.hidden,
        config.latents,
        likelihood.channels,
        config.activation,
        config.batch_norm,
        partial(network_inputs, spec),
    )
    return hierarchy.recipe(network, config, spec, likelihood, compares_examples=config.batch_norm)
