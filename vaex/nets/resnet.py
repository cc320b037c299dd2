"""Residual convolutional networks: from images or series to maps smaller by a power of two, and back; and to vectors."""

from __future__ import annotations

import flax.linen as nn
import jax

from vaex.nets.activations import activation_function
from vaex.nets.conv import Conv, doubling
from vaex.nets.convnets import stage_sizes
from vaex.nets.grids import grid_sizes
from vaex.nets.mlp import add_condition


class ResidualBlock(nn.Module):
    """x plus a 3x3 and a 1x1 convolution of x, with an activation before each; sizes stay.

    Attributes:
      activation: name, see ``activation_function``.
      axes: of the grid, 2 for images, 1 for series.
    """

    activation: str = "relu"
    axes: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., *sides, c] -> [..., *sides, c]."""
        activation = activation_function(self.activation)
        y = Conv(x.shape[-1], (3,) * self.axes, padding=1, name="conv")(activation(x))
        return x + nn.Dense(x.shape[-1], name="pixel")(activation(y))


class ResidualEncoder(nn.Module):
    """Convolutions 4x4 with stride 2, then a 3x3 convolution and residual blocks, then an activation.

    Sides are halved as in ``stage_sizes``, so every pixel of any size is read. Parameters: ``down_0``, ..., ``conv``,
    ``block_0``, ...

    Attributes:
      channels: width of all layers.
      stages: convolutions of stride 2, each of which needs at least 4 pixels on each side.
      blocks: residual blocks; with 0 there is no 3x3 convolution either.
      activation: name, see ``activation_function``.
      axes: of the grid, 2 for images, 1 for series, whose kernels have as many.
    Example:
      >>> encoder = ResidualEncoder(channels=4, stages=2)
      >>> images = jax.numpy.zeros((2, 9, 14, 3))
      >>> jax.eval_shape(encoder.init_with_output, jax.random.key(0), images)[0].shape
      (2, 2, 3, 4)

    References: van den Oord, Vinyals & Kavukcuoglu 2017, section 4.1.
    """

    channels: int = 32
    stages: int = 2
    blocks: int = 2
    activation: str = "relu"
    axes: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., h, w, c] -> [..., h', w', channels], or [..., t, c] -> [..., t', channels].

        Raises: UserError for an unknown activation.
        """
        activation = activation_function(self.activation)
        for index in range(self.stages):
            layer = Conv(self.channels, (4,) * self.axes, strides=2, padding=1, name=f"down_{index}")
            x = activation(layer(x))
        return activation(_residual_stack(self, self.axes, x)) if self.blocks else x


class ResidualDecoder(nn.Module):
    """The mirror of ``ResidualEncoder``: a 3x3 convolution, residual blocks, transposed convolutions 4x4 with stride 2.

    The sides of the feature map must be those that ``stage_sizes`` gives for the image, or ``grid_sizes`` for a series.
    Parameters: ``conv``, ``block_0``, ..., and ``up_1``, ``up_0`` (the last layer).

    Attributes:
      shape: of the result, (h, w, c), or (t, c).
      channels: width of all layers but the last.
      stages: transposed convolutions of stride 2.
      blocks: residual blocks; with 0 there is no 3x3 convolution either.
      activation: name, see ``activation_function``.
    Example:
      >>> decoder = ResidualDecoder(shape=(9, 14, 3), channels=4, stages=2)
      >>> features = jax.numpy.zeros((2, 2, 3, 5))
      >>> jax.eval_shape(decoder.init_with_output, jax.random.key(0), features)[0].shape
      (2, 9, 14, 3)
    """

    shape: tuple[int, ...]
    channels: int = 32
    stages: int = 2
    blocks: int = 2
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., h', w', features] -> [..., h, w, c], or [..., t', features] -> [..., t, c], without an activation at the end.

        Raises: ValueError for a feature map of another size; UserError for a result too small for convolutions, or an unknown
          activation.
        """
        activation = activation_function(self.activation)
        *sides, features = self.shape
        axes = len(sides)
        sizes = grid_sizes(tuple(sides), self.stages)
        if x.shape[-1 - axes : -1] != sizes[-1]:
            raise ValueError(
                f"ResidualDecoder: x has shape {x.shape}, expected [..., {', '.join(map(str, sizes[-1]))}, n] for a result of "
                f"shape {self.shape}; give the features of a ResidualEncoder with stages={self.stages}"
            )
        x = activation(_residual_stack(self, axes, x)) if self.blocks else x
        for index in reversed(range(self.stages)):
            x = doubling(self.channels if index else features, sizes[index], name=f"up_{index}")(x)
            x = activation(x) if index else x
        return x


def _residual_stack(net: ResidualEncoder | ResidualDecoder, axes: int, x: jax.Array) -> jax.Array:
    """Apply a 3x3 convolution, or one of 3 steps, and the residual blocks of a network, within its call."""
    x = Conv(net.channels, (3,) * axes, padding=1, name="conv")(x)
    for index in range(net.blocks):
        x = ResidualBlock(net.activation, axes, name=f"block_{index}")(x)
    return x


class ResNetEncoder(nn.Module):
    """``ResidualEncoder``, and on its feature map one hidden dense layer and an affine map.

    Parameters: ``map``, ``hidden``, ``output``.

    Attributes:
      features: width of the output.
      channels: width of the convolutions.
      stages: convolutions of stride 2, as many as the image allows (``stage_sizes``).
      blocks: residual blocks.
      hidden: width of the dense layer.
      activation: name, see ``activation_function``.
    Example:
      >>> encoder = ResNetEncoder(features=10, channels=4, stages=3)
      >>> jax.eval_shape(encoder.init_with_output, jax.random.key(0), jax.numpy.zeros((2, 9, 12, 3)))[0].shape
      (2, 10)
    """

    features: int
    channels: int = 64
    stages: int = 4
    blocks: int = 2
    hidden: int = 256
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., h, w, c] -> [..., features].

        Args:
          x: images.
          condition: [..., n], more inputs of the dense layer; see ``MLP``.
        Raises: UserError for a tiny image or an unknown activation.
        """
        stages = len(stage_sizes(x.shape[-3], x.shape[-2], self.stages)) - 1
        x = ResidualEncoder(self.channels, stages, self.blocks, self.activation, name="map")(x)
        x = nn.Dense(self.hidden, name="hidden")(x.reshape(*x.shape[:-3], -1))
        x = activation_function(self.activation)(add_condition(x, condition))
        return nn.Dense(self.features, name="output")(x)


class ResNetDecoder(nn.Module):
    """The mirror of ``ResNetEncoder``: two dense layers to a feature map, then ``ResidualDecoder``.

    Parameters: ``hidden``, ``grid``, ``map``.

    Attributes:
      shape: the image, (h, w, c).
      channels, stages, blocks, hidden, activation: as of the encoder.
    Example:
      >>> decoder = ResNetDecoder(shape=(9, 12, 3), channels=4, stages=3)
      >>> jax.eval_shape(decoder.init_with_output, jax.random.key(0), jax.numpy.zeros((2, 5)))[0].shape
      (2, 9, 12, 3)
    """

    shape: tuple[int, int, int]
    channels: int = 64
    stages: int = 4
    blocks: int = 2
    hidden: int = 256
    activation: str = "relu"

    @nn.compact
    def __call__(self, z: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., d] -> [..., h, w, c], without an activation at the end.

        Args:
          z: latents.
          condition: [..., n], more inputs of the hidden dense layer; see ``MLP``.
        Raises: UserError for a tiny image or an unknown activation.
        """
        activation = activation_function(self.activation)
        sizes = stage_sizes(self.shape[0], self.shape[1], self.stages)
        height, width = sizes[-1]
        x = activation(add_condition(nn.Dense(self.hidden, name="hidden")(z), condition))
        x = activation(nn.Dense(height * width * self.channels, name="grid")(x))
        x = x.reshape(*x.shape[:-1], height, width, self.channels)
        return ResidualDecoder(self.shape, self.channels, len(sizes) - 1, self.blocks, self.activation, name="map")(x)
