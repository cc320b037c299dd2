"""Convolutional encoders and decoders of grids of any number of axes: series (one axis) and volumes (three)."""

from __future__ import annotations

import math

import flax.linen as nn
import jax

from vaex.errors import UserError
from vaex.nets.activations import activation_function
from vaex.nets.conv import Conv, doubling
from vaex.nets.mlp import add_condition


def grid_sizes(sides: tuple[int, ...], stages: int) -> tuple[tuple[int, ...], ...]:
    """Return the sides of a grid from the input to the last stage of stride 2: as many of ``stages`` as leave 2 points a side.

    Raises: UserError for sides below 4, which allow none.
    Example:
      >>> grid_sizes((30,), stages=4), grid_sizes((9, 8, 16), stages=2)
      (((30,), (15,), (7,), (3,)), ((9, 8, 16), (4, 4, 8), (2, 2, 4)))
    """
    if min(sides) < 4:
        raise UserError(
            f"grid of {' x '.join(map(str, sides))}: convolutions need at least 4 on each side; use --network=mlp"
        )
    sizes = [sides]
    while len(sizes) <= stages and min(sizes[-1]) >= 4:
        sizes.append(tuple(side // 2 for side in sizes[-1]))
    return tuple(sizes)


def split_axes(shape: tuple[int, ...], axes: int) -> tuple[tuple[int, ...], int]:
    """Return the sides of the grid that the first ``axes`` of an example's shape span, and the number of channels, all others.

    Example:
      >>> split_axes((30, 6, 1), 1), split_axes((8, 8, 8), 3)
      (((30,), 6), ((8, 8, 8), 1))
    """
    return shape[:axes], math.prod(shape[axes:])


class GridEncoder(nn.Module):
    """Convolutions of 4 points a side with stride 2, then one hidden dense layer, then an affine map.

    The first ``axes`` of an example span the grid; what follows are channels. There is a stage for each entry of ``channels``, or
    for the first few where the grid is small (``grid_sizes``). Parameters: ``conv_0``, ``conv_1``, ..., ``hidden``, ``output``.

    Attributes:
      shape: of an example.
      axes: 1 for series [t, *channels], 3 for volumes [d, h, w, *channels].
      features: width of the output.
      channels: of the stages, from the grid on.
      hidden: width of the dense layer.
      activation: name, see ``activation_function``.
    Example:
      >>> encoder = GridEncoder(shape=(30, 6), axes=1, features=10, channels=(4, 8))
      >>> jax.eval_shape(encoder.init_with_output, jax.random.key(0), jax.numpy.zeros((2, 30, 6)))[0].shape
      (2, 10)
    """

    shape: tuple[int, ...]
    axes: int
    features: int
    channels: tuple[int, ...] = (32, 32, 64, 64)
    hidden: int = 256
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., *shape] -> [..., features].

        Args:
          x: examples.
          condition: [..., n], more inputs of the hidden dense layer; see ``MLP``.
        Raises: ValueError for examples of another shape; UserError for a tiny grid or an unknown activation.
        """
        leading = leading_axes("GridEncoder", x, self.shape)
        activation = activation_function(self.activation)
        sides, inputs = split_axes(self.shape, self.axes)
        sizes = grid_sizes(sides, len(self.channels))
        x = x.reshape(-1, *sides, inputs)
        for index, width in enumerate(self.channels[: len(sizes) - 1]):
            layer = Conv(width, (4,) * self.axes, strides=2, padding=1, name=f"conv_{index}")
            x = activation(layer(x))
        x = x.reshape(*leading, math.prod(x.shape[1:]))
        x = activation(add_condition(nn.Dense(self.hidden, name="hidden")(x), condition))
        return nn.Dense(self.features, name="output")(x)


class GridDecoder(nn.Module):
    """The mirror of ``GridEncoder``: two dense layers, then transposed convolutions of 4 points a side with stride 2.

    Parameters: ``hidden``, ``grid``, ..., ``conv_1``, ``conv_0`` (the last layer).

    Attributes:
      shape: of what is decoded; its axes after the first ``axes`` are channels.
      axes: 1 for series, 3 for volumes.
      channels: of the stages, from the grid on, as of the encoder.
      hidden: width of the first dense layer.
      activation: name, see ``activation_function``.
    Example:
      >>> decoder = GridDecoder(shape=(9, 8, 7, 2), axes=3, channels=(4, 8))
      >>> jax.eval_shape(decoder.init_with_output, jax.random.key(0), jax.numpy.zeros((2, 5)))[0].shape
      (2, 9, 8, 7, 2)
    """

    shape: tuple[int, ...]
    axes: int
    channels: tuple[int, ...] = (32, 32, 64, 64)
    hidden: int = 256
    activation: str = "relu"

    @nn.compact
    def __call__(self, z: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., d] -> [..., *shape], without an activation at the end.

        Args:
          z: latents.
          condition: [..., n], more inputs of the hidden dense layer; see ``MLP``.
        Raises: UserError for a tiny grid or an unknown activation.
        """
        activation = activation_function(self.activation)
        sides, outputs = split_axes(self.shape, self.axes)
        sizes = grid_sizes(sides, len(self.channels))
        widths = (outputs, *self.channels[: len(sizes) - 1])
        x = activation(add_condition(nn.Dense(self.hidden, name="hidden")(z), condition))
        x = activation(nn.Dense(math.prod(sizes[-1]) * widths[-1], name="grid")(x))
        leading = x.shape[:-1]
        x = x.reshape(-1, *sizes[-1], widths[-1])
        for index in reversed(range(len(sizes) - 1)):
            x = doubling(widths[index], sizes[index], name=f"conv_{index}")(x)
            x = activation(x) if index else x
        return x.reshape(*leading, *self.shape)


def leading_axes(name: str, x: jax.Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of x before those of an example.

    Raises: ValueError for examples of another shape.
    """
    if x.shape[x.ndim - len(shape) :] != shape or x.ndim < len(shape):
        raise ValueError(f"{name}: x has shape {x.shape}, expected [..., {', '.join(map(str, shape))}]")
    return x.shape[: x.ndim - len(shape)]
