"""Model of two stages: a VAE, then a Gaussian fitted to its codes, which are drawn afresh in every step."""

import jax.numpy as jnp

from vaex import distributions
from vaex.configuration import hparam, hyperparameters
from vaex.core import Model, Outcome, Recipe, Variables
from vaex.models import gaussian, latent
from vaex.models.networks import TINY
from vaex.schedules import Scalar

Config = gaussian.Config
DEFAULTS = {"steps": 30, "batch_size": 20, "prior_steps": 20}
__all__ = ["DEFAULTS", "TINY", "Config", "HParams", "build"]


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of both stages."""

    prior_learning_rate: Scalar = hparam(0.05, doc="Step size of the optimizer in the second stage.")


def build(config, spec):
    components = gaussian.build_components(config, spec)
    first = latent.model(components, latent.negative_elbo(components, lambda hparams, terms: terms.kl))

    def init(key, batch):
        return Variables({"prior": {"mean": jnp.zeros(config.latent_dim), "log_scale": jnp.zeros(config.latent_dim)}})

    def prior(variables):
        params = variables.params["prior"]
        return distributions.Normal(params["mean"], log_scale=params["log_scale"])

    def encode(key, variables, hparams, batch):
        return components.posterior(variables.state["vae"], hparams, batch)

    def decode(variables, hparams, z, batch):
        return components.decode(variables.state["vae"], hparams, z, batch)

    def objective(key, variables, hparams, batch, *, train):
        z = encode(key, variables, hparams, batch).sample(key)
        cross_entropy = -prior(variables).log_prob(z)
        return Outcome({"prior": jnp.mean(cross_entropy)}, variables.state, {"code_cross_entropy": cross_entropy})

    def log_weights(key, variables, hparams, batch, num_samples):
        posterior = encode(key, variables, hparams, batch)
        z = posterior.sample(key, (num_samples,))
        log_px = decode(variables, hparams, z, batch).log_prob(batch["x"])
        return log_px + prior(variables).log_prob(z) - posterior.log_prob(z)

    def sample(key, variables, hparams, n, condition=None):
        return decode(variables, hparams, prior(variables).sample(key, (n,)), {})

    second = Model(init, objective, encode, decode, log_weights, sample)
    stages = latent.stage("model", first, config), latent.stage("prior", second, config, trained_vae)
    return Recipe(stages, components.likelihood.summary)


def trained_vae(finished):
    return {"vae": finished["model"].params["vae"]}
