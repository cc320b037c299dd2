r"""VAE-GAN: a VAE that compares examples in the features of a discriminator, which is trained against its decoder.

With f(x) the discriminator's last hidden layer, D(x) its log odds that x is an example, :math:`\tilde x` and :math:`\bar x` means
of p(x|z) at a posterior and a prior sample, :math:`E=\tfrac12|f(x)-f(\tilde x)|^2`: encoder :math:`E+\beta\,\mathrm{KL}(q\|p)`;
decoder :math:`\gamma E-\tfrac12\log\sigma(D(\tilde x))\sigma(D(\bar x))` (it does not saturate as the paper's) and, for the scale
alone, :math:`-\log p(x|z)`; discriminator :math:`-\tfrac12\log\sigma(D(x))-\tfrac14\log\sigma(-D(\tilde x))\sigma(-D(\bar x))
+\tfrac\lambda2|\nabla_xD(x)|^2` (R1).

Bounded means and RMSProp are the paper's (with Adam the three chase one another); in place of R1 it normalises over batches.

Source: Larsen et al. 2016, Autoencoding beyond pixels using a learned similarity metric, eqs. 5-8 and algorithm 1.
Command: ``python experiments/run.py --model=vae_gan``
Result: digits, test, three seeds: error in features 0.18 to 0.21, KL 6.1 to 7.7, the discriminator is right 69% to 76% of the time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex.configuration import hparam, hyperparameters, option, options
from vaex.configuration.declare import with_default
from vaex.core import Batch, InitKey, Outcome, PyTree, Recipe, StepKey, Variables
from vaex.data.spec import Spec
from vaex.models import compared_means, gaussian, latent, likelihoods, networks
from vaex.models.adversarial._discriminator import discriminator
from vaex.models.adversarial._losses import losses
from vaex.schedules import Scalar
from vaex.training.optimizers import Optimizer

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**networks.TINY, "discriminator_features": 8}


@options
class Config(compared_means.Config):
    """Options of a VAE, and of the discriminator, whose network is of the kind of ``network``."""

    mean: likelihoods.MeanName = with_default(networks.BaseConfig, "mean", "auto")
    optimizer: Optimizer = with_default(networks.BaseConfig, "optimizer", "rmsprop")
    discriminator_features: int = option(64, low=1, doc="Width of the discriminator's last hidden layer.")

    def unused_beside_own(self) -> tuple[str, ...]:
        return ()  # the discriminator has them


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of a VAE, and of the discriminator."""

    beta: Scalar = hparam(0.02, low=0.0, doc="Weight of the KL beside the error in features; 1 in the paper.")
    feature_weight: Scalar = hparam(10.0, low=0.0, doc="Weight of the error in features in the decoder's loss, gamma.")
    gradient_penalty: Scalar = hparam(1.0, low=0.0, doc="Weight of the squared slope of the discriminator at examples.")
    discriminator_learning_rate: Scalar = hparam(0.0003, low=0.0, doc="Step size of the discriminator's optimizer.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of encoder, decoder and discriminator, each trained on a loss of its own."""
    posterior = gaussian.gaussian_posterior("diagonal", config.latent_dim)
    components = latent.build_components(config, spec, posterior, latent.standard_prior(config.latent_dim))
    critic = discriminator(config, spec, config.discriminator_features)

    def params_of(variables: Variables) -> PyTree:
        return {"encoder": variables.params["encoder"]} | variables.params["decoder"]

    def init(key: jax.Array, batch: Batch) -> Variables:
        decoder = components.init(key, batch)
        encoder, judge = decoder.pop("encoder"), critic.init(jax.random.fold_in(key, InitKey.AUXILIARY), batch)
        return Variables({"encoder": encoder, "decoder": decoder, "discriminator": judge})

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        x, params, judge = batch["x"], params_of(variables), variables.params["discriminator"]
        terms = latent.draw_terms(key, components, params, hparams, batch)
        drawn = terms.decode(terms.prior.sample(jax.random.fold_in(key, StepKey.PENALTY), (len(x),))).mean
        real, fake, sampled = (critic.see(judge, x, means) for means in (None, terms.likelihood.mean, drawn))
        error = 0.5 * jnp.sum(jnp.square(real.features - fake.features), axis=-1)
        log_px = compared_means.log_px_of_scale(components, params, hparams, terms.z[0], batch)
        adversarial = losses(real.log_odds, fake.log_odds, sampled.log_odds)
        penalty = 0.5 * hparams.gradient_penalty * critic.squared_slope(judge, x)
        by_group = {
            "encoder": jnp.mean(error + hparams.beta * terms.kl),
            "decoder": jnp.mean(hparams.feature_weight * error + adversarial.generator - log_px),
            "discriminator": jnp.mean(adversarial.discriminator + penalty),
        }
        metrics = latent.metrics(components.likelihood, terms.log_px, terms.kl) | {"feature_error": error}
        return Outcome(by_group, variables.state, metrics | {"discriminator_accuracy": adversarial.accuracy})

    model = latent.model(components, objective, params_of=params_of)._replace(init=init)
    return latent.single_stage(model, config, components.likelihood)
