"""VAEs with a Gaussian posterior: the builder of most variants, which add a penalty to it, or another prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import DrawFigure, Labels, Latents, Metrics, Model, PyTree, Recipe
from vaex.data.spec import Spec
from vaex.models import latent, likelihoods
from vaex.models.latent import Components, Penalty, Posterior, Prior, Terms
from vaex.models.networks import TINY, NetworkConfig
from vaex.quantizers import perplexity
from vaex.schedules import Scalar

__all__ = [
    "TINY",
    "Config",
    "HParams",
    "PosteriorConfig",
    "Terms",
    "build_components",
    "gaussian_posterior",
    "gaussian_vae",
    "mixture_components_used",
    "monte_carlo_recipe",
    "recipe",
]

Kind = Literal["diagonal", "full", "fixed"]


@options
class PosteriorConfig(NetworkConfig):
    """Options of every model whose posterior is Gaussian, or is made from a Gaussian by a flow."""

    posterior: Kind = option(
        "diagonal",
        doc="Posterior: Gaussian with a diagonal or full covariance, or with a fixed variance (posterior_scale).",
    )
    num_samples: int = option(1, low=1, doc="Posterior samples per example in training.")


@options
class Config(PosteriorConfig):
    """Options of a VAE with a Gaussian posterior and a standard normal prior."""

    kl: Literal["closed_form", "monte_carlo"] = option(
        "closed_form",
        doc="KL divergence of posterior and prior: in closed form, or estimated from the samples that are decoded.",
    )


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of every model with a Gaussian posterior."""

    posterior_scale: Scalar = hparam(
        1.0,
        low=1e-06,
        doc="Standard deviation of the posterior where it is fixed.",
        needs={"posterior": ("fixed",)},
    )


def gaussian_posterior(kind: Kind, latent_dim: int) -> Posterior:
    """Return the Gaussian posterior over ``latent_dim`` latents whose mean, and scales unless fixed, the encoder outputs."""
    d = latent_dim
    features = {"diagonal": 2 * d, "full": 2 * d + d * (d - 1) // 2, "fixed": d}[kind]

    def distribution(params: PyTree, hparams: PyTree, raw: jax.Array) -> distributions.Distribution:
        mean = raw[..., :d]
        if kind == "fixed":
            return distributions.Normal(mean, log_scale=jnp.broadcast_to(jnp.log(hparams.posterior_scale), mean.shape))
        log_scale = likelihoods.soft_clip(raw[..., d : 2 * d])
        if kind == "diagonal":
            return distributions.Normal(mean, log_scale=log_scale)
        rows, columns = jnp.tril_indices(d, -1)
        scale_tril = jnp.zeros((*mean.shape, d)).at[..., rows, columns].set(raw[..., 2 * d :])
        return distributions.MultivariateNormal(
            mean, scale_tril=scale_tril + jnp.exp(log_scale)[..., None] * jnp.eye(d)
        )

    return Posterior(features, distribution)


def build_components(
    config: PosteriorConfig, spec: Spec, prior: Prior | None = None, reads: Labels | None = None
) -> Components:
    """Join the posterior of ``config`` with ``prior``, or else the standard normal prior; see ``latent.build_components``."""
    posterior = gaussian_posterior(config.posterior, config.latent_dim)
    return latent.build_components(config, spec, posterior, prior or latent.standard_prior(config.latent_dim), reads)


def gaussian_vae(config: Config, spec: Spec, penalty: Penalty) -> tuple[Model, likelihoods.Likelihood]:
    """Return a VAE whose loss is ``mean(-log p(x|z) + penalty)``, and its likelihood, for reports.

    The penalty of a plain VAE is ``terms.kl``.
    """
    components = build_components(config, spec)
    closed_form = config.kl == "closed_form"
    objective = latent.negative_elbo(components, penalty, num_samples=config.num_samples, closed_form=closed_form)
    return latent.model(components, objective), components.likelihood


def recipe(config: Config, spec: Spec, penalty: Penalty, *, compares_examples: bool = False) -> Recipe:
    """Return the recipe of ``gaussian_vae`` with this penalty, all that most variants need; see ``Model`` for the last argument."""
    model, likelihood = gaussian_vae(config, spec, penalty)
    return latent.single_stage(model._replace(compares_examples=compares_examples), config, likelihood)


def monte_carlo_recipe(
    config: PosteriorConfig,
    components: Components,
    diagnostics: Callable[[Terms], Metrics],
    figures: Mapping[str, DrawFigure],
) -> Recipe:
    """Return the recipe of a VAE trained on the negative ELBO, with the KL estimated from the samples that are decoded.

    Args:
      config: options of the model.
      components: whose prior or posterior has no KL in closed form.
      diagnostics: terms -> metrics of the model's own.
      figures: name -> a figure of the model's own.
    """

    def penalty(hparams: PyTree, terms: Terms) -> tuple[jax.Array, Metrics]:
        return terms.kl, diagnostics(terms)

    objective = latent.negative_elbo(components, penalty, num_samples=config.num_samples, closed_form=False)
    free = (Latents("free", config.latent_dim),)
    return latent.single_stage(latent.model(components, objective), config, components.likelihood, figures, free)


def mixture_components_used(terms: Terms) -> Metrics:
    """Return the number of components of a mixture prior that a batch uses: the perplexity of their mean responsibilities."""
    responsibilities = jnp.exp(terms.prior.log_responsibilities(terms.z))
    mean = jnp.mean(responsibilities, axis=tuple(range(responsibilities.ndim - 1)))
    return {"components_used": perplexity(mean)}
