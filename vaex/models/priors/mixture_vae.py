r"""Mixture VAE: the prior is a mixture of Gaussians whose weights, means and scales are learned.

Objective, in nats per example: the negative elbo,
:math:`-\mathbb E_{q(z|x)}[\log p(x|z) + \log p(z) - \log q(z|x)]` with
:math:`p(z) = \sum_k \pi_k\,\mathcal N(z; \mu_k, \mathrm{diag}\,\sigma_k^2)`.

Source: Dilokthanakul et al. 2016, section 2.2; as a baseline in Tomczak & Welling 2018, section 3 ("MoG").
Command: ``python experiments/run.py --model=mixture_vae``
Result: digits, test: elbo -104.0, log-likelihood -95.4 (K = 100); 15.5 of the mixture's components in use.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.configuration import option, options
from vaex.core import Batch, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.models import gaussian
from vaex.models.gaussian import HParams
from vaex.models.latent import Components, Prior
from vaex.models.likelihoods import soft_clip
from vaex.plots.records import Grid

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**gaussian.TINY, "components": 3}
SHOWN, DRAWS = 12, 8  # components in the figure, and samples of each


@options
class Config(gaussian.PosteriorConfig):
    """Options of the mixture VAE."""

    components: int = option(20, low=1, doc="Number of Gaussian components of the prior.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the mixture VAE for data of this spec."""
    shape = (config.components, config.latent_dim)

    def init(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        means = jax.random.normal(key, shape)
        return {"logits": jnp.zeros(config.components), "means": means, "log_scales": jnp.zeros(shape)}

    def distribution(
        params: PyTree, hparams: PyTree, posterior: Callable[[jax.Array], Distribution]
    ) -> distributions.Mixture:
        components = distributions.Normal(params["means"], log_scale=soft_clip(params["log_scales"]))
        return distributions.Mixture(params["logits"], components)

    components = gaussian.build_components(config, spec, Prior(distribution, init))
    figures = {"components": lambda *args: draw_components(components, *args)}
    return gaussian.monte_carlo_recipe(config, components, gaussian.mixture_components_used, figures)


def draw_components(
    components: Components, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch
) -> Grid:
    """A row of samples for each component of the prior, the heaviest first; the first image is that of its mean."""
    params = variables.params["vae"]
    mixture = components.prior(params, hparams)
    weights = jax.nn.softmax(mixture.logits)
    order = jnp.argsort(-weights)[:SHOWN]
    drawn = mixture.components.sample(key, (DRAWS,))[:, order]
    z = jnp.concatenate([mixture.components.mean[None, order], drawn])
    images = jnp.swapaxes(components.decode(params, hparams, z, batch).mean, 0, 1)
    rows = tuple(f"weight {weights[k]:.3f}" for k in order)
    return Grid(images, rows, ("mean", *("",) * DRAWS), "Components of the prior: their means and samples")
