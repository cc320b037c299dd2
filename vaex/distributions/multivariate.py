"""Normal with a full covariance, by its Cholesky factor."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions._shapes import align
from vaex.distributions.family import BaseDistribution, family
from vaex.distributions.gaussian import LOG_2PI
from vaex.ops.arrays import lift, narrow


class Correlated(BaseDistribution):
    """Gaussians over the last axis, given by ``_whiten`` (W with W'W the precision) and ``_half_log_det``."""

    loc: jax.Array

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(d,): the last axis."""
        if np.ndim(self.loc) < 1:
            raise ValueError(f"{type(self).__name__}: loc has shape (), expected [..., d]; give a vector")
        return np.shape(self.loc)[-1:]

    @property
    def mean(self) -> jax.Array:
        """The location."""
        return self.loc

    @property
    def mode(self) -> jax.Array:
        """The location."""
        return self.loc

    def _whiten(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError

    def _half_log_det(self) -> jax.Array:
        raise NotImplementedError

    def entropy(self) -> jax.Array:
        """Differential entropy in nats: ``[*batch_shape]``."""
        half = self._half_log_det() + 0.5 * self.event_shape[0] * (LOG_2PI + 1.0)
        return jnp.broadcast_to(half, self.batch_shape)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        value, loc = lift(value, self.loc)
        square = jnp.sum(jnp.square(self._whiten(value - loc)), axis=-1)
        return -0.5 * (square + self.event_shape[0] * LOG_2PI) - self._half_log_det()


@family
class MultivariateNormal(Correlated):
    r"""Normal with covariance :math:`LL^\top`; the event is the last axis.

    Args:
      loc: [*batch, d], the mean.
      scale_tril: [*batch, d, d], L, by keyword, lest a covariance be taken for it. Entries above the diagonal are
        ignored; only the size of a diagonal entry counts.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> print(f"{MultivariateNormal(jnp.zeros(2), scale_tril=jnp.eye(2)).log_prob(jnp.zeros(2)):.4f}")
      -1.8379

    References: Rezende, Mohamed & Wierstra 2014, section 4.3.
    """

    loc: jax.Array
    scale_tril: jax.Array = dataclasses.field(kw_only=True)

    def __post_init__(self) -> None:
        align(self, loc=1, scale_tril=2)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        d, shape = self.event_shape[0], np.shape(self.scale_tril)
        if shape[-2:] != (d, d):
            raise ValueError(
                f"MultivariateNormal: scale_tril has shape {shape}, expected [..., {d}, {d}] for loc "
                f"{np.shape(self.loc)}; give the Cholesky factor"
            )
        return common_batch("MultivariateNormal", loc=np.shape(self.loc)[:-1], scale_tril=shape[:-2])

    @property
    def covariance(self) -> jax.Array:
        """[*batch, d, d]."""
        tril = jnp.tril(self.scale_tril)
        covariance = jnp.matmul(tril, tril.mT, precision=jax.lax.Precision.HIGHEST)
        return jnp.broadcast_to(covariance, self.batch_shape + covariance.shape[-2:])

    @property
    def variance(self) -> jax.Array:
        """Diagonal of the covariance, ``[*batch, d]``."""
        variance = jnp.sum(jnp.square(jnp.tril(self.scale_tril)), axis=-1)
        return jnp.broadcast_to(variance, self.batch_shape + self.event_shape)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        loc, tril = lift(self.loc, self.scale_tril)
        noise = jax.random.normal(key, shape, loc.dtype)
        return narrow(loc + multiply(jnp.tril(tril), noise), self.loc, self.scale_tril)

    def _whiten(self, x: jax.Array) -> jax.Array:
        x, tril = lift(x, self.scale_tril)
        if math.prod(tril.shape[:-2]) == 1:
            tril = tril.reshape(tril.shape[-2:])
        batch = tril.shape[:-2]
        leading = x.shape[: x.ndim - 1 - len(batch)]
        if leading and x.shape[len(leading) : -1] == batch:  # sample axes become columns, so L is not copied per sample
            columns = jnp.moveaxis(x.reshape(-1, *batch, x.shape[-1]), 0, -1)
            solved = jax.lax.linalg.triangular_solve(tril, columns, left_side=True, lower=True)
            return jnp.moveaxis(solved, -1, 0).reshape(x.shape)
        batch = jnp.broadcast_shapes(batch, x.shape[:-1])
        tril = jnp.broadcast_to(tril, batch + tril.shape[-2:])
        columns = jnp.broadcast_to(x, batch + x.shape[-1:])[..., None]
        return jax.lax.linalg.triangular_solve(tril, columns, left_side=True, lower=True)[..., 0]

    def _columns(self) -> jax.Array:
        (tril,) = lift(self.scale_tril)
        return jnp.tril(tril)

    def _half_log_det(self) -> jax.Array:
        (tril,) = lift(self.scale_tril)
        return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(tril, axis1=-2, axis2=-1))), axis=-1)


def common_batch(name: str, **shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The batch shape that the fields' batch shapes broadcast to."""
    try:
        return jnp.broadcast_shapes(*shapes.values())
    except ValueError:
        got = ", ".join(f"{field} {shape}" for field, shape in shapes.items())
        raise ValueError(f"{name}: got batch shapes {got}, expected ones that broadcast; align the axes") from None


def multiply(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Matrix times vector in full precision: an accelerator's default would round the sample to bfloat16."""
    return jnp.einsum("...ij,...j->...i", matrix, vector, precision=jax.lax.Precision.HIGHEST)
