"""A model of two stages: a VAE, then a Gaussian fitted to its codes, which are drawn afresh in every step."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.core import LikelihoodFacts, Model, Outcome, Recipe, Stage, Variables
from vaex.models import gaussian, latent
from vaex.models.networks import TINY
from vaex.training import step as algorithm

Config = gaussian.Config
DEFAULTS = {"steps": 30, "batch_size": 20, "prior_steps": 20}
__all__ = ["DEFAULTS", "TINY", "Config", "HParams", "build"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HParams(gaussian.HParams):
    """What scales something; traced.

    Attributes:
      prior_learning_rate: of the second stage.
    """

    prior_learning_rate: float = 0.05


def build(config, spec):
    it = gaussian.gaussian_parts(config, spec)
    first = latent.model(it, latent.negative_elbo(it, lambda hparams, terms: terms.kl))

    def init(key, batch):
        return Variables({"prior": {"mean": jnp.zeros(config.latent_dim), "log_scale": jnp.zeros(config.latent_dim)}})

    def prior(variables):
        params = variables.params["prior"]
        return distributions.Normal(params["mean"], log_scale=params["log_scale"])

    def encode(key, variables, hparams, batch):
        return it.posterior(variables.state["vae"], hparams, batch)

    def decode(variables, hparams, z, batch):
        return it.decode(variables.state["vae"], hparams, z, batch)

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
    stages = (
        Stage("model", first, algorithm.gradient_algorithm(first, clip=config.clip, average=config.average), HParams()),
        Stage("prior", second, algorithm.gradient_algorithm(second), HParams(), prepare),
    )
    facts = LikelihoodFacts(it.likelihood.title, it.likelihood.discrete)
    return Recipe(stages, encode, decode, log_weights, sample, facts)


def prepare(finished):
    return {"vae": finished["model"].params["vae"]}
