"""What every model is configured with, and the encoder and decoder made of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from vaex import nets
from vaex.core import Batch, PyTree
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import likelihoods
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
        self.check_widths("hidden", "channels")
        if self.network == "conv" and not (self.channels and self.hidden):
            raise UserError("--network=conv needs at least one width in --channels and in --hidden")
        nets.activation_function(self.activation)
        algorithm.check_optimizer(self.optimizer)

    def check_widths(self, *names: str) -> None:
        """Raise UserError where one of these fields holds a width below 1."""
        for name in names:
            if any(width < 1 for width in getattr(self, name)):
                raise UserError(
                    f"--{name}={'x'.join(map(str, getattr(self, name)))}: expected positive widths, such as 500x500"
                )


TINY: dict[str, Any] = {"latent_dim": 2, "hidden": (16,), "channels": (4, 4)}


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
