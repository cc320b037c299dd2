"""Multilayer perceptrons."""

from __future__ import annotations

import math

import flax.linen as nn
import jax

from vaex.nets.activations import activation_function


class MLP(nn.Module):
    """Dense layers with an activation between them; the output layer has none.

    Parameters: ``hidden_0``, ``hidden_1``, ..., ``output``, each a "kernel" [in, out] and a "bias" [out]; with a condition also
    ``condition``, a kernel alone.

    Attributes:
      hidden: widths of the hidden layers; with () the network is one affine map.
      features: width of the output.
      activation: name, see ``activation_function``.
      event_ndims: number of trailing axes of one example, which are flattened; 3 for images [b, h, w, c].
    Example:
      >>> mlp = MLP(hidden=(16,), features=3, event_ndims=3)
      >>> images = jax.numpy.zeros((2, 8, 8, 1))
      >>> variables = mlp.init(jax.random.key(0), images)
      >>> mlp.apply(variables, images).shape
      (2, 3)
      >>> jax.tree.map(jax.numpy.shape, variables["params"]["hidden_0"])
      {'bias': (16,), 'kernel': (64, 16)}
    """

    hidden: tuple[int, ...]
    features: int
    activation: str = "relu"
    event_ndims: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array | None = None) -> jax.Array:
        """[..., *event] -> [..., features].

        Args:
          x: examples with ``event_ndims`` event axes of fixed sizes.
          condition: [..., n], such as one-hot labels: more inputs of the first layer. Its leading axes broadcast with those of x,
            and only what follows the first product is computed for all pairs.
        Raises: ValueError if x has fewer axes than an event; UserError for an unknown activation.
        """
        activation = activation_function(self.activation)
        if self.event_ndims < 1 or x.ndim < self.event_ndims:
            raise ValueError(
                f"MLP: x has shape {x.shape}, expected at least event_ndims={self.event_ndims} >= 1 trailing axes; "
                "give the number of axes of one example as event_ndims"
            )
        leading = x.ndim - self.event_ndims  # -1 below would be ambiguous where b is 0
        x = x.reshape(*x.shape[:leading], math.prod(x.shape[leading:]))
        for index, width in enumerate(self.hidden):
            x = nn.Dense(width, name=f"hidden_{index}")(x)
            x = activation(x if index else add_condition(x, condition))
        x = nn.Dense(self.features, name="output")(x)
        return x if self.hidden else add_condition(x, condition)


def add_condition(x: jax.Array, condition: jax.Array | None) -> jax.Array:
    """Add a linear map of the condition [..., n] to the output x [..., features] of a layer; within the call of a module."""
    return x if condition is None else x + nn.Dense(x.shape[-1], use_bias=False, name="condition")(condition)
