r"""Adversarial autoencoder: a discriminator of codes and prior samples instead of a KL divergence.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) - \lambda\,\mathbb E_{q(z|x)}\log\sigma(D(z))`. The
discriminator D, a parameter group of its own, learns to tell prior samples :math:`\bar z` from codes z:
:math:`-\tfrac12[\log\sigma(D(\bar z)) + \log(1-\sigma(D(z)))]`. The encoder's loss is the one that does not saturate. The encoder
is deterministic, or outputs a Gaussian. Unlike in the paper, reconstruction and regularisation share one update. A deterministic
encoder leaves no bound on log p(x).

Source: Makhzani et al. 2015, Adversarial autoencoders, section 2.
Command: ``python experiments/run.py --model=adversarial_autoencoder``
Result: digits, test, 200 images, three seeds: reconstruction 75.5 to 85.2 nats, the discriminator is right 48% to 78% of the time;
``--posterior=gaussian``: 75.5 to 83.0, log-likelihood -124.3 to -139.9 (K = 100). Seeds differ more than in a VAE.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from vaex import distributions, nets
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, InitKey, Outcome, PyTree, Recipe, StepKey, Variables
from vaex.data.spec import Spec
from vaex.models import gaussian, latent, networks
from vaex.models.adversarial._losses import losses
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**networks.TINY, "discriminator_hidden": (8,)}


@options
class Config(networks.NetworkConfig):
    """Options of an autoencoder, the kind of its encoder, and the discriminator."""

    posterior: Literal["deterministic", "gaussian"] = option(
        "deterministic", doc="Posterior: deterministic (a point) or gaussian (with a diagonal covariance)."
    )
    discriminator_hidden: tuple[int, ...] = option(
        (256, 256), low=1, doc="Widths of the discriminator's hidden layers (leaky ReLU)."
    )


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of an autoencoder with a likelihood, and of the discriminator."""

    adversarial_weight: Scalar = hparam(10.0, low=0.0, doc="Weight of the encoder's loss against the discriminator.")
    discriminator_learning_rate: Scalar = hparam(0.001, low=0.0, doc="Step size of the discriminator's optimizer.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of an autoencoder and a discriminator, each trained on a loss of its own."""
    point = latent.Posterior(config.latent_dim, lambda params, hparams, raw: distributions.Delta(raw), density=False)
    with_noise = config.posterior == "gaussian"
    posterior = gaussian.gaussian_posterior("diagonal", config.latent_dim) if with_noise else point
    components = latent.build_components(config, spec, posterior, latent.standard_prior(config.latent_dim))
    discriminator = nets.MLP(config.discriminator_hidden, 1, "leaky_relu")

    def init(key: jax.Array, batch: Batch) -> Variables:
        code = jnp.zeros((1, config.latent_dim))
        params = discriminator.init(jax.random.fold_in(key, InitKey.AUXILIARY), code)["params"]
        return Variables({"vae": components.init(key, batch), "discriminator": params})

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params = variables.params["vae"]

        def log_odds(z: jax.Array) -> jax.Array:  # D(z), of coming from the prior
            logits: Any = discriminator.apply({"params": variables.params["discriminator"]}, z)
            return logits[..., 0]

        z = components.posterior(params, hparams, batch).sample(key)
        drawn = components.prior(params, hparams).sample(jax.random.fold_in(key, StepKey.PENALTY), (len(z),))
        reconstruction = -components.decode(params, hparams, z, batch).log_prob(batch["x"])
        adversarial = losses(log_odds(drawn), log_odds(z))
        by_group = {
            "vae": jnp.mean(reconstruction + hparams.adversarial_weight * adversarial.generator),
            "discriminator": jnp.mean(adversarial.discriminator),
        }
        metrics = {"reconstruction": reconstruction, "adversarial": adversarial.generator}
        metrics["discriminator_accuracy"] = adversarial.accuracy
        return Outcome(by_group, variables.state, metrics)

    model = latent.model(components, objective)._replace(init=init)
    return latent.single_stage(model, config, components.likelihood)
