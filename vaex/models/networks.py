"""Options that models share, and the encoder and decoder that are built from them."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import nets
from vaex.configuration import option, options
from vaex.core import Batch, PyTree
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.training.optimizers import Optimizer, check_optimizer


@options
class BaseConfig:
    """Options of every model: its likelihood and its optimizer."""

    likelihood: likelihoods.Name = option(
        "auto", doc="Distribution of x given z; auto chooses one by the kind of data."
    )
    likelihood_scale: likelihoods.ScaleName = option(
        "global",
        doc="Scale of a gaussian, laplace or discretized_logistic likelihood: one learned number (global), the hyperparameter "
        "sigma (fixed), or an output of the decoder for each pixel (per_pixel).",
    )
    optimizer: Optimizer = option(
        "adam",
        doc="Name of the optimizer: adam, adamax, adabelief, amsgrad, lion, momentum, nadam, radam, rmsprop or sgd; in Python "
        "also a function of the learning rate.",
    )

    def check(self) -> None:
        """Raise UserError where options do not fit one another; subclasses add to it."""
        check_optimizer(self.optimizer)


@options
class NetworkConfig(BaseConfig):
    """Options of every model with an encoder and a decoder."""

    latent_dim: int = option(10, low=1, doc="Number of latent variables.")
    network: Literal["mlp", "conv"] = option(
        "mlp", doc="Encoder and decoder: mlp for any data, conv for images of at least 8x8."
    )
    hidden: tuple[int, ...] = option(
        (256, 256),
        low=1,
        doc="Widths of the hidden layers of an MLP, such as 500x500; conv has one dense layer, of the first width.",
    )
    channels: tuple[int, ...] = option(
        (32, 32, 64, 64),
        low=1,
        doc="Channels of the convolutional stages, each of which halves the image as far as its size allows.",
    )
    activation: str = option(
        "relu", doc="Activation function: relu, tanh, gelu, silu, elu, softplus, leaky_relu or sigmoid."
    )

    def check(self) -> None:
        super().check()
        if self.network == "conv" and not (self.channels and self.hidden):
            raise UserError("--network=conv needs at least one width in --channels and in --hidden")
        nets.activation_function(self.activation)


TINY: dict[str, Any] = {"latent_dim": 2, "hidden": (16,), "channels": (4, 4)}


class InitNetworks(Protocol):
    """Initialises the parameters of encoder, decoder and likelihood from a key and a batch of model inputs."""

    def __call__(self, key: jax.Array, batch: Batch, /) -> PyTree: ...


class RunEncoder(Protocol):
    """Returns the encoder's outputs [b, features] for x [b, *shape], and labels where the model reads them."""

    def __call__(self, params: PyTree, x: jax.Array, label: jax.Array | None = None, /) -> jax.Array: ...


class RunDecoder(Protocol):
    """Returns p(x|z) for z [..., d], and labels where the model reads them; ``sigma``: scale of the likelihood if fixed."""

    def __call__(
        self, params: PyTree, sigma: ArrayLike, z: jax.Array, label: jax.Array | None = None, /
    ) -> Distribution: ...


class Networks(NamedTuple):
    """Encoder and decoder of a model as pure functions of one tree of parameters."""

    init: InitNetworks
    encode: RunEncoder
    decode: RunDecoder


def require_labels(spec: Spec) -> int:
    """Return the number of classes of labelled data.

    Raises: UserError for data without labels.
    """
    if not spec.num_classes:
        raise UserError(
            f"{spec.name} has no labels, and this model reads them; choose a labelled --dataset, or a model without labels"
        )
    return spec.num_classes


def encoder_module(config: NetworkConfig, spec: Spec, features: int) -> nets.Network:
    """Return the network from examples of this spec, and a condition [..., n] where one is given, to [..., features].

    Raises: UserError where the convolutional network does not fit the data.
    """
    if config.network == "conv" and (len(spec.shape) != 3 or min(spec.shape[:2]) < 8):
        raise UserError(
            f"--network=conv needs images of at least 8x8, but {spec.name} has examples of shape {spec.shape}; use --network=mlp"
        )
    if config.network == "mlp":
        return nets.MLP(config.hidden, features, config.activation, event_ndims=len(spec.shape))
    return nets.ConvEncoder(features, config.channels, config.hidden[0], config.activation)


def networks(
    config: NetworkConfig, spec: Spec, features: int, likelihood: likelihoods.Likelihood, classes: int = 0
) -> Networks:
    """Return encoder and decoder for data of this spec.

    With ``classes`` both read labels whose shape broadcasts with the leading axes of the other input: [b], or [classes, 1] for
    all classes at once, which computes the encoder's first product (in a convolutional one, its convolutions) only once. Label
    -1 adds nothing.

    Raises: UserError where the convolutional network does not fit the data.
    """
    size = math.prod(spec.shape) * likelihood.channels
    encoder = encoder_module(config, spec, features)
    if config.network == "mlp":
        decoder = nets.MLP(config.hidden[::-1], size, config.activation)
    else:
        height, width, channels = spec.shape
        shape = (height, width, channels * likelihood.channels)
        decoder = nets.ConvDecoder(shape, config.channels, config.hidden[0], config.activation)

    def one_hot(caller: str, label: jax.Array | None) -> jax.Array | None:
        if classes and label is None:
            raise ValueError(f"{caller}: this model reads labels, but the batch has none; give y, [b] integers")
        return jax.nn.one_hot(label, classes) if classes else None

    def init(key: jax.Array, batch: Batch) -> PyTree:
        encoder_key, decoder_key = jax.random.split(key)
        z, label = jnp.zeros((1, config.latent_dim)), one_hot("init", jnp.zeros(1, jnp.int32))
        return {
            "encoder": encoder.init(encoder_key, batch["x"][:1], label)["params"],
            "decoder": decoder.init(decoder_key, z, label)["params"],
            "likelihood": likelihood.init(),
        }

    def encode(params: PyTree, x: jax.Array, label: jax.Array | None = None) -> jax.Array:
        if x.shape[1:] != spec.shape:
            raise ValueError(f"encode: x has shape {x.shape}, expected [b, {', '.join(map(str, spec.shape))}]")
        return encoder.apply({"params": params["encoder"]}, x, one_hot("encode", label))

    def decode(params: PyTree, sigma: ArrayLike, z: jax.Array, label: jax.Array | None = None) -> Distribution:
        condition = one_hot("decode", label)
        if condition is not None:
            condition = jnp.broadcast_to(condition, (*z.shape[:-1], classes)).reshape(-1, classes)
        flat: Any = decoder.apply({"params": params["decoder"]}, z.reshape(-1, z.shape[-1]), condition)
        raw = flat.reshape(*z.shape[:-1], *spec.shape, likelihood.channels)
        return likelihood.distribution(params["likelihood"], sigma, raw)

    return Networks(init, encode, decode)
