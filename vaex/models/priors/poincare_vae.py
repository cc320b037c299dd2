r"""Poincaré VAE: latents in a hyperbolic space, in whose balls there is room for trees, and a decoder that reads their distances.

Objective, in nats per example: the negative elbo, :math:`-\mathbb E_{q(z|x)}[\log p(x|z) + \log p(z) - \log q(z|x)]`, with wrapped
normals on the Poincaré ball: :math:`q(z|x) = N(\exp_0(\mu(x)), \sigma(x))` and :math:`p(z) = N(0, s)`, whose scales are hyperbolic
distances. The decoder's first layer has the signed distances of z to learned hyperplanes (gyroplanes).

Source: Mathieu et al. 2019, Continuous hierarchical representations with Poincaré variational auto-encoders, section 3.
Command: ``python experiments/run.py --model=poincare_vae``
Result: digits, test, ``--latent_dim=2``: elbo -96.7, log-likelihood -92.8 (K = 100; ``vae``: -93.6); neighbours of a code have its
label for 91% of images (``vae``: 86%). With 10 latents it overfits: -114.8.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, Latents, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.distributions import PoincareNormal
from vaex.distributions.poincare import to_poincare_ball
from vaex.models import latent, networks
from vaex.models.likelihoods import soft_clip
from vaex.models.priors import _hyperbolic as hyperbolic
from vaex.plots.records import Grid
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**networks.TINY, "gyroplanes": 16}
SIDE = 15  # images on the diameter of the disk


@options
class Config(networks.NetworkConfig):
    """Options of the Poincaré VAE."""

    num_samples: int = option(1, low=1, doc="Posterior samples per example in training.")
    gyroplanes: int = option(64, low=1, doc="Hyperplanes of the ball, distances to which the decoder reads.")


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of a VAE, and those of its hyperbolic space."""

    curvature: Scalar = hparam(1.0, low=0.001, doc="The latent space has curvature -c; near 0 it is flat.")
    prior_scale: Scalar = hparam(1.0, low=1e-06, doc="Standard deviation of the prior, in hyperbolic distance.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the Poincaré VAE for data of this spec."""
    components = build_components(config, spec)
    objective = latent.negative_elbo(
        components, lambda hparams, terms: terms.kl, num_samples=config.num_samples, closed_form=False
    )
    figures = {"disk": lambda *args: draw_disk(components, *args)} if config.latent_dim == 2 else {}
    blocks = (Latents("free", config.latent_dim),)
    return latent.single_stage(latent.model(components, objective), config, components.likelihood, figures, blocks)


def build_components(config: Config, spec: Spec) -> latent.Components:
    """Return wrapped normals as posterior and prior, and a decoder behind gyroplanes."""
    d, origin = config.latent_dim, jnp.zeros(config.latent_dim)

    def distribution(params: PyTree, hparams: PyTree, raw: jax.Array) -> hyperbolic.BallPosterior:
        loc = to_poincare_ball(hyperbolic.reachable(raw[..., :d], hparams.curvature), hparams.curvature)
        log_scale = hyperbolic.at_most_wide(soft_clip(raw[..., d:]), hparams.prior_scale)
        return hyperbolic.BallPosterior(loc, log_scale, jnp.broadcast_to(hparams.curvature, raw.shape[:-1]))

    def prior(params: PyTree, hparams: PyTree, posterior: object) -> PoincareNormal:
        return PoincareNormal(origin, jnp.broadcast_to(hparams.prior_scale, d), curvature=hparams.curvature)

    to_data = dataclasses.replace(config, latent_dim=config.gyroplanes)
    components = latent.build_components(to_data, spec, latent.Posterior(2 * d, distribution), latent.Prior(prior))
    return hyperbolic.behind_gyroplanes(components, config.gyroplanes, d, config.activation)


def draw_disk(
    components: latent.Components, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch
) -> Grid:
    """What is decoded at points of the Poincaré disk, evenly spaced in its coordinates."""
    axis = np.linspace(-1.0, 1.0, SIDE)
    z = np.stack(np.meshgrid(axis, -axis), axis=-1) / np.sqrt(hparams.curvature)
    images = np.array(components.decode(variables.params["vae"], hparams, jnp.asarray(z, jnp.float32), batch).mean)
    images[np.sum(np.square(z), axis=-1) * hparams.curvature > 0.97] = np.nan
    return Grid(images, title="The Poincaré disk: points decoded")
