"""Recurrent networks over time: a gated recurrent unit whose products with the inputs are computed for all frames at once."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaex.core import PyTree


class GRU(nn.Module):
    r"""Gated recurrent unit: :math:`h' = (1 - u)\,n + u\,h` with gates r, u in (0, 1) and :math:`n = \tanh(n_x + r\,n_h)`.

    Parameters: ``inputs`` and ``recurrent``, each one product for both gates and n.

    Attributes:
      features: width of the state.
    Example:
      >>> gru = GRU(features=3)
      >>> variables = gru.init(jax.random.key(0), jnp.zeros((2, 3)), jnp.zeros((2, 5)))
      >>> gru.apply(variables, jnp.zeros((2, 3)), jnp.zeros((2, 5))).shape
      (2, 3)

    References: Cho et al. 2014, section 2.3, with the reset gate after the product, as in cuDNN.
    """

    features: int

    def setup(self) -> None:
        """Create the two layers."""
        self.inputs = nn.Dense(3 * self.features)
        self.recurrent = nn.Dense(3 * self.features, kernel_init=nn.initializers.orthogonal())

    def gates(self, x: jax.Array) -> jax.Array:
        """Return what inputs x [..., n] contribute to the gates and n, [..., 3 features]; of all frames at once where known."""
        return self.inputs(x)

    def step(self, h: jax.Array, gates: jax.Array) -> jax.Array:
        """Return the next state [..., features] from this state and the output of ``gates``."""
        reset_x, update_x, new_x = jnp.split(gates, 3, axis=-1)
        reset_h, update_h, new_h = jnp.split(self.recurrent(h), 3, axis=-1)
        update = jax.nn.sigmoid(update_x + update_h)
        new = jnp.tanh(new_x + jax.nn.sigmoid(reset_x + reset_h) * new_h)
        return new + update * (h - new)

    def __call__(self, h: jax.Array, x: jax.Array) -> jax.Array:
        """Return the next state [..., features] from this state and inputs x [..., n]."""
        return self.step(h, self.gates(x))


def hidden_states(gru: GRU, params: PyTree, x: jax.Array) -> jax.Array:
    """Return the states before the first frame (zeros) and after each frame, [..., t + 1, features].

    Args:
      gru: the unit.
      params: its parameters.
      x: inputs, [..., t, n].
    Example:
      >>> gru = GRU(features=3)
      >>> params = gru.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(5))["params"]
      >>> hidden_states(gru, params, jnp.ones((2, 7, 5))).shape
      (2, 8, 3)
    """
    gates: Any = gru.apply({"params": params}, x, method="gates")
    start = jnp.zeros((*x.shape[:-2], gru.features), gates.dtype)

    def step(h: jax.Array, frame_gates: jax.Array) -> tuple[jax.Array, jax.Array]:
        next_h: Any = gru.apply({"params": params}, h, frame_gates, method="step")
        return next_h, next_h

    _, states = jax.lax.scan(step, start, jnp.moveaxis(gates, -2, 0))
    return jnp.moveaxis(jnp.concatenate([start[None], states]), 0, -2)
