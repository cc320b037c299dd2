r"""Flow VAE: normalizing flows make the posterior more flexible, the prior, or both.

Objective, in nats per example: the negative elbo,
:math:`-\mathbb E_{q(z|x)}[\log p(x|z) + \log p(z) - \log q(z|x)]`. A posterior by a flow draws :math:`z_0` from a Gaussian and
maps it by f, whose parameters the encoder gives: :math:`\log q(z|x) = \log q(z_0|x) - \log|\det \partial f/\partial z_0|`.
A prior by a flow maps a standard normal.

Source: planar, Rezende & Mohamed 2015, section 4.2; iaf, Kingma et al. 2016, algorithm 1; householder, Tomczak & Welling 2016,
section 3; sylvester, van den Berg et al. 2018, section 4. Priors: real_nvp, Dinh et al. 2017, as in Chen et al. 2017, section 3.2;
spline, Durkan et al. 2019, section 3.
Command: ``python experiments/run.py --model=flow_vae``
Result: digits, test: elbo -98.4, log-likelihood -90.5 (K = 100; ``vae``: -99.7).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vaex.configuration import option, options
from vaex.core import Batch, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import gaussian, latent
from vaex.models.gaussian import HParams
from vaex.models.latent import Components, Terms
from vaex.models.priors import _flows as flow_parts
from vaex.plots.records import Grid, Scatter

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**gaussian.TINY, "flow_hidden": (4,), "posterior_layers": 1, "prior_layers": 1}
SAMPLES = 8  # in the figure of the prior


@options
class Config(gaussian.PosteriorConfig):
    """Options of the flow VAE."""

    posterior_flow: Literal["none", "iaf", "householder", "sylvester", "planar"] = option(
        "iaf", doc="Flow that the Gaussian posterior passes through, with parameters from the encoder."
    )
    posterior_layers: int = option(
        4,
        low=1,
        doc="Number of layers of posterior_flow; for householder, of reflections.",
        needs={"posterior_flow": ("iaf", "householder", "sylvester", "planar")},
    )
    prior_flow: Literal["none", "real_nvp", "spline"] = option(
        "real_nvp", doc="Flow that the standard normal prior passes through."
    )
    prior_layers: int = option(
        6, low=1, doc="Number of layers of prior_flow.", needs={"prior_flow": ("real_nvp", "spline")}
    )
    flow_hidden: tuple[int, ...] = option(
        (64,),
        low=1,
        doc="Widths of the networks in iaf, real_nvp and spline layers.",
        needs=({"posterior_flow": ("iaf",)}, {"prior_flow": ("real_nvp", "spline")}),
    )
    sylvester_units: int = option(
        4, low=1, doc="Number of directions that a sylvester layer bends.", needs={"posterior_flow": ("sylvester",)}
    )

    def check(self) -> None:
        super().check()
        text = "x".join(map(str, self.flow_hidden))
        if any(width < 1 for width in self.flow_hidden):
            raise UserError(f"--flow_hidden={text}: expected positive widths, such as 64x64")
        if self.posterior_flow == "iaf" and min(self.flow_hidden, default=self.latent_dim) < self.latent_dim:
            raise UserError(
                f"--flow_hidden={text}: --posterior_flow=iaf needs widths of at least --latent_dim={self.latent_dim}, so "
                "that each latent may depend on all before it"
            )
        if self.posterior_flow == "sylvester" and self.sylvester_units > self.latent_dim:
            raise UserError(
                f"--sylvester_units={self.sylvester_units}: expected at most --latent_dim={self.latent_dim}"
            )
        if self.prior_flow != "none" and self.latent_dim < 2:
            raise UserError(f"--prior_flow={self.prior_flow} needs --latent_dim of at least 2, or --prior_flow=none")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the flow VAE for data of this spec."""
    d, hidden = config.latent_dim, config.flow_hidden
    posterior, prior = gaussian.gaussian_posterior(config.posterior, d), latent.standard_prior(d)
    figures = {}
    if config.posterior_flow != "none":
        flow = flow_parts.posterior_chain(
            config.posterior_flow, d, config.posterior_layers, hidden, config.sylvester_units
        )
        posterior = flow_parts.flow_posterior(posterior, flow)
        figures["posterior_flow"] = lambda *args: draw_posterior(components, *args)
    if config.prior_flow != "none":
        prior = flow_parts.flow_prior(flow_parts.prior_chain(config.prior_flow, d, config.prior_layers, hidden))
        figures["prior_flow"] = lambda *args: draw_prior(components, *args)
    components = latent.build_components(config, spec, posterior, prior)
    return gaussian.monte_carlo_recipe(config, components, diagnostics, figures)


def diagnostics(terms: Terms) -> dict[str, jax.Array]:
    """The KL's two parts, [b] in nats: how well the prior predicts the latents, and how spread the posterior is."""
    cross_entropy = -jnp.mean(terms.prior.log_prob(terms.z), axis=0)
    return {"prior_cross_entropy": cross_entropy, "posterior_entropy": cross_entropy - terms.kl}


def draw_posterior(
    components: Components, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch
) -> list[Scatter]:
    """Draws of one example's posterior before and after its flow, in the two latents that depend most on each other."""
    posterior = components.posterior(variables.params["vae"], hparams, {"x": batch["x"][:1]})
    start = posterior.base.sample(key, (1000,))
    points = {"before": start[:, 0], "after": posterior.flow.forward(posterior.params, start)[0][:, 0]}
    d = start.shape[-1]
    if d == 1:
        pair = np.array([0, 0])
    else:
        dependence = np.abs(np.corrcoef(np.asarray(points["after"]).T)) * (1.0 - np.eye(d))
        pair = np.array(np.unravel_index(np.argmax(dependence), (d, d)))
    title = "One posterior {} its flow"
    return [Scatter(z[:, pair], None, f"z{pair[0]}", f"z{pair[1]}", title.format(name)) for name, z in points.items()]


def draw_prior(components: Components, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
    """Samples of the prior on their way through its flow: a column for each layer, the first one before all."""
    params = variables.params["vae"]
    prior = components.prior(params, hparams)
    ways = [prior.base.sample(key, (SAMPLES,))]
    for flow, params_of_flow in zip(prior.flow.flows, prior.params, strict=True):
        ways.append(flow.forward(params_of_flow, ways[-1])[0])
    images = components.decode(params, hparams, jnp.stack(ways, axis=1), batch).mean
    columns = tuple(str(layer) for layer in range(len(ways)))
    return Grid(images, (), columns, "Samples of the prior after so many layers of its flow")
