"""Normal with a covariance of low rank plus diagonal."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.distributions._location_scale import UNSET, Unset, resolve_log_scale, set_fields
from vaex.distributions._shapes import align, match
from vaex.distributions.family import family
from vaex.distributions.multivariate import Correlated, common_batch, multiply
from vaex.ops.arrays import inner, lift, narrow


@family
class LowRankNormal(Correlated):
    r"""Normal with covariance :math:`\mathrm{diag}(e^{2s}) + FF^\top`; the event is the last axis of ``loc``.

    The precision is applied as a product of r rank-one whitenings rather than by Woodbury's identity: nothing
    cancels, so nearly singular covariances give finite densities and gradients.

    Args:
      loc: [*batch, d], the mean.
      cov_factor: [*batch, d, r], F.
      scale: [*batch, d], standard deviation of the diagonal part, :math:`e^s`; broadcast to the shape of ``loc``.
      log_scale: s, instead of ``scale``; the field that is stored.
    Raises: ValueError if the shapes disagree, or unless exactly one of ``scale`` and ``log_scale`` is given.
    Example:
      >>> LowRankNormal(jnp.zeros(3), jnp.ones((3, 1)), scale=1.0).variance
      Array([2., 2., 2.], dtype=float32)

    References: Ong, Nott & Smith 2018, section 3.
    """

    loc: jax.Array
    log_scale: jax.Array
    cov_factor: jax.Array

    def __init__(
        self,
        loc: ArrayLike,
        cov_factor: ArrayLike,
        *,
        scale: ArrayLike | Unset = UNSET,
        log_scale: ArrayLike | Unset = UNSET,
    ) -> None:
        log_scale = resolve_log_scale("LowRankNormal", scale, log_scale, "loc, cov_factor, scale=...")
        set_fields(self, loc=loc, log_scale=log_scale, cov_factor=cov_factor)
        match(self, "loc", "log_scale")
        align(self, loc=1, log_scale=1, cov_factor=2)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        d, shape = self.event_shape[0], np.shape(self.cov_factor)
        if len(shape) < 2 or shape[-2] != d:
            raise ValueError(
                f"LowRankNormal: cov_factor has shape {shape}, expected [..., {d}, r] for loc {np.shape(self.loc)}; "
                "its columns are directions in the event space"
            )
        return common_batch("LowRankNormal", loc=np.shape(self.loc)[:-1], cov_factor=shape[:-2])

    @property
    def covariance(self) -> jax.Array:
        """[*batch, d, d]."""
        columns = self._columns()
        return narrow(jnp.matmul(columns, columns.mT, precision=jax.lax.Precision.HIGHEST), self.loc, self.cov_factor)

    @property
    def variance(self) -> jax.Array:
        """Diagonal of the covariance, ``[*batch, d]``."""
        variance = jnp.exp(2.0 * jnp.asarray(self.log_scale)) + jnp.sum(
            jnp.square(jnp.asarray(self.cov_factor)), axis=-1
        )
        return jnp.broadcast_to(variance, self.batch_shape + self.event_shape)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        loc, log_scale, factor = lift(self.loc, self.log_scale, self.cov_factor)
        keys = jax.random.split(key)
        noise = jax.random.normal(keys[0], shape, loc.dtype)
        weights = jax.random.normal(keys[1], shape[:-1] + factor.shape[-1:], loc.dtype)
        value = loc + jnp.exp(log_scale) * noise + multiply(factor, weights)
        return narrow(value, self.loc, self.log_scale, self.cov_factor)

    def _reflections(self) -> tuple[jax.Array, jax.Array]:
        """Directions g_j [r, ..., d] and squared norms n_j [r, ...]: (I + g g')^(-1/2) = I - g g' / (s (s + 1)).

        Column j is whitened by the earlier ones before it is used; s = sqrt(1 + n), with no singularity at g = 0.
        """
        log_scale, factor = lift(self.log_scale, self.cov_factor)
        columns = jnp.moveaxis(jnp.exp(-log_scale)[..., None] * factor, -1, 0)
        directions = []
        for j in range(columns.shape[0]):
            direction = columns[j]
            directions.append(direction)
            columns = _shrink(columns, direction)
        stacked = jnp.stack(directions) if directions else columns
        return stacked, jnp.sum(jnp.square(stacked), axis=-1)

    def _whiten(self, x: jax.Array) -> jax.Array:
        x, log_scale = lift(x, self.log_scale)
        x = x * jnp.exp(-log_scale)
        for direction in self._reflections()[0]:
            x = _shrink(x, direction)
        return x

    def _columns(self) -> jax.Array:
        log_scale, factor = lift(self.log_scale, self.cov_factor)
        batch = self.batch_shape
        diagonal = jnp.exp(log_scale)[..., None] * jnp.eye(self.event_shape[0], dtype=factor.dtype)
        parts = [jnp.broadcast_to(x, batch + x.shape[-2:]) for x in (diagonal, factor)]
        return jnp.concatenate(parts, axis=-1)

    def _half_log_det(self) -> jax.Array:
        (log_scale,) = lift(self.log_scale)
        return jnp.sum(log_scale, axis=-1) + 0.5 * jnp.sum(jnp.log1p(self._reflections()[1]), axis=0)


def _shrink(x: jax.Array, direction: jax.Array) -> jax.Array:
    """(I + g g')^(-1/2) x, along the last axis."""
    root = jnp.sqrt(1.0 + jnp.sum(jnp.square(direction), axis=-1, keepdims=True))
    along = inner(x, direction)[..., None]
    return x - direction * (along / (root * (root + 1.0)))
