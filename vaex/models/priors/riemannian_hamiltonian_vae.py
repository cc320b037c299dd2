r"""Riemannian Hamiltonian VAE: a learned metric of latent space shapes the posterior's flow, samples and shortest ways.

Objective, in nats per example: the negative elbo of z and a momentum,
:math:`-\mathbb E[\log p(x, z_K) + \log N(\rho_K; 0, G(z_K)) - \log q(z_0|x) - \log N(\gamma; 0, I) + \tfrac12\log\det G(z_0)]`,
as of ``hamiltonian_vae``, but with :math:`\rho_0 = G(z_0)^{1/2}\gamma/\sqrt{\beta_0}` and generalized leapfrog steps, which keep
volume as far as their implicit equations are solved. :math:`G(z)^{-1} = \sum_i L_i L_i^\top e^{-|z - c_i|^2/T^2} + \lambda I`:
:math:`c_i` are codes of examples kept from the first batch and :math:`L_i` outputs of a network. Samples are decoded from draws
with a density proportional to :math:`p(z)\det G(z)^{-1/2}`, which is large near codes, or with ``--samples_from=prior`` to p(z).

Source: Chadebec, Mantoux & Allassonnière 2020, Geometry-aware Hamiltonian variational auto-encoder, sections 3 and 4.
Command: ``python experiments/run.py --model=riemannian_hamiltonian_vae --latent_dim=2 --steps=1000``
Result: digits, test: elbo -96.4, log-likelihood -94.6 (K = 100).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, Latents, Metrics, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.models.priors import _geodesics as geodesics
from vaex.models.priors import _riemannian as riemannian
from vaex.models.priors import hamiltonian_vae, vamp_vae
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**gaussian.TINY, "leapfrog_steps": 1, "centroids": 4, "transitions": 2}


@options
class Config(hamiltonian_vae.Config):
    """Options of the Hamiltonian VAE, and of its metric."""

    centroids: int = option(100, low=2, doc="Examples whose codes are the centroids of the metric.")
    samples_from: Literal["metric", "prior"] = option(
        "metric", doc="Codes of samples: near the centroids, or of the prior."
    )
    transitions: int = option(50, low=1, doc="Transitions of the Markov chain of each sample from the metric.")


@hyperparameters
class HParams(hamiltonian_vae.HParams):
    """Hyperparameters of the Hamiltonian VAE, and of its metric."""

    metric_temperature: Scalar = hparam(1.0, low=1e-06, doc="Length T over which a centroid shapes the metric.")
    metric_regularization: Scalar = hparam(0.01, low=1e-06, doc="Inverse of the metric far from all centroids, lambda.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the Riemannian Hamiltonian VAE for data of this spec."""
    d = config.latent_dim
    start = gaussian.gaussian_posterior(config.posterior, d)
    posterior = riemannian.riemannian_posterior(start, config, spec, config.leapfrog_steps)
    components = latent.build_components(config, spec, posterior, latent.standard_prior(d))

    def params_of(variables: Variables) -> PyTree:
        params = variables.params["vae"]
        return params | {"posterior": params["posterior"] | {"references": variables.state}}

    def penalty(hparams: PyTree, terms: latent.Terms) -> tuple[jax.Array, Metrics]:
        volume = jnp.mean(terms.posterior.metric.log_volume(terms.z), axis=0)
        return terms.kl, hamiltonian_vae.diagnostics(terms) | {"log_volume": volume}

    def init(key: jax.Array, batch: Batch) -> Variables:
        kept = vamp_vae.starts(key, batch["x"], config.centroids, "examples")
        return Variables({"vae": components.init(key, batch)}, kept)

    def encode(variables: Variables, hparams: PyTree, x: jax.Array) -> riemannian.RiemannianPosterior:
        return components.posterior(params_of(variables), hparams, {"x": x})

    objective = latent.negative_elbo(
        components, penalty, num_samples=config.num_samples, closed_form=False, params_of=params_of
    )
    model = latent.model(components, objective, params_of=params_of)._replace(init=init)
    if config.samples_from == "metric":
        model = model._replace(sample=riemannian.samples_near_data(components, encode, params_of, config.transitions))
    figures = geodesics.figures(encode, model.decode, d)
    return latent.single_stage(model, config, components.likelihood, figures, (Latents("free", d),))
