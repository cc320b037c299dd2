r"""The wake-sleep algorithm: encoder and decoder are two parameter groups, each with a loss of its own.

Objectives, in nats per example: the decoder's :math:`-\mathbb E_{q(z|x)}\log p(x|z)` (wake), the encoder's
:math:`-\mathbb E_{p(z)p(x|z)}\log q(z|x)` on dreams x of the model (sleep), as many as a batch has examples. No function falls by
both: the encoder descends the KL of q from the model's posterior, forward; the decoder descends the negative ELBO.

Source: Hinton, Dayan, Frey & Neal 1995; the rival of Kingma & Welling 2014, section 5.
Command: ``python experiments/run.py --model=wake_sleep``
Result: digits, test: elbo -88.8 +- 0.9, log-likelihood -84.2 (K = 100), KL 8.5; trained on its dreams too, it overfits 1,397 digits
less than ``vae`` in as many steps (4,000).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex.configuration import options
from vaex.core import Batch, Outcome, PyTree, Recipe, StepKey, Variables
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.models.gaussian import TINY, HParams
from vaex.ops.threefry import fold_in

__all__ = ["TINY", "Config", "HParams", "build"]


@options
class Config(gaussian.PosteriorConfig):
    """Options of a VAE with a Gaussian posterior; ``num_samples`` are those of the wake phase."""


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of an encoder that learns from dreams and a decoder that learns from data."""
    components = gaussian.build_components(config, spec)

    def params_of(variables: Variables) -> PyTree:
        return variables.params["encoder"] | variables.params["decoder"]

    def init(key: jax.Array, batch: Batch) -> Variables:
        decoder = components.init(key, batch)
        return Variables({"encoder": {"encoder": decoder.pop("encoder")}, "decoder": decoder})

    def dream_loss(key: jax.Array, params: PyTree, hparams: PyTree, batch: Batch) -> jax.Array:
        """Mean of -log q(z|x) over draws of the model; only q has a gradient."""
        z_key, x_key = jax.random.split(key)
        z = components.prior(params, hparams).sample(z_key, (batch["x"].shape[0],))
        x = jax.lax.stop_gradient(components.decode(params, hparams, z, batch).sample(x_key))
        dreams = batch | {"x": x.astype(batch["x"].dtype)}
        return -jnp.mean(components.posterior(params, hparams, dreams).log_prob(z))

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params = params_of(variables)
        terms = latent.draw_terms(key, components, params, hparams, batch, num_samples=config.num_samples)
        dreamt = dream_loss(fold_in(key, StepKey.PENALTY), params, hparams, batch)
        losses = {"encoder": dreamt, "decoder": -jnp.mean(terms.log_px)}
        elbo_terms = latent.metrics(components.likelihood, terms.log_px, terms.kl)
        return Outcome(losses, variables.state, elbo_terms | {"dream_loss": dreamt})

    model = latent.model(components, objective, params_of=params_of)._replace(init=init)
    return latent.single_stage(model, config, components.likelihood)
