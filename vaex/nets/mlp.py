"""Multilayer perceptrons."""

from __future__ import annotations

import math

import flax.linen as nn
import jax

from vaex.nets.activations import activation_function


class MLP(nn.Module):
    """Dense layers with an activation between them; the output layer has none.

    Parameters are named ``hidden_0``, ``hidden_1``, ..., ``output``, each with a
    "kernel" [in, out] and a "bias" [out]; with a condition also ``condition``, a kernel alone.

    Attributes:
      hidden: widths of the hidden layers; () makes one affine map.
      features: width of the output.
      activation: name, see ``activation_function``.
      event_ndims: how many trailing axes make one example; they are flattened. 3 takes images [b, h, w, c].
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
        """Maps each example to ``features`` numbers.

        Args:
          x: [..., *event], ``event_ndims`` event axes of fixed sizes.
          condition: [..., n], such as a one-hot label: more inputs of the first layer. Their leading axes broadcast with those
            of x, and only what follows the first product is computed for all pairs.
        Returns: [..., features].
        Raises: ValueError if x has fewer axes than an event; UserError for an unknown activation.
        """
        activation = activation_function(self.activation)
        if self.event_ndims < 1 or x.ndim < self.event_ndims:
            raise ValueError(
                f"MLP: x has shape {x.shape}, expected at least event_ndims={self.event_ndims} >= 1 trailing axes; "
                "give the number of axes of one example as event_ndims"
            )
        leading = x.ndim - self.event_ndims  # not -1 below: it can't be told where b is 0
        x = x.reshape(*x.shape[:leading], math.prod(x.shape[leading:]))
        for index, width in enumerate(self.hidden):
            x = nn.Dense(width, name=f"hidden_{index}")(x)
            x = activation(x if index else conditioned(x, condition))
        x = nn.Dense(self.features, name="output")(x)
        return x if self.hidden else conditioned(x, condition)


def conditioned(x: jax.Array, condition: jax.Array | None) -> jax.Array:
    """The output of a layer, x [..., features], with the columns of a ``condition`` [..., n] added; within a module's call."""
    return x if condition is None else x + nn.Dense(x.shape[-1], use_bias=False, name="condition")(condition)
