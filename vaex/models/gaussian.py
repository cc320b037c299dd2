"""The shared builder: an encoder, a Gaussian posterior, a standard normal prior, a decoder. Variants add a penalty."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from vaex import bounds, distributions, divergences, nets
from vaex.core import Batch, LikelihoodFacts, Model, Outcome, PyTree, Recipe, Stage, Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.schedules import Schedule
from vaex.training import algorithm


@dataclass(frozen=True)
class Networked:
    """Static choices of every model made of an encoder, a decoder and a likelihood.

    Attributes:
      latent_dim: number of latent variables.
      network: mlp for any data, conv for images of at least 8x8.
      hidden: widths of the MLP's hidden layers, such as 500x500; of the dense layer for conv, its first number.
      channels: channels of the convolutional stages, each halving the image, as far as its size allows.
      activation: relu, tanh, gelu, silu, elu, softplus, leaky_relu or sigmoid.
      likelihood: distribution of x given z; auto chooses by the data.
      likelihood_scale: scale of gaussian, laplace and discretized_logistic: one learned number, sigma, or per pixel.
      optimizer: adam, adamax, adabelief, amsgrad, lion, momentum, nadam, radam, rmsprop or sgd.
      clip: set where clip_norm is finite.
      average: set where average_decay is above 0.
    """

    latent_dim: int = 10
    network: Literal["mlp", "conv"] = "mlp"
    hidden: tuple[int, ...] = (256, 256)
    channels: tuple[int, ...] = (32, 32, 64, 64)
    activation: str = "relu"
    likelihood: likelihoods.Name = "auto"
    likelihood_scale: likelihoods.ScaleName = "global"
    optimizer: str = "adam"
    clip: bool = False
    average: bool = False

    def __post_init__(self) -> None:
        if self.latent_dim < 1:
            raise UserError(f"--latent_dim={self.latent_dim}: expected at least 1")
        for name in ("hidden", "channels"):
            if any(width < 1 for width in getattr(self, name)):
                raise UserError(
                    f"--{name}={'x'.join(map(str, getattr(self, name)))}: expected positive widths, such as 500x500"
                )
        if self.network == "conv" and not (self.channels and self.hidden):
            raise UserError("--network=conv needs at least one width in --channels and in --hidden")
        nets.activation_function(self.activation)
        algorithm.check_optimizer(self.optimizer)


@dataclass(frozen=True)
class Config(Networked):
    """What changes shapes or control flow; static.

    Attributes:
      posterior: Gaussian with a diagonal or full covariance, or of a fixed variance (posterior_scale).
      kl: closed form, or estimated from the samples that the decoder sees.
      num_samples: posterior samples per example in training.
    """

    posterior: Literal["diagonal", "full", "fixed"] = "diagonal"
    kl: Literal["closed_form", "monte_carlo"] = "closed_form"
    num_samples: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_samples < 1:
            raise UserError(f"--num_samples={self.num_samples}: expected at least 1")


TINY: dict[str, Any] = {"latent_dim": 2, "hidden": (16,), "channels": (4, 4)}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HParams(algorithm.HParams):
    """What scales something; traced.

    Attributes:
      sigma: standard deviation (scale) of the likelihood where likelihood_scale is fixed.
      posterior_scale: standard deviation of the posterior where it is fixed.
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {"sigma": (1e-6, math.inf), "posterior_scale": (1e-6, math.inf)}

    sigma: Schedule | float = 1.0
    posterior_scale: Schedule | float = 1.0


class Terms(NamedTuple):
    """What a penalty may look at: ``log_px`` [b] and ``kl`` [b] in nats, the posterior, and the samples ``z`` [k, b, d]."""

    log_px: jax.Array
    kl: jax.Array
    posterior: Any
    z: jax.Array


Penalty = Callable[[Any, Terms], jax.Array]


class Networks(NamedTuple):
    """Encoder and decoder of one config as pure functions of a parameter tree."""

    init: Callable[[jax.Array, Batch], PyTree]
    encode: Callable[[PyTree, jax.Array], jax.Array]
    decode: Callable[[PyTree, jax.Array, Any], Any]


def networks(config: Networked, spec: Spec, features: int, likelihood: likelihoods.Likelihood) -> Networks:
    """Networks for data of this spec: x [b, *shape] -> [b, features], and z [..., d] -> a distribution over x.

    Raises: UserError where the convolutional network does not fit the data.
    """
    if config.network == "conv" and (len(spec.shape) != 3 or min(spec.shape[:2]) < 8):
        raise UserError(
            f"--network=conv needs images of at least 8x8, but {spec.name} has examples of shape {spec.shape}; use --network=mlp"
        )
    size = math.prod(spec.shape) * likelihood.channels
    if config.network == "mlp":
        encoder = nets.MLP(config.hidden, features, config.activation, event_ndims=len(spec.shape))
        decoder = nets.MLP(config.hidden[::-1], size, config.activation)
    else:
        height, width, channels = spec.shape
        encoder = nets.ConvEncoder(features, config.channels, config.hidden[0], config.activation)
        shape = (height, width, channels * likelihood.channels)
        decoder = nets.ConvDecoder(shape, config.channels, config.hidden[0], config.activation)

    def init(key: jax.Array, batch: Batch) -> PyTree:
        encoder_key, decoder_key = jax.random.split(key)
        z = jnp.zeros((1, config.latent_dim))
        return {
            "encoder": encoder.init(encoder_key, batch["x"][:1])["params"],
            "decoder": decoder.init(decoder_key, z)["params"],
            "likelihood": likelihood.init(),
        }

    def encode(params: PyTree, x: jax.Array) -> jax.Array:
        if x.shape[1:] != spec.shape:
            raise ValueError(f"encode: x has shape {x.shape}, expected [b, {', '.join(map(str, spec.shape))}]")
        # the module is built for any leading axes; pyright can't see Linen's apply
        return encoder.apply({"params": params["encoder"]}, x)  # pyright: ignore[reportReturnType]

    def decode(params: PyTree, z: jax.Array, sigma: jax.Array) -> Any:
        flat: Any = decoder.apply({"params": params["decoder"]}, z.reshape(-1, z.shape[-1]))
        raw = flat.reshape(*z.shape[:-1], *spec.shape, likelihood.channels)
        return likelihood.distribution(raw, params["likelihood"], sigma)

    return Networks(init, encode, decode)


def posterior_features(config: Config) -> int:
    """How many numbers the encoder gives for the posterior of this config."""
    d = config.latent_dim
    return {"diagonal": 2 * d, "full": 2 * d + d * (d - 1) // 2, "fixed": d}[config.posterior]


def posterior_of(config: Config, raw: jax.Array, hparams: Any) -> Any:
    """The posterior from the encoder's raw output [b, features]."""
    d = config.latent_dim
    mean = raw[..., :d]
    if config.posterior == "fixed":
        return distributions.Normal(mean, jnp.broadcast_to(jnp.log(hparams.posterior_scale), mean.shape))
    log_scale = likelihoods.bounded(raw[..., d : 2 * d])
    if config.posterior == "diagonal":
        return distributions.Normal(mean, log_scale)
    rows, columns = jnp.tril_indices(d, -1)
    scale_tril = jnp.zeros((*mean.shape, d)).at[..., rows, columns].set(raw[..., 2 * d :])
    return distributions.MultivariateNormal(mean, scale_tril + jnp.exp(log_scale)[..., None] * jnp.eye(d))


def standard_prior(latent_dim: int) -> distributions.Normal:
    """N(0, I) over ``latent_dim`` latents."""
    return distributions.Normal(jnp.zeros(latent_dim), jnp.zeros(latent_dim))


def gaussian_vae(config: Config, spec: Spec, penalty: Penalty) -> tuple[Model, likelihoods.Likelihood]:
    """A VAE whose loss is ``mean(-log p(x|z) + penalty(hparams, terms))``; the penalty of a plain VAE is ``terms.kl``.

    Returns: the model, and its likelihood for reports.
    """
    likelihood = likelihoods.build(config.likelihood, spec, scale=config.likelihood_scale)
    net = networks(config, spec, posterior_features(config), likelihood)
    prior = standard_prior(config.latent_dim)

    def init(key: jax.Array, batch: Batch) -> Variables:
        return Variables({"vae": net.init(key, batch)})

    def encode(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> Any:
        return posterior_of(config, net.encode(variables.params["vae"], batch["x"]), hparams)

    def decode(variables: Variables, hparams: Any, z: jax.Array, batch: Batch) -> Any:
        return net.decode(variables.params["vae"], z, hparams.sigma)

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        posterior = encode(key, variables, hparams, batch)
        z = posterior.sample(key, (config.num_samples,))
        if config.num_samples == 1:  # without a leading axis of one, which XLA's CPU compiler can't divide over cores
            log_px = decode(variables, hparams, z[0], batch).log_prob(batch["x"])
        else:
            log_px = jnp.mean(decode(variables, hparams, z, batch).log_prob(batch["x"]), axis=0)
        if config.kl == "closed_form":
            kl = divergences.kl(posterior, prior)
        else:
            kl = jnp.mean(posterior.log_prob(z) - prior.log_prob(z), axis=0)
        terms = Terms(log_px, kl, posterior, z)
        loss = jnp.mean(-log_px + penalty(hparams, terms))
        if not likelihood.density:
            return Outcome({"vae": loss}, variables.state, {"cross_entropy": -log_px, "kl": kl})
        metrics = {"elbo": bounds.elbo(log_px, kl), "reconstruction": -log_px, "kl": kl}
        return Outcome({"vae": loss}, variables.state, metrics)

    def log_weights(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, num_samples: int) -> jax.Array:
        posterior = encode(key, variables, hparams, batch)
        z = posterior.sample(key, (num_samples,))
        log_px = decode(variables, hparams, z, batch).log_prob(batch["x"])
        return log_px + prior.log_prob(z) - posterior.log_prob(z)

    def sample(key: jax.Array, variables: Variables, hparams: Any, n: int, condition: Any = None) -> Any:
        return decode(variables, hparams, prior.sample(key, (n,)), {})

    weights = log_weights if likelihood.density else None
    return Model(init, objective, encode, decode, weights, sample), likelihood


def single_stage(
    model: Model,
    config: Any,
    hparams: Any,
    likelihood: likelihoods.Likelihood,
    figures: Mapping[str, Callable] | None = None,
) -> Recipe:
    """The recipe of a model that is trained in one run by gradients.

    Args:
      model: its functions become the recipe's.
      config: gives ``optimizer``, ``clip`` and ``average``.
      hparams: default hyperparameters.
      likelihood: for reports.
      figures: the model's own pictures.
    """
    stepper = algorithm.gradient_algorithm(model, optimizer=config.optimizer, clip=config.clip, average=config.average)
    facts = LikelihoodFacts(likelihood.title, likelihood.discrete)
    stage = Stage("model", model, stepper, hparams)
    return Recipe((stage,), model.encode, model.decode, model.log_weights, model.sample, facts, dict(figures or {}))


def recipe(config: Config, spec: Spec, hparams: Any, penalty: Penalty) -> Recipe:
    """The recipe of a Gaussian VAE with this penalty: all that most variants need."""
    model, likelihood = gaussian_vae(config, spec, penalty)
    return single_stage(model, config, hparams, likelihood)
