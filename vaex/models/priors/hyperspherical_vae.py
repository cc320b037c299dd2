r"""Hyperspherical VAE: codes are unit vectors, with a von Mises-Fisher posterior and a uniform prior on the sphere.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + \mathrm{KL}(\mathrm{vMF}(\mu(x), \kappa(x))\,\|\,U)`, the
negative elbo; the KL, in closed form, depends on the concentration :math:`\kappa` alone, so no prior pulls the codes together.

Source: Davidson et al. 2018, Hyperspherical variational auto-encoders, section 3 and eq. 14.
Command: ``python experiments/run.py --model=hyperspherical_vae``
Result: digits, test: elbo -98.7, log-likelihood -90.6 (K = 100), mean concentration 561.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vaex import distributions
from vaex.configuration import option, options
from vaex.core import Batch, Latents, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.distributions.sphere import unit
from vaex.errors import UserError
from vaex.evaluation.traversals import interpolate
from vaex.models import latent, networks
from vaex.models.latent import Components, HParams, Posterior, Prior, Terms
from vaex.plots.records import Grid

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**networks.TINY, "latent_dim": 3}
STEPS = 9  # images on the way between two examples
LATITUDES, LONGITUDES = range(75, -90, -15), range(-180, 180, 15)


@options
class Config(networks.NetworkConfig):
    """Options of the hyperspherical VAE."""

    num_samples: int = option(1, low=1, doc="Posterior samples per example in training.")

    def check(self) -> None:
        super().check()
        if self.latent_dim < 2:
            raise UserError(f"--latent_dim={self.latent_dim}: expected at least 2, the coordinates of a circle")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the hyperspherical VAE for data of this spec."""
    components = build_components(config, spec)
    objective = latent.negative_elbo(components, penalty, num_samples=config.num_samples)
    figures = {"great_circles": lambda *args: draw_ways(components, *args)}
    if config.latent_dim == 3:
        figures["sphere"] = lambda *args: draw_sphere(components, *args)
    blocks = (Latents("sphere", config.latent_dim),)
    return latent.single_stage(latent.model(components, objective), config, components.likelihood, figures, blocks)


def build_components(config: Config, spec: Spec) -> Components:
    """A von Mises-Fisher posterior, whose concentration is at least 1, and a uniform prior. The decoder sees directions:
    the posterior's mean, which lies within the sphere, is decoded like the point above it."""
    d, uniform = config.latent_dim, distributions.UniformSphere(config.latent_dim)

    def distribution(params: PyTree, hparams: PyTree, raw: jax.Array) -> distributions.VonMisesFisher:
        return distributions.VonMisesFisher(raw[..., :d], 1.0 + jax.nn.softplus(raw[..., d]))

    components = latent.build_components(
        config, spec, Posterior(d + 1, distribution), Prior(lambda params, hparams, posterior: uniform)
    )
    return components._replace(
        decode=lambda params, hparams, z, batch: components.decode(params, hparams, unit(z), batch)
    )


def penalty(hparams: PyTree, terms: Terms) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The KL; and as a metric the concentration, [b]."""
    return terms.kl, {"concentration": terms.posterior.concentration}


def draw_ways(components: Components, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
    """Between pairs of examples: what is decoded along the shorter arc of the great circle through their codes."""
    params, x = variables.params["vae"], batch["x"]
    x = x[: len(x) // 2 * 2] if len(x) > 1 else jnp.repeat(x, 2, axis=0)  # one example is a pair with itself
    mean = np.asarray(components.posterior(params, hparams, {"x": x}).mode)
    z = interpolate(lambda z: z, mean[::2], mean[1::2], STEPS, spherical=True)
    images = np.asarray(components.decode(params, hparams, jnp.asarray(z), batch).mean)
    images = np.concatenate([x[::2, None], images, x[1::2, None]], axis=1)
    columns = ("from", *[""] * STEPS, "to")
    return Grid(images, (), columns, "Examples, and the arcs of great circles between their codes")


def draw_sphere(components: Components, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
    """A map of the sphere in three dimensions: longitudes to the right, latitudes upwards."""
    latitude, longitude = np.meshgrid(np.deg2rad(LATITUDES), np.deg2rad(LONGITUDES), indexing="ij")
    level = np.cos(latitude)
    z = np.stack([level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], axis=-1)
    images = components.decode(variables.params["vae"], hparams, jnp.asarray(z, jnp.float32), batch).mean
    names = [tuple(f"{angle}°".replace("-", "−") for angle in angles) for angles in (LATITUDES, LONGITUDES)]
    return Grid(images, names[0], names[1], "The sphere as a map: longitude to the right, latitude upwards")
