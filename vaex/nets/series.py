"""Recurrent and attentive encoders and decoders of series: the first axis of an example is time, the others are features."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaex.errors import UserError
from vaex.nets.activations import activation_function
from vaex.nets.grids import leading_axes
from vaex.nets.mlp import add_condition

HEADS = 4


class RecurrentEncoder(nn.Module):
    """Gated recurrent units over time, forwards and backwards, whose last states a dense layer reads.

    Parameters: ``forward``, ``backward``, ``hidden``, ``output``.

    Attributes:
      shape: of an example, [t, ...].
      features: width of the output.
      width: of the states and of the dense layer.
      activation: of the dense layer.
    Example:
      >>> encoder = RecurrentEncoder(shape=(30, 6), features=10, width=8)
      >>> jax.eval_shape(encoder.init_with_output, jax.random.key(0), jnp.zeros((2, 30, 6)))[0].shape
      (2, 10)

    References: Cho et al. 2014; Bowman et al. 2016, figure 1.
    """

    shape: tuple[int, ...]
    features: int
    width: int = 256
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., *shape] -> [..., features].

        Args:
          x: series.
          condition: [..., n], more inputs of the dense layer; see ``MLP``.
        Raises: ValueError for series of another shape; UserError for an unknown activation.
        """
        leading = leading_axes("RecurrentEncoder", x, self.shape)
        activation = activation_function(self.activation)
        x = x.reshape(-1, self.shape[0], math.prod(self.shape[1:]))
        last = []
        for name, backwards in (("forward", False), ("backward", True)):
            cell = nn.GRUCell(self.width, name=name)
            state, _ = nn.RNN(cell, return_carry=True, reverse=backwards)(x)
            last.append(state)
        states = jnp.concatenate(last, axis=-1).reshape(*leading, 2 * self.width)
        hidden = activation(add_condition(nn.Dense(self.width, name="hidden")(states), condition))
        return nn.Dense(self.features, name="output")(hidden)


class RecurrentDecoder(nn.Module):
    """A gated recurrent unit that starts at, and reads at each step, a function of the latents.

    Parameters: ``hidden``, ``start``, ``cell``, ``output``.

    Attributes:
      shape: of what is decoded, [t, ...].
      width: of the states.
      activation: of the dense layer.
    Example:
      >>> decoder = RecurrentDecoder(shape=(30, 6, 2), width=8)
      >>> jax.eval_shape(decoder.init_with_output, jax.random.key(0), jnp.zeros((2, 5)))[0].shape
      (2, 30, 6, 2)

    References: Bowman et al. 2016, figure 1; without the words before, so that frames are independent given the latents.
    """

    shape: tuple[int, ...]
    width: int = 256
    activation: str = "relu"

    @nn.compact
    def __call__(self, z: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., d] -> [..., *shape], without an activation at the end.

        Args:
          z: latents.
          condition: [..., n], more inputs of the dense layer; see ``MLP``.
        Raises: UserError for an unknown activation.
        """
        activation = activation_function(self.activation)
        hidden = activation(add_condition(nn.Dense(self.width, name="hidden")(z), condition))
        leading = hidden.shape[:-1]
        hidden = hidden.reshape(-1, self.width)
        start = jnp.tanh(nn.Dense(self.width, name="start")(hidden))
        inputs = jnp.broadcast_to(hidden[:, None], (len(hidden), self.shape[0], self.width))
        states = nn.RNN(nn.GRUCell(self.width, name="cell"))(inputs, initial_carry=start)
        raw = nn.Dense(math.prod(self.shape[1:]), name="output")(states)
        return raw.reshape(*leading, *self.shape)


class TransformerEncoder(nn.Module):
    """Transformer over all frames of a series, whose mean features a dense layer reads.

    Parameters: ``inputs``, ``positions``, ``block_0``, ..., ``hidden``, ``output``.

    Attributes:
      shape: of an example, [t, ...].
      features: width of the output.
      width: of the features of a frame, a multiple of the number of heads, 4.
      layers: transformer blocks.
      activation: of the dense layers.
    Example:
      >>> encoder = TransformerEncoder(shape=(30, 6), features=10, width=8, layers=1)
      >>> jax.eval_shape(encoder.init_with_output, jax.random.key(0), jnp.zeros((2, 30, 6)))[0].shape
      (2, 10)

    References: Vaswani et al. 2017; Radford et al. 2019 (pre-norm).
    """

    shape: tuple[int, ...]
    features: int
    width: int = 64
    layers: int = 2
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., *shape] -> [..., features].

        Args:
          x: series.
          condition: [..., n], more inputs of the dense layer; see ``MLP``.
        Raises: ValueError for series of another shape; UserError for an unknown activation or a width that heads don't divide.
        """
        leading = leading_axes("TransformerEncoder", x, self.shape)
        activation = activation_function(self.activation)
        x = nn.Dense(self.width, name="inputs")(x.reshape(-1, self.shape[0], math.prod(self.shape[1:])))
        x = _attend(x, self.layers, self.activation)
        x = jnp.mean(x, axis=1).reshape(*leading, self.width)
        hidden = activation(add_condition(nn.Dense(self.width, name="hidden")(x), condition))
        return nn.Dense(self.features, name="output")(hidden)


class TransformerDecoder(nn.Module):
    """Transformer from a function of the latents at each position to all frames of a series at once.

    Parameters: ``hidden``, ``positions``, ``block_0``, ..., ``output``.

    Attributes:
      shape: of what is decoded, [t, ...].
      width: of the features of a frame, a multiple of the number of heads, 4.
      layers: transformer blocks.
      activation: of the dense layers.
    Example:
      >>> decoder = TransformerDecoder(shape=(30, 6, 2), width=8, layers=1)
      >>> jax.eval_shape(decoder.init_with_output, jax.random.key(0), jnp.zeros((2, 5)))[0].shape
      (2, 30, 6, 2)
    """

    shape: tuple[int, ...]
    width: int = 64
    layers: int = 2
    activation: str = "relu"

    @nn.compact
    def __call__(self, z: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., d] -> [..., *shape], without an activation at the end.

        Args:
          z: latents.
          condition: [..., n], more inputs of the first layer; see ``MLP``.
        Raises: UserError for an unknown activation or a width that heads don't divide.
        """
        activation = activation_function(self.activation)
        hidden = activation(add_condition(nn.Dense(self.width, name="hidden")(z), condition))
        leading = hidden.shape[:-1]
        hidden = hidden.reshape(-1, 1, self.width)
        x = _attend(jnp.broadcast_to(hidden, (len(hidden), self.shape[0], self.width)), self.layers, self.activation)
        raw = nn.Dense(math.prod(self.shape[1:]), name="output")(x)
        return raw.reshape(*leading, *self.shape)


class FrameBlock(nn.Module):
    """Pre-norm transformer block without a mask: each frame attends to all.

    Attributes:
      activation: of the hidden layer.
    """

    activation: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, t, width] -> [b, t, width]."""
        width = x.shape[-1]
        # no bias: that of the keys cancels in the softmax, and would change rounding only
        attention = nn.MultiHeadDotProductAttention(HEADS, use_bias=False, name="attention")
        x = x + attention(nn.LayerNorm(name="attention_norm")(x))
        hidden = nn.Dense(4 * width, name="hidden")(nn.LayerNorm(name="norm")(x))
        return x + nn.Dense(width, name="output")(activation_function(self.activation)(hidden))


def _attend(x: jax.Array, layers: int, activation: str) -> jax.Array:
    """Add learned positions to features [b, t, width] and apply the blocks, within the call of a module."""
    length, width = x.shape[1:]
    if width % HEADS:
        raise UserError(f"--network=transformer: the width is {width}, expected a multiple of {HEADS}, the heads")
    places = nn.Embed(length, width, embedding_init=nn.initializers.normal(0.5), name="positions")
    x = x + places(jnp.arange(length))
    for index in range(layers):
        x = FrameBlock(activation, name=f"block_{index}")(x)
    return nn.LayerNorm(name="norm")(x)
