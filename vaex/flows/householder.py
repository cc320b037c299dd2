"""Orthogonal maps as products of reflections."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from vaex.flows._base import BaseFlow, check_int
from vaex.flows.protocol import Params
from vaex.ops.arrays import inner

_SMALLEST_SQUARE = 1e-20


@dataclasses.dataclass(frozen=True)
class Householder(BaseFlow):
    r"""An orthogonal map: :math:`f(z) = H_n \cdots H_1 z` with :math:`H_i = I - 2 v_i v_i^\top / \|v_i\|^2`.

    Volume and norm are kept. With n = d the product reaches every orthogonal matrix of determinant :math:`(-1)^d`, with
    n = d - 1 those of the other sign. Per-example vectors out of an encoder give a full-covariance Gaussian posterior.

    Parameters: ``vectors`` [..., n, d], of any length; a vector of zeros reflects nothing.

    Args:
      dimension: d.
      num_reflections: n.
    Raises: ValueError if a size is not a positive int.
    Example:
      >>> value, log_det = Householder(2, 1).forward({"vectors": jnp.array([[2.0, 0.0]])}, jnp.array([3.0, 4.0]))
      >>> print(value, log_det)
      [-3.  4.] 0.0

    References: Tomczak & Welling 2016, eqs. 9-11.
    """

    dimension: int
    num_reflections: int = 2

    def __post_init__(self) -> None:
        check_int("Householder", "dimension", self.dimension, 1)
        check_int("Householder", "num_reflections", self.num_reflections, 1)

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Reflections in pairs that nearly undo each other: near the identity, for an odd number near one reflection."""
        keys = jax.random.split(key)
        half = jax.random.normal(keys[0], ((self.num_reflections + 1) // 2, self.dimension))
        vectors = jnp.repeat(half, 2, axis=0)[: self.num_reflections]
        return {"vectors": vectors + 0.1 * jax.random.normal(keys[1], vectors.shape)}

    def matrix(self, params: Params) -> jax.Array:
        """The orthogonal matrix Q of f(z) = Q z, [..., d, d].

        Args:
          params: ``vectors`` [..., n, d].
        Returns: [..., d, d].
        """
        vectors = params["vectors"]
        identity = jnp.broadcast_to(
            jnp.eye(self.dimension, dtype=vectors.dtype), (*vectors.shape[:-2], *[self.dimension] * 2)
        )
        return reflect_all(vectors[..., None, :, :], identity).mT

    def _forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        return reflect_all(params["vectors"], z), jnp.zeros((), z.dtype)

    def _inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        return reflect_all(params["vectors"], value, reverse=True), jnp.zeros((), value.dtype)


def reflect_all(vectors: jax.Array, z: jax.Array, *, reverse: bool = False) -> jax.Array:
    """Reflect z [..., d] at the vectors [..., n, d], first to last, or last to first."""
    square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    usable = square > _SMALLEST_SQUARE
    # the length is divided out before anything is squared again: short vectors keep finite gradients
    units = vectors * jnp.where(usable, jax.lax.rsqrt(jnp.where(usable, square, 1.0)), 0.0)

    def reflect(z: jax.Array, unit: jax.Array) -> tuple[jax.Array, None]:
        return z - 2.0 * unit * inner(unit, z)[..., None], None

    return jax.lax.scan(reflect, z, jnp.moveaxis(units, -2, 0), reverse=reverse)[0]
