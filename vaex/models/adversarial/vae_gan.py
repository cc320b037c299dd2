r"""VAE-GAN: a VAE that compares examples in the features of a discriminator, which is trained against its decoder.

With f(x) the discriminator's last hidden layer, D(x) its log odds that x is an example, :math:`\tilde x` and :math:`\bar x` means
of p(x|z) at a posterior and a prior sample, :math:`E=\tfrac12|f(x)-f(\tilde x)|^2`: encoder :math:`E+\beta\,\mathrm{KL}(q\|p)`;
decoder :math:`\gamma E-\tfrac12\log\sigma(D(\tilde x))\sigma(D(\bar x))` (it does not saturate as the paper's) and, for the scale
alone, :math:`-\log p(x|z)`; discriminator :math:`-\tfrac12\log\sigma(D(x))-\tfrac14\log\sigma(-D(\tilde x))\sigma(-D(\bar x))
+\tfrac\lambda2|\nabla_xD(x)|^2`.

As in the paper, means are bounded and the optimizer is RMSProp. The penalty (Mescheder et al. 2018, R1) is not in the paper, which
normalises over batches: without it the discriminator tells all apart, its features grow, and means of fully connected decoders
stop depending on z, or fill with speckles of which no feature tells.

Source: Larsen et al. 2016, Autoencoding beyond pixels using a learned similarity metric, eqs. 5-8 and algorithm 1.
Command: ``python experiments/run.py --model=vae_gan``
Result: digits, test, three seeds: error in features 0.18 to 0.21, KL 6.1 to 7.7, the discriminator is right 69% to 76% of the time.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, InitKey, Outcome, PyTree, Recipe, StepKey, Variables
from vaex.data.spec import Spec
from vaex.models import gaussian, latent, likelihoods, networks
from vaex.models.adversarial._losses import losses
from vaex.schedules import Scalar
from vaex.training.optimizers import Optimizer

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**networks.TINY, "discriminator_features": 8}


@options
class Config(networks.NetworkConfig):
    """Options of a VAE, and of the discriminator, whose network is of the kind of ``network``."""

    likelihood: Literal["gaussian", "laplace"] = option(
        "gaussian", doc="Likelihood, whose scale alone is trained by it."
    )
    mean: likelihoods.MeanName = option(
        "auto",
        doc="Mean of p(x|z): the decoder's output (free), its sigmoid (bounded), or that where data is in [0, 1] (auto).",
    )
    optimizer: Optimizer = option(
        "rmsprop", doc="Optimizer of all three, which have no momentum by default; with Adam's they chase one another."
    )
    likelihood_scale: Literal["global", "fixed"] = option("global", doc="Scale of the likelihood: learned, or sigma.")
    discriminator_features: int = option(64, low=1, doc="Width of the discriminator's last hidden layer.")

    def unused_beside_own(self) -> tuple[str, ...]:
        return ()  # the discriminator has them


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of a VAE, and of the discriminator."""

    beta: Scalar = hparam(
        0.02, low=0.0, doc="Weight of the KL divergence beside the error in features; 1 in the paper."
    )
    feature_weight: Scalar = hparam(10.0, low=0.0, doc="Weight of the error in features in the decoder's loss, gamma.")
    gradient_penalty: Scalar = hparam(
        1.0, low=0.0, doc="Weight of the squared gradient of the discriminator's log odds at examples, R1."
    )
    discriminator_learning_rate: Scalar = hparam(0.0003, low=0.0, doc="Step size of the discriminator's optimizer.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of encoder, decoder and discriminator, each trained on a loss of its own."""
    posterior = gaussian.gaussian_posterior("diagonal", config.latent_dim)
    components = latent.build_components(config, spec, posterior, latent.standard_prior(config.latent_dim))
    hidden = networks.encoder_module(config, spec, config.discriminator_features)

    def params_of(variables: Variables) -> PyTree:
        return {"encoder": variables.params["encoder"]} | variables.params["decoder"]

    def init(key: jax.Array, batch: Batch) -> Variables:
        decoder, hidden_key = components.init(key, batch), jax.random.fold_in(key, InitKey.AUXILIARY)
        discriminator = (
            hidden.init(hidden_key, networks.network_inputs(spec, batch["x"][:1]))["params"],
            jnp.zeros(config.discriminator_features),
        )
        return Variables({"encoder": decoder.pop("encoder"), "decoder": decoder, "discriminator": discriminator})

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        x, params, (hidden_params, output) = batch["x"], params_of(variables), variables.params["discriminator"]

        def read(values: jax.Array) -> jax.Array:  # what the discriminator sees, of fakes too only where x is observed
            return networks.network_inputs(spec, jnp.where(jnp.isnan(x), x, values) if spec.missing else values)

        def features_and_log_odds(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:  # f(x) [b, features], D(x) [b]
            features = jax.nn.leaky_relu(hidden.apply({"params": hidden_params}, inputs))
            return features, features @ output

        terms = latent.draw_terms(key, components, params, hparams, batch)
        drawn = terms.decode(terms.prior.sample(jax.random.fold_in(key, StepKey.PENALTY), (len(x),))).mean
        (real, real_odds), (fake, fake_odds) = map(features_and_log_odds, (read(x), read(terms.likelihood.mean)))
        error = 0.5 * jnp.sum(jnp.square(real - fake), axis=-1)
        fixed, z = jax.lax.stop_gradient((params, terms.z[0]))
        log_px = components.decode(fixed | {"likelihood": params["likelihood"]}, hparams, z, batch).log_prob(x)
        adversarial = losses(real_odds, fake_odds, features_and_log_odds(read(drawn))[1])
        slopes = jax.grad(lambda inputs: jnp.sum(features_and_log_odds(inputs)[1]))(read(x))
        squared_slope = jnp.sum(jnp.square(slopes), axis=tuple(range(1, slopes.ndim)))
        by_group = {
            "encoder": jnp.mean(error + hparams.beta * terms.kl),
            "decoder": jnp.mean(hparams.feature_weight * error + adversarial.generator - log_px),
            "discriminator": jnp.mean(adversarial.discriminator + 0.5 * hparams.gradient_penalty * squared_slope),
        }
        metrics = latent.metrics(components.likelihood, terms.log_px, terms.kl) | {"feature_error": error}
        return Outcome(by_group, variables.state, metrics | {"discriminator_accuracy": adversarial.accuracy})

    model = latent.model(components, objective, params_of=params_of)._replace(init=init)
    return latent.single_stage(model, config, components.likelihood)
