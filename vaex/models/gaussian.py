"""The shared builder of most variants: a Gaussian posterior, a standard normal prior, and a penalty that the variant adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Latents, Model, Recipe
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


@options
class PosteriorConfig(NetworkConfig):
    """Static choices of every model with a Gaussian posterior, or with one that begins as such."""

    posterior: Literal["diagonal", "full", "fixed"] = option(
        "diagonal", doc="Gaussian with a diagonal or full covariance, or of a fixed variance (posterior_scale)."
    )
    num_samples: int = option(1, low=1, doc="Posterior samples per example in training.")


@options
class Config(PosteriorConfig):
    """Options of ``gaussian``."""

    kl: Literal["closed_form", "monte_carlo"] = option(
        "closed_form", doc="Closed form, or estimated from the samples that the decoder sees."
    )


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of ``gaussian``."""

    posterior_scale: Scalar = hparam(1.0, low=1e-06, doc="Standard deviation of the posterior where it is fixed.")


def gaussian_posterior(kind: Literal["diagonal", "full", "fixed"], latent_dim: int) -> Posterior:
    """A Gaussian over ``latent_dim`` latents whose mean, and scales where they are not fixed, the encoder gives."""
    d = latent_dim
    features = {"diagonal": 2 * d, "full": 2 * d + d * (d - 1) // 2, "fixed": d}[kind]

    def distribution(params: Any, hparams: Any, raw: jax.Array) -> Any:
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


def build_components(config: PosteriorConfig, spec: Spec, prior: Prior | None = None, classes: int = 0) -> Components:
    """The posterior of ``config``, this prior or else the standard normal one, its networks and its likelihood.

    With ``classes``, the networks also read labels.
    """
    posterior = gaussian_posterior(config.posterior, config.latent_dim)
    return latent.build_components(config, spec, posterior, prior or latent.standard_prior(config.latent_dim), classes)


def gaussian_vae(config: Config, spec: Spec, penalty: Penalty) -> tuple[Model, likelihoods.Likelihood]:
    """A VAE whose loss is ``mean(-log p(x|z) + penalty(hparams, terms))``; the penalty of a plain VAE is ``terms.kl``.

    Returns: the model, and its likelihood for reports.
    """
    it = build_components(config, spec)
    closed_form = config.kl == "closed_form"
    objective = latent.negative_elbo(it, penalty, num_samples=config.num_samples, closed_form=closed_form)
    return latent.model(it, objective), it.likelihood


def recipe(config: Config, spec: Spec, penalty: Penalty) -> Recipe:
    """The recipe of a Gaussian VAE with this penalty: all that most variants need."""
    model, likelihood = gaussian_vae(config, spec, penalty)
    return latent.single_stage(model, config, likelihood)


def monte_carlo_recipe(
    config: PosteriorConfig,
    it: Components,
    diagnostics: Callable[[Terms], dict[str, jax.Array]],
    figures: Mapping[str, Callable[..., Any]],
) -> Recipe:
    """The recipe of a VAE trained on the negative elbo, its KL estimated from the samples that the decoder sees.

    Args:
      config: of the model.
      it: its parts, whose prior or posterior has no KL in closed form.
      diagnostics: terms -> metrics of the model's own.
      figures: its own pictures.
    """

    def penalty(hparams: Any, terms: Terms) -> tuple[jax.Array, dict[str, jax.Array]]:
        return terms.kl, diagnostics(terms)

    objective = latent.negative_elbo(it, penalty, num_samples=config.num_samples, closed_form=False)
    blocks = (Latents("free", config.latent_dim),)
    return latent.single_stage(latent.model(it, objective), config, it.likelihood, figures, blocks)


def mixture_components_used(terms: Terms) -> dict[str, jax.Array]:
    """Effective number of components of a mixture prior in the batch: the perplexity of their mean responsibilities."""
    shares = jnp.exp(terms.prior.log_responsibilities(terms.z))
    mean = jnp.mean(shares, axis=tuple(range(shares.ndim - 1)))
    return {"components_used": perplexity(mean)}
