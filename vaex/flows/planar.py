"""The planar flow."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from vaex.flows._base import BaseFlow, check_int
from vaex.flows._tanh import constrain, slope, tanh_root
from vaex.flows.protocol import Params
from vaex.ops.arrays import inner

_SMALLEST_SQUARE = 1e-20


@dataclasses.dataclass(frozen=True)
class Planar(BaseFlow):
    r"""Stretch along one direction: :math:`f(z) = z + \hat u \tanh(w^\top z + b)`.

    :math:`\hat u = u + (c(w^\top u) - w^\top u)\, w / \|w\|^2` with c > -1 keeps the map invertible for all parameters;
    here c(0) = 0, so that u = 0 is the identity. The inverse solves one scalar equation per point to rounding.

    Parameters: ``weight`` w [..., d], ``direction`` u [..., d], ``bias`` b [...].

    Args:
      dimension: d.
    Raises: ValueError if ``dimension`` is not a positive int.
    Example:
      >>> flow = Planar(2)
      >>> params = {"weight": jnp.array([1.0, 0.0]), "direction": jnp.array([0.0, 1.0]), "bias": jnp.array(0.0)}
      >>> print(*flow.forward(params, jnp.array([100.0, 0.0])))
      [100.   1.] 0.0

    References: Rezende & Mohamed 2015, eqs. 10-12 and appendix A.1.
    """

    dimension: int

    def __post_init__(self) -> None:
        check_int("Planar", "dimension", self.dimension, 1)

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """A random plane, moved a little."""
        weight, direction = jax.random.normal(key, (2, self.dimension)) / self.dimension**0.5
        return {"weight": weight, "direction": 0.1 * direction, "bias": jnp.zeros(())}

    def _forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        direction, gain = _invertible(params)
        v = inner(params["weight"], z) + params["bias"]
        return z + direction * jnp.tanh(v)[..., None], jnp.log(slope(gain, v))

    def _inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        direction, gain = _invertible(params)
        v = tanh_root(inner(params["weight"], value) + params["bias"], gain)
        return value - direction * jnp.tanh(v)[..., None], -jnp.log(slope(gain, v))


def _invertible(params: Params) -> tuple[jax.Array, jax.Array]:
    """u hat, and 1 + w'u hat > 0. A weight of zero has no direction: its map is a translation by u tanh(b)."""
    weight, direction = params["weight"], params["direction"]
    product, square = jnp.sum(weight * direction, axis=-1), jnp.sum(jnp.square(weight), axis=-1)
    constrained, gain = constrain(product)
    usable = square > _SMALLEST_SQUARE
    inverse_norm = jnp.where(usable, jax.lax.rsqrt(jnp.where(usable, square, 1.0)), 0.0)
    unit = weight * inverse_norm[..., None]
    return direction + ((constrained - product) * inverse_norm)[..., None] * unit, gain
