"""Student's t, and log-normal."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from vaex.distributions._location_scale import UNSET, LocationScale, Unset, set_location_scale
from vaex.distributions._shapes import match
from vaex.distributions.family import family, static
from vaex.ops.arrays import lift, narrow


@family
class StudentT(LocationScale):
    r"""Student's t with independent elements: density :math:`\propto (1 + ((x - \mu) / s)^2 / \nu)^{-(\nu + 1) / 2} / s`.

    Args:
      loc: [*batch, *event], :math:`\mu`.
      scale: s, positive; broadcast to the shape of ``loc``. The variance is s^2 nu / (nu - 2).
      log_scale: log s, instead of ``scale``; the field that is stored.
      df: degrees of freedom :math:`\nu`, positive, of a shape that broadcasts with ``loc``.
      event_ndims: how many trailing axes are one event; ``log_prob`` sums over them.
    Raises: ValueError if the shapes disagree, or unless exactly one of ``scale`` and ``log_scale`` is given.
    Example:
      >>> print(f"{StudentT(jnp.zeros(1), 1.0, df=1.0).log_prob(jnp.ones(1)):.4f}")  # Cauchy: log(1 / 2 pi)
      -1.8379

    References: Johnson, Kotz & Balakrishnan 1995, chapter 28.
    """

    loc: jax.Array
    log_scale: jax.Array
    df: jax.Array
    event_ndims: int = static(default=1)

    def __init__(
        self,
        loc: ArrayLike,
        scale: ArrayLike | Unset = UNSET,
        *,
        df: ArrayLike,
        log_scale: ArrayLike | Unset = UNSET,
        event_ndims: int = 1,
    ) -> None:
        set_location_scale(self, loc, scale, log_scale, df=df, event_ndims=event_ndims)
        match(self, "loc", "log_scale", "df")

    @property
    def variance(self) -> jax.Array:
        """s^2 nu / (nu - 2), elementwise; infinite where nu is 2 or less."""
        log_scale, df = lift(self.log_scale, self.df)
        finite = df > 2.0
        ratio = jnp.where(finite, df / jnp.where(finite, df - 2.0, 1.0), jnp.inf)
        return narrow(jnp.exp(2.0 * log_scale) * ratio, self.loc, self.log_scale)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        loc, log_scale, df = lift(self.loc, self.log_scale, self.df)
        noise = jax.random.t(key, df, shape, loc.dtype)
        return narrow(loc + jnp.exp(log_scale) * noise, self.loc, self.log_scale)

    def _log_density(self, value: jax.Array) -> jax.Array:
        value, loc, log_scale, df = lift(value, self.loc, self.log_scale, self.df)
        squared = jnp.square((value - loc) * jnp.exp(-log_scale))
        normaliser = gammaln(0.5 * (df + 1.0)) - gammaln(0.5 * df) - 0.5 * jnp.log(math.pi * df) - log_scale
        return normaliser - 0.5 * (df + 1.0) * jnp.log1p(squared / df)


@family
class LogNormal(LocationScale):
    r"""Log-normal with independent elements: the logarithm of a value is normal, of mean ``loc`` and deviation ``scale``.

    Args:
      loc: [*batch, *event], of the logarithm.
      scale: positive, of the logarithm; broadcast to the shape of ``loc``.
      log_scale: its logarithm, instead of ``scale``; the field that is stored.
      event_ndims: how many trailing axes are one event; ``log_prob`` sums over them.
    Raises: ValueError if the shapes disagree, or unless exactly one of ``scale`` and ``log_scale`` is given.
    Example:
      >>> print(f"{LogNormal(jnp.zeros(1), 1.0).log_prob(jnp.ones(1)):.4f}")
      -0.9189

    References: Johnson, Kotz & Balakrishnan 1994, chapter 14.
    """

    loc: jax.Array
    log_scale: jax.Array
    event_ndims: int = static(default=1)

    def __init__(
        self,
        loc: ArrayLike,
        scale: ArrayLike | Unset = UNSET,
        *,
        log_scale: ArrayLike | Unset = UNSET,
        event_ndims: int = 1,
    ) -> None:
        set_location_scale(self, loc, scale, log_scale, event_ndims=event_ndims)

    @property
    def mean(self) -> jax.Array:
        """exp(loc + scale^2 / 2), elementwise."""
        loc, log_scale = lift(self.loc, self.log_scale)
        return narrow(jnp.exp(loc + 0.5 * jnp.exp(2.0 * log_scale)), self.loc, self.log_scale)

    @property
    def median(self) -> jax.Array:
        """exp(loc), elementwise."""
        (loc,) = lift(self.loc)
        return narrow(jnp.exp(loc), self.loc, self.log_scale)

    @property
    def mode(self) -> jax.Array:
        """exp(loc - scale^2), elementwise."""
        loc, log_scale = lift(self.loc, self.log_scale)
        return narrow(jnp.exp(loc - jnp.exp(2.0 * log_scale)), self.loc, self.log_scale)

    @property
    def variance(self) -> jax.Array:
        """(exp(scale^2) - 1) times the square of the mean, elementwise."""
        loc, log_scale = lift(self.loc, self.log_scale)
        square = jnp.exp(2.0 * log_scale)
        return narrow(jnp.expm1(square) * jnp.exp(2.0 * loc + square), self.loc, self.log_scale)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        loc, log_scale = lift(self.loc, self.log_scale)
        noise = jax.random.normal(key, shape, loc.dtype)
        return narrow(jnp.exp(loc + jnp.exp(log_scale) * noise), self.loc, self.log_scale)

    def _log_density(self, value: jax.Array) -> jax.Array:
        value, loc, log_scale = lift(value, self.loc, self.log_scale)
        log_value = jnp.log(value)
        standard = (log_value - loc) * jnp.exp(-log_scale)
        return -0.5 * jnp.square(standard) - 0.5 * math.log(2.0 * math.pi) - log_scale - log_value
