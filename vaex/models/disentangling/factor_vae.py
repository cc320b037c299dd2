r"""FactorVAE: a penalty on the total correlation of the aggregate posterior, as a critic estimates it.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + \mathrm{KL}(q(z|x)\,\|\,p(z)) + \gamma\,D(z)`. The critic
D, a parameter group of its own, learns to tell latents z from latents :math:`\bar z` of which each dimension was permuted over the
batch: :math:`-\tfrac12[\log\sigma(D(z)) + \log(1-\sigma(D(\bar z)))]`. D(z) then is the log density ratio, and its mean the total
correlation. Unlike in the paper, the permuted latents are those of the batch itself: a second minibatch has the same expectation
and costs as much again.

Source: Kim & Mnih 2018, Disentangling by factorising, eq. 2-3 and algorithm 2.
Command: ``python experiments/run.py --model=factor_vae``
Result: digits, test, 200 images: elbo -95.1, log-likelihood -87.5 (K = 100), KL 14.0; the critic is right 57% of the time and
estimates a total correlation of 0.06 nats.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vaex import divergences, nets
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, InitKey, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**gaussian.TINY, "critic_hidden": (8,)}


@options
class Config(gaussian.Config):
    """Options of a Gaussian VAE, and of the critic."""

    critic_hidden: tuple[int, ...] = option(
        (256, 256, 256), low=1, doc="Widths of the critic's hidden layers (leaky ReLU)."
    )


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of a Gaussian VAE, the weight of the total correlation, and the critic's learning rate."""

    gamma: Scalar = hparam(10.0, low=0.0, doc="Weight of the total correlation.")
    critic_learning_rate: Scalar = hparam(0.001, low=0.0, doc="Step size of the critic's optimizer.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a Gaussian VAE and a critic, each trained on a loss of its own."""
    components = gaussian.build_components(config, spec)
    critic = nets.MLP(config.critic_hidden, 1, "leaky_relu")

    def init(key: jax.Array, batch: Batch) -> Variables:
        params = critic.init(jax.random.fold_in(key, InitKey.AUXILIARY), jnp.zeros((1, config.latent_dim)))["params"]
        return Variables({"vae": components.init(key, batch), "critic": params})

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params, closed_form = variables.params, config.kl == "closed_form"
        terms = latent.draw_terms(
            key, components, params["vae"], hparams, batch, num_samples=config.num_samples, closed_form=closed_form
        )

        def log_ratio(z: jax.Array) -> jax.Array:  # D(z)
            logits: Any = critic.apply({"params": params["critic"]}, z)
            return logits[..., 0]

        def per_example(values: jax.Array) -> jax.Array:
            return jnp.mean(values.reshape(config.num_samples, -1), axis=0)

        z = terms.z.reshape(-1, config.latent_dim)
        total_correlation = per_example(divergences.density_ratio_total_correlation(log_ratio(z)))
        # without stop_gradient the critic's loss would still not reach the encoder, but its gradient would be computed
        fixed = jax.lax.stop_gradient(z)
        joint, permuted = log_ratio(fixed), log_ratio(divergences.permute_latents(terms.key, fixed))
        losses = {
            "vae": jnp.mean(-terms.log_px + terms.kl + hparams.gamma * total_correlation),
            "critic": jnp.mean(divergences.density_ratio_loss(joint, permuted)),
        }
        metrics = latent.metrics(components.likelihood, terms.log_px, terms.kl) | {
            "total_correlation": total_correlation,
            "critic_accuracy": 0.5 * jnp.mean(joint > 0) + 0.5 * jnp.mean(permuted < 0),
        }
        return Outcome(losses, variables.state, metrics)

    model = latent.model(components, objective)._replace(init=init)
    return latent.single_stage(latent.refuse_single_examples(model), config, components.likelihood)
