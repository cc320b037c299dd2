"""The Sylvester flow: a planar flow of several directions."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from vaex.flows._base import BaseFlow, check_int
from vaex.flows._tanh import SMALLEST_GAIN, slope, tanh_root
from vaex.flows.householder import reflect_all
from vaex.flows.protocol import Params


@dataclasses.dataclass(frozen=True)
class Sylvester(BaseFlow):
    r"""A residual layer of m units: :math:`f(z) = z + Q R \tanh(\tilde R Q^\top z + b)`, with triangular factors.

    Q [d, m] has orthonormal columns: the first m of a product of n reflections. n = m reaches every such Q (up to signs,
    which R takes up), n = 0 is the triangular variant: alternate it with ``reverse``. The diagonals of R and
    :math:`\tilde R` pass through tanh, which keeps the map invertible. The inverse solves m scalar equations, the last unit
    first: both factors are upper triangular, so each unit needs only the later ones.

    Parameters: ``vectors`` [..., n, d], ``outer`` R and ``inner`` R tilde [..., m, m] (entries below the diagonal are
    ignored), ``bias`` b [..., m].

    Args:
      dimension: d.
      num_units: m, at most d.
      num_reflections: n.
    Raises: ValueError if a size is out of range.
    Example:
      >>> flow = Sylvester(3, num_units=2, num_reflections=2)
      >>> params = flow.init(jax.random.key(0))
      >>> value, log_det = flow.forward(params, jnp.ones(3))
      >>> print(jnp.round(flow.inverse(params, value)[0], 4))
      [1. 1. 1.]

    References: van den Berg et al. 2018, eqs. 9-13 and section 3.2.
    """

    dimension: int
    num_units: int
    num_reflections: int

    def __post_init__(self) -> None:
        check_int("Sylvester", "dimension", self.dimension, 1)
        check_int("Sylvester", "num_units", self.num_units, 1)
        check_int("Sylvester", "num_reflections", self.num_reflections, 0)
        if self.num_units > self.dimension:
            raise ValueError(
                f"Sylvester: num_units is {self.num_units}, expected at most dimension {self.dimension}; "
                "chain several flows for more units"
            )

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Random directions, moved a little."""
        keys = jax.random.split(key, 3)
        m = self.num_units
        return {
            "vectors": jax.random.normal(keys[0], (self.num_reflections, self.dimension)),
            "outer": 0.1 * jax.random.normal(keys[1], (m, m)) / m**0.5,
            "inner": jax.random.normal(keys[2], (m, m)) / m**0.5,
            "bias": jnp.zeros((m,)),
        }

    def basis(self, params: Params) -> jax.Array:
        """The orthonormal columns Q.

        Args:
          params: ``vectors`` [..., n, d].
        Returns: [..., d, m].
        """
        vectors = params["vectors"]
        columns = jnp.eye(self.num_units, self.dimension, dtype=vectors.dtype)
        columns = jnp.broadcast_to(columns, (*vectors.shape[:-2], *columns.shape))
        return reflect_all(vectors[..., None, :, :], columns, reverse=True).mT

    def _forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        outer, inner = _triangular(params["outer"]), _triangular(params["inner"])
        v = _multiply(inner, self._project(params, z)) + params["bias"]
        return z + self._expand(params, _multiply(outer, jnp.tanh(v))), _log_det(outer, inner, v)

    def _inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        outer, inner = _triangular(params["outer"]), _triangular(params["inner"])
        projected = self._project(params, value)
        v = _solve(outer, inner, params["bias"], projected)
        return value - self._expand(params, _multiply(outer, jnp.tanh(v))), -_log_det(outer, inner, v)

    def _project(self, params: Params, z: jax.Array) -> jax.Array:
        """Q' z."""
        return reflect_all(params["vectors"], z)[..., : self.num_units]

    def _expand(self, params: Params, y: jax.Array) -> jax.Array:
        """Q y."""
        padded = jnp.pad(y, [*[(0, 0)] * (y.ndim - 1), (0, self.dimension - self.num_units)])
        return reflect_all(params["vectors"], padded, reverse=True)


def _triangular(factor: jax.Array) -> jax.Array:
    """Upper triangular; two diagonal entries multiply to more than -1 + SMALLEST_GAIN."""
    eye = jnp.eye(factor.shape[-1], dtype=bool)
    return jnp.where(eye, (1.0 - SMALLEST_GAIN) ** 0.5 * jnp.tanh(factor), jnp.triu(factor, 1))


def _multiply(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    return jnp.einsum("...ij,...j->...i", matrix, vector, precision=jax.lax.Precision.HIGHEST)


def _diagonal(matrix: jax.Array) -> jax.Array:
    return jnp.diagonal(matrix, axis1=-2, axis2=-1)


def _log_det(outer: jax.Array, inner: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.sum(jnp.log(slope(1.0 + _diagonal(outer) * _diagonal(inner), v)), axis=-1)


def _solve(outer: jax.Array, inner: jax.Array, bias: jax.Array, projected: jax.Array) -> jax.Array:
    """v = inner y + bias with y + outer tanh(v) = projected, from the last unit to the first.

    For unit i, with the later ones known: v_i + outer_ii inner_ii tanh(v_i) = inner_ii target_i + rest_i.
    """

    def unit(
        later: tuple[jax.Array, jax.Array], at: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        y, bend = later  # zero for the units that are yet to come: they take no part in the sums
        outer_row, inner_row, bias, projected, place = at
        outer_ii, inner_ii = jnp.sum(outer_row * place, axis=-1), jnp.sum(inner_row * place, axis=-1)
        target = projected - jnp.sum(outer_row * bend, axis=-1)
        v = tanh_root(inner_ii * target + jnp.sum(inner_row * y, axis=-1) + bias, 1.0 + outer_ii * inner_ii)
        y_i = target - outer_ii * jnp.tanh(v)
        return (y + y_i[..., None] * place, bend + jnp.tanh(v)[..., None] * place), v

    zeros = jnp.zeros_like(projected)
    rows = (
        jnp.moveaxis(outer, -2, 0),
        jnp.moveaxis(inner, -2, 0),
        jnp.moveaxis(bias, -1, 0),
        jnp.moveaxis(projected, -1, 0),
    )
    places = jnp.eye(projected.shape[-1], dtype=projected.dtype)
    return jnp.moveaxis(jax.lax.scan(unit, (zeros, zeros), (*rows, places), reverse=True)[1], 0, -1)
