"""Gaussians: diagonal, with a Cholesky factor, and low rank plus diagonal."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions._base import Distribution, Elementwise, family, lift, match, narrow, static, sum_trailing

LOG_2PI = math.log(2.0 * math.pi)


def reparameterize(key: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    r"""A sample of N(mean, exp(log_scale)^2) that gradients pass through: :math:`\mu + e^{s}\varepsilon`.

    Args:
      key: a key.
      mean: [...].
      log_scale: log of the standard deviation (not of the variance), of a shape that broadcasts to the mean's or back.
    Returns: [...], in the parameters' dtype.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> reparameterize(jax.random.key(0), jnp.zeros((4, 2)), jnp.zeros((4, 2))).shape
      (4, 2)

    References: Kingma & Welling 2014, section 2.4.
    """
    return Normal(mean, log_scale, event_ndims=0).sample(key)


@family
class Normal(Elementwise):
    r"""Normal with independent elements (a diagonal Gaussian).

    Args:
      mean: [*batch, *event].
      log_scale: log of the standard deviation; broadcast to the mean's shape.
      event_ndims: how many trailing axes are one event; ``log_prob`` and ``entropy`` sum over them.
    Raises: ValueError if the shapes of ``mean`` and ``log_scale`` disagree.
    Example:
      >>> Normal(jnp.zeros((4, 2)), jnp.zeros((4, 2))).log_prob(jnp.zeros((4, 2))).shape
      (4,)

    References: Kingma & Welling 2014, appendix B.
    """

    mean: jax.Array
    log_scale: jax.Array
    event_ndims: int = static(default=1)

    def __post_init__(self) -> None:
        match(self, "mean", "log_scale")

    @property
    def mode(self) -> jax.Array:
        """The mean."""
        return self.mean

    @property
    def variance(self) -> jax.Array:
        """exp(2 log_scale), elementwise."""
        return jnp.exp(2.0 * jnp.asarray(self.log_scale))

    def entropy(self) -> jax.Array:
        """Differential entropy in nats, summed over the event axes: ``[*batch_shape]``."""
        (log_scale,) = lift(self.log_scale)
        return sum_trailing(log_scale + 0.5 * (LOG_2PI + 1.0), self.event_ndims)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        mean, log_scale = lift(self.mean, self.log_scale)
        noise = jax.random.normal(key, shape, mean.dtype)
        return narrow(mean + jnp.exp(log_scale) * noise, self.mean, self.log_scale)

    def _log_density(self, value: jax.Array) -> jax.Array:
        value, mean, log_scale = lift(value, self.mean, self.log_scale)
        return -0.5 * (jnp.square((value - mean) * jnp.exp(-log_scale)) + LOG_2PI) - log_scale


class _Correlated(Distribution):
    """Gaussians over the last axis, given by ``_whiten`` (W with W'W the precision) and ``_half_log_det``."""

    mean: jax.Array

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(d,): the last axis."""
        if np.ndim(self.mean) < 1:
            raise ValueError(f"{type(self).__name__}: mean has shape (), expected [..., d]; give a vector")
        return np.shape(self.mean)[-1:]

    @property
    def mode(self) -> jax.Array:
        """The mean."""
        return self.mean

    def _whiten(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError

    def _half_log_det(self) -> jax.Array:
        raise NotImplementedError

    def entropy(self) -> jax.Array:
        """Differential entropy in nats: ``[*batch_shape]``."""
        half = self._half_log_det() + 0.5 * self.event_shape[0] * (LOG_2PI + 1.0)
        return jnp.broadcast_to(half, self.batch_shape)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        value, mean = lift(value, self.mean)
        square = jnp.sum(jnp.square(self._whiten(value - mean)), axis=-1)
        return -0.5 * (square + self.event_shape[0] * LOG_2PI) - self._half_log_det()


@family
class MultivariateNormal(_Correlated):
    r"""Normal with covariance :math:`LL^\top`; the event is the last axis.

    Args:
      mean: [*batch, d].
      scale_tril: [*batch, d, d], L; entries above the diagonal are ignored. Only the size of a diagonal entry counts.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> MultivariateNormal(jnp.zeros(2), jnp.eye(2)).log_prob(jnp.zeros(2))
      Array(-1.837877, dtype=float32)

    References: Rezende, Mohamed & Wierstra 2014, section 4.3.
    """

    mean: jax.Array
    scale_tril: jax.Array

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes over independent distributions."""
        d, shape = self.event_shape[0], np.shape(self.scale_tril)
        if shape[-2:] != (d, d):
            raise ValueError(
                f"MultivariateNormal: scale_tril has shape {shape}, expected [..., {d}, {d}] for mean "
                f"{np.shape(self.mean)}; give the Cholesky factor"
            )
        return _batch("MultivariateNormal", mean=np.shape(self.mean)[:-1], scale_tril=shape[:-2])

    @property
    def covariance(self) -> jax.Array:
        """[*batch, d, d]."""
        tril = jnp.tril(self.scale_tril)
        return tril @ tril.mT

    @property
    def variance(self) -> jax.Array:
        """Diagonal of the covariance, ``[*batch, d]``."""
        variance = jnp.sum(jnp.square(jnp.tril(self.scale_tril)), axis=-1)
        return jnp.broadcast_to(variance, self.batch_shape + self.event_shape)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        mean, tril = lift(self.mean, self.scale_tril)
        noise = jax.random.normal(key, shape, mean.dtype)
        return narrow(mean + _apply(jnp.tril(tril), noise), self.mean, self.scale_tril)

    def _whiten(self, x: jax.Array) -> jax.Array:
        x, tril = lift(x, self.scale_tril)
        batch = tril.shape[:-2]
        leading = x.shape[: x.ndim - 1 - len(batch)]
        if leading and x.shape[len(leading) : -1] == batch:  # sample axes become columns, so L is not copied per sample
            columns = jnp.moveaxis(x.reshape(-1, *batch, x.shape[-1]), 0, -1)
            solved = jax.lax.linalg.triangular_solve(tril, columns, left_side=True, lower=True)
            return jnp.moveaxis(solved, -1, 0).reshape(x.shape)
        batch = np.broadcast_shapes(batch, x.shape[:-1])
        tril = jnp.broadcast_to(tril, batch + tril.shape[-2:])
        columns = jnp.broadcast_to(x, batch + x.shape[-1:])[..., None]
        return jax.lax.linalg.triangular_solve(tril, columns, left_side=True, lower=True)[..., 0]

    def _columns(self) -> jax.Array:
        (tril,) = lift(self.scale_tril)
        return jnp.tril(tril)

    def _half_log_det(self) -> jax.Array:
        (tril,) = lift(self.scale_tril)
        return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(tril, axis1=-2, axis2=-1))), axis=-1)


@family
class LowRankNormal(_Correlated):
    r"""Normal with covariance :math:`\mathrm{diag}(e^{2s}) + FF^\top`; the event is the last axis of the mean.

    The precision is applied as a product of r rank-one whitenings rather than by Woodbury's identity: nothing
    cancels, so nearly singular covariances give finite densities and gradients.

    Args:
      mean: [*batch, d].
      log_scale: [*batch, d], log standard deviation of the diagonal part; broadcast to the mean's shape.
      factor: [*batch, d, r].
    Raises: ValueError if the shapes disagree.
    Example:
      >>> LowRankNormal(jnp.zeros(3), jnp.zeros(3), jnp.ones((3, 1))).variance
      Array([2., 2., 2.], dtype=float32)

    References: Ong, Nott & Smith 2018, section 3.
    """

    mean: jax.Array
    log_scale: jax.Array
    factor: jax.Array

    def __post_init__(self) -> None:
        match(self, "mean", "log_scale")

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes over independent distributions."""
        d, shape = self.event_shape[0], np.shape(self.factor)
        if len(shape) < 2 or shape[-2] != d:
            raise ValueError(
                f"LowRankNormal: factor has shape {shape}, expected [..., {d}, r] for mean {np.shape(self.mean)}; "
                "its columns are directions in the event space"
            )
        return _batch("LowRankNormal", mean=np.shape(self.mean)[:-1], factor=shape[:-2])

    @property
    def covariance(self) -> jax.Array:
        """[*batch, d, d]."""
        factor = jnp.asarray(self.factor)
        diagonal = jnp.exp(2.0 * jnp.asarray(self.log_scale))[..., None] * jnp.eye(
            self.event_shape[0], dtype=factor.dtype
        )
        return factor @ factor.mT + diagonal

    @property
    def variance(self) -> jax.Array:
        """Diagonal of the covariance, ``[*batch, d]``."""
        return jnp.exp(2.0 * jnp.asarray(self.log_scale)) + jnp.sum(jnp.square(jnp.asarray(self.factor)), axis=-1)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        mean, log_scale, factor = lift(self.mean, self.log_scale, self.factor)
        keys = jax.random.split(key)
        noise = jax.random.normal(keys[0], shape, mean.dtype)
        weights = jax.random.normal(keys[1], shape[:-1] + factor.shape[-1:], mean.dtype)
        value = mean + jnp.exp(log_scale) * noise + _apply(factor, weights)
        return narrow(value, self.mean, self.log_scale, self.factor)

    def _reflections(self) -> tuple[jax.Array, jax.Array]:
        """Directions g_j [r, ..., d] and squared norms n_j [r, ...]: (I + g g')^(-1/2) = I - g g' / (s (s + 1)).

        Column j is whitened by the earlier ones before it is used; s = sqrt(1 + n), with no singularity at g = 0.
        """
        log_scale, factor = lift(self.log_scale, self.factor)
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
        log_scale, factor = lift(self.log_scale, self.factor)
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
    along = jnp.sum(x * direction, axis=-1, keepdims=True)
    return x - direction * (along / (root * (root + 1.0)))


def _batch(name: str, **shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        got = ", ".join(f"{field} {shape}" for field, shape in shapes.items())
        raise ValueError(f"{name}: got batch shapes {got}, expected ones that broadcast; align the axes") from None


def _apply(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """Matrix times vector in full precision: an accelerator's default would round the sample to bfloat16."""
    return jnp.einsum("...ij,...j->...i", matrix, vector, precision=jax.lax.Precision.HIGHEST)
