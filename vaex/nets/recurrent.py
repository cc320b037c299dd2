"""Recurrent networks over time: a gated unit whose products with the inputs are made for all frames at once."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class GRU(nn.Module):
    r"""A gated recurrent unit: :math:`h' = (1 - u)\,n + u\,h` with gates r, u in (0, 1) and :math:`n = \tanh(n_x + r\,n_h)`.

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
        self.inputs = nn.Dense(3 * self.features)
        self.recurrent = nn.Dense(3 * self.features, kernel_init=nn.initializers.orthogonal())

    def gates(self, x: jax.Array) -> jax.Array:
        """What inputs x [..., n] contribute, [..., 3 features]: all frames at once where they are known beforehand."""
        return self.inputs(x)

    def step(self, h: jax.Array, gates: jax.Array) -> jax.Array:
        """The next state [..., features] from this one and what ``gates`` gave."""
        reset_x, update_x, new_x = jnp.split(gates, 3, axis=-1)
        reset_h, update_h, new_h = jnp.split(self.recurrent(h), 3, axis=-1)
        update = jax.nn.sigmoid(update_x + update_h)
        new = jnp.tanh(new_x + jax.nn.sigmoid(reset_x + reset_h) * new_h)
        return new + update * (h - new)

    def __call__(self, h: jax.Array, x: jax.Array) -> jax.Array:
        """The next state [..., features] from this one and inputs x [..., n]."""
        return self.step(h, self.gates(x))


def hidden_states(gru: GRU, params: Any, x: jax.Array) -> jax.Array:
    """The states before the first frame (zeros) and after each, [..., t + 1, features].

    Args:
      gru: the unit.
      params: its parameters.
      x: [..., t, n].
    Example:
      >>> gru = GRU(features=3)
      >>> params = gru.init(jax.random.key(0), jnp.zeros(3), jnp.zeros(5))["params"]
      >>> hidden_states(gru, params, jnp.ones((2, 7, 5))).shape
      (2, 8, 3)
    """
    gates: Any = gru.apply({"params": params}, x, method="gates")
    start = jnp.zeros((*x.shape[:-2], gru.features), gates.dtype)

    def step(h: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
        after: Any = gru.apply({"params": params}, h, now, method="step")
        return after, after

    _, states = jax.lax.scan(step, start, jnp.moveaxis(gates, -2, 0))
    return jnp.moveaxis(jnp.concatenate([start[None], states]), 0, -2)
