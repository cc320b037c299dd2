"""Convolutional encoder and decoder for images of any size from 4 pixels a side and any number of channels."""

from __future__ import annotations

import math

import flax.linen as nn
import jax

from vaex.errors import UserError
from vaex.nets.activations import activation_function
from vaex.nets.conv import Conv, doubling
from vaex.nets.mlp import add_condition


def stage_sizes(height: int, width: int, stages: int) -> tuple[tuple[int, int], ...]:
    """Return image sizes (h, w) from the input to the last stage of stride 2: as many of ``stages`` as leave 2 pixels a side.

    Each stage maps a side of n pixels to n // 2 and reads every pixel, odd n included. 8 pixels allow two stages, 28 three,
    64 five.

    Raises: UserError for sides below 4 pixels, which allow none.
    Example:
      >>> stage_sizes(28, 35, stages=4)
      ((28, 35), (14, 17), (7, 8), (3, 4))
    """
    if min(height, width) < 4:
        raise UserError(f"image of {height} x {width} pixels: convolutions need at least 4 on each side; use an MLP")
    sizes = [(height, width)]
    while len(sizes) <= stages and min(sizes[-1]) >= 4:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return tuple(sizes)


class ConvEncoder(nn.Module):
    """Convolutions 4x4 with stride 2, then one hidden dense layer, then an affine map.

    It has a stage for each entry of ``channels``, or for the first few where the image is small (``stage_sizes``). Parameters:
    ``conv_0``, ``conv_1``, ..., ``hidden``, ``output``.

    Attributes:
      features: width of the output.
      channels: of the stages, from the image on.
      hidden: width of the dense layer.
      activation: name, see ``activation_function``.
      lowering: of the convolutions, see ``vaex.ops.convolve``.
    Example:
      >>> encoder = ConvEncoder(features=10, channels=(4, 8))
      >>> images = jax.numpy.zeros((2, 9, 12, 3))
      >>> jax.eval_shape(encoder.init_with_output, jax.random.key(0), images)[0].shape
      (2, 10)
    """

    features: int
    channels: tuple[int, ...] = (32, 32, 64, 64)
    hidden: int = 256
    activation: str = "relu"
    lowering: str = "auto"

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., h, w, c] -> [..., features].

        Args:
          x: images.
          condition: [..., n], more inputs of the hidden dense layer; see ``MLP``.
        Raises: ValueError without image axes; UserError for a tiny image or an unknown activation.
        """
        activation = activation_function(self.activation)
        if x.ndim < 3:
            raise ValueError(f"ConvEncoder: x has shape {x.shape}, expected [..., h, w, c]; add the missing axes")
        sizes = stage_sizes(x.shape[-3], x.shape[-2], len(self.channels))
        for index, width in enumerate(self.channels[: len(sizes) - 1]):
            layer = Conv(width, (4, 4), strides=2, padding=1, lowering=self.lowering, name=f"conv_{index}")
            x = activation(layer(x))
        x = x.reshape(*x.shape[:-3], -1)
        x = activation(add_condition(nn.Dense(self.hidden, name="hidden")(x), condition))
        return nn.Dense(self.features, name="output")(x)


class ConvDecoder(nn.Module):
    """The mirror of ``ConvEncoder``: two dense layers, then transposed convolutions 4x4 with stride 2.

    Its stages have the sizes of the encoder in reverse, so the image comes out exactly (h, w) for odd sides too.
    Parameters: ``hidden``, ``grid``, ..., ``conv_1``, ``conv_0`` (the last layer).

    Attributes:
      shape: the image, (h, w, c).
      channels: of the stages, from the image on, as of the encoder.
      hidden: width of the first dense layer.
      activation: name, see ``activation_function``.
      lowering: of the convolutions, see ``vaex.ops.convolve``.
    Example:
      >>> decoder = ConvDecoder(shape=(9, 12, 3), channels=(4, 8))
      >>> latents = jax.numpy.zeros((2, 5))
      >>> jax.eval_shape(decoder.init_with_output, jax.random.key(0), latents)[0].shape
      (2, 9, 12, 3)
    """

    shape: tuple[int, int, int]
    channels: tuple[int, ...] = (32, 32, 64, 64)
    hidden: int = 256
    activation: str = "relu"
    lowering: str = "auto"

    @nn.compact
    def __call__(self, z: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., d] -> [..., h, w, c], without an activation at the end.

        Args:
          z: latents.
          condition: [..., n], more inputs of the hidden dense layer; see ``MLP``.
        Raises: UserError for a tiny image or an unknown activation.
        """
        activation = activation_function(self.activation)
        height, width, channels = self.shape
        sizes = stage_sizes(height, width, len(self.channels))
        widths = (channels, *self.channels[: len(sizes) - 1])
        x = activation(add_condition(nn.Dense(self.hidden, name="hidden")(z), condition))
        x = activation(nn.Dense(math.prod(sizes[-1]) * widths[-1], name="grid")(x))
        x = x.reshape(*x.shape[:-1], *sizes[-1], widths[-1])
        for index in reversed(range(len(sizes) - 1)):
            x = doubling(widths[index], sizes[index], name=f"conv_{index}", lowering=self.lowering)(x)
            x = activation(x) if index else x
        return x
