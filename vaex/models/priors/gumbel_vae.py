r"""Gumbel-softmax VAE: all latents are categorical, and gradients pass through relaxed samples of them.

Objective, in nats per example: :math:`-\mathbb E\log p(x|\mathrm{softmax}((l(x) + g)/\tau)) + \mathrm{KL}(q(c|x)\,\|\,p(c))`, with
Gumbel noise g, a temperature :math:`\tau` that falls, a uniform p(c) and the KL exact; with ``--kl=relaxed`` it is instead the
relaxed samples' own, between Concrete densities. Neither bounds log p(x) of the discrete model, so training reports it as
``relaxed_elbo``, except where ``--straight_through`` shows the decoder one-hot vectors; the elbo and the log-likelihood of the
evaluation are of the discrete model, from exact samples.

Source: Jang, Gu & Poole 2017, section 3; Maddison, Mnih & Teh 2017, eq. 20 and appendix C.3 (relaxed).
Command: ``python experiments/run.py --model=gumbel_vae``
Result: digits, test: elbo -96.5, log-likelihood -84.6 (K = 100); 18 of 20 variables active, 9.8 classes of each in use.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import latent, networks
from vaex.models.priors import _categorical
from vaex.plots.records import Grid
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**networks.TINY, "classes": 3}
SHOWN = 10  # examples in the figure


@options
class Config(_categorical.Config):
    """Options of the Gumbel-softmax VAE."""

    latent_dim: int = option(20, low=1, doc="Number of categorical variables.")
    kl: Literal["exact", "relaxed"] = option(
        "exact",
        doc="KL divergence: exact, of the categorical variables; or relaxed, estimated from the relaxed samples "
        "and their Concrete densities.",
    )


@hyperparameters
class HParams(_categorical.HParams):
    """Hyperparameters of the Gumbel-softmax VAE."""

    prior_temperature: Scalar = hparam(
        0.5, low=0.01, doc="Temperature of the prior's density where kl is relaxed.", needs={"kl": ("relaxed",)}
    )


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the Gumbel-softmax VAE for data of this spec."""
    components, blocks = _categorical.build_components(config, spec, config.latent_dim, config.classes)

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params = variables.params["vae"]
        terms = _categorical.draw_terms(
            key, components, params, hparams, batch, train=train, hard=config.straight_through
        )
        kl = terms.categorical_kl
        if config.kl == "relaxed" and train:
            kl, terms = relaxed_kl(terms, hparams), terms._replace(exact=False)
        return Outcome({"vae": jnp.mean(kl - terms.log_px)}, variables.state, terms.metrics(components.likelihood, kl))

    figures = {"codes": lambda *args: draw_codes(components, *args)}
    return latent.single_stage(latent.model(components, objective), config, components.likelihood, figures, blocks)


def relaxed_kl(terms: _categorical.Terms, hparams: PyTree) -> jax.Array:
    """log q - log p of the relaxed samples, [b]; in logarithms, where nothing rounds to 0."""
    assert terms.logs is not None  # a relaxed KL is only asked for of relaxed samples
    q = distributions.LogRelaxedOneHot(terms.posterior.logits, hparams.temperature, event_ndims=2)
    p = distributions.LogRelaxedOneHot(terms.prior.logits, hparams.prior_temperature, event_ndims=2)
    return q.log_prob(terms.logs) - p.log_prob(terms.logs)


def draw_codes(
    components: _categorical.Components, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch
) -> Grid:
    """The class probabilities of some examples as images: a row of pixels for each variable, a column for each class."""
    shares = components.posterior(variables.params["vae"], hparams, {"x": batch["x"][:SHOWN]}).categorical.probabilities
    names = tuple(str(label) for label in batch["y"][:SHOWN]) if "y" in batch and batch["y"].ndim == 1 else ()
    return Grid(shares[None, ..., None], (), names, "Codes of some examples: variables down, classes across")
