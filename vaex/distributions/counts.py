"""Distributions of counts: Poisson, and negative binomial, a Poisson whose rate varies."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from vaex.distributions.family import Elementwise, family, static
from vaex.ops.arrays import lift, narrow
from vaex.ops.scalars import softplus


@family
class Poisson(Elementwise):
    r"""Poisson with independent elements: :math:`p(k) = \lambda^k e^{-\lambda} / k!`.

    Computed from Stirling's error and deviance, so that large counts lose no digits in float32.

    Args:
      log_rate: [*batch, *event], logarithm of the rate.
      event_ndims: how many trailing axes are one event; ``log_prob`` sums over them.
      unit: what a count of 1 is in values; data that is stored as counts over the largest one has its reciprocal.
    Example:
      >>> print(f"{Poisson(jnp.zeros(2)).log_prob(jnp.array([0.0, 3.0])):.4f}")
      -3.7918

    References: Loader 2000, Fast and accurate computation of binomial probabilities, section 4.
    """

    log_rate: jax.Array
    event_ndims: int = static(default=1)
    unit: float = static(default=1.0)

    @property
    def mean(self) -> jax.Array:
        """Expected value, elementwise."""
        (log_rate,) = lift(self.log_rate)
        return narrow(self.unit * jnp.exp(log_rate), self.log_rate)

    @property
    def mode(self) -> jax.Array:
        """Largest of the most likely values, elementwise."""
        (log_rate,) = lift(self.log_rate)
        return narrow(self.unit * jnp.floor(jnp.exp(log_rate)), self.log_rate)

    @property
    def variance(self) -> jax.Array:
        """Variance, elementwise."""
        (log_rate,) = lift(self.log_rate)
        return narrow(self.unit**2 * jnp.exp(log_rate), self.log_rate)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        (log_rate,) = lift(self.log_rate)
        counts = jax.random.poisson(key, jnp.exp(log_rate), shape).astype(log_rate.dtype)
        return narrow(self.unit * counts, self.log_rate)

    def _log_density(self, value: jax.Array) -> jax.Array:
        log_rate, value = jnp.broadcast_arrays(*lift(self.log_rate, value))
        count, rate = jnp.round(value / self.unit), jnp.exp(log_rate)
        k = jnp.maximum(count, 1.0)  # that of 0 is below
        log_probability = (
            -_deviance(k, rate - k, log_rate - jnp.log(k)) - 0.5 * jnp.log(2.0 * math.pi * k) - _stirling_error(k)
        )
        return jnp.where(count == 0, -rate, log_probability)


@family
class NegativeBinomial(Elementwise):
    r"""Negative binomial with independent elements, by mean and dispersion.

    A Poisson whose rate follows a gamma distribution of mean :math:`\mu` and variance :math:`\alpha \mu^2`, so that counts have
    the variance :math:`\mu + \alpha \mu^2`; with dispersion :math:`\alpha \to 0` it is Poisson.

    Args:
      log_mean: [*batch, *event], logarithm of the mean.
      log_dispersion: logarithm of alpha, of a shape that broadcasts with it.
      event_ndims: how many trailing axes are one event; ``log_prob`` sums over them.
      unit: as of ``Poisson``.
    Example:
      >>> geometric = NegativeBinomial(jnp.zeros(1), jnp.zeros(1))  # alpha = 1
      >>> print(f"{geometric.log_prob(jnp.array([2.0])) / jnp.log(2.0):.4f}")
      -3.0000

    References: Loader 2000, sections 3 and 6; Lopez et al. 2018 (scVI), for the parameters.
    """

    log_mean: jax.Array
    log_dispersion: jax.Array
    event_ndims: int = static(default=1)
    unit: float = static(default=1.0)

    def __post_init__(self) -> None:
        mean, dispersion = jnp.asarray(self.log_mean), jnp.asarray(self.log_dispersion)
        if mean.shape != dispersion.shape:
            mean, dispersion = jnp.broadcast_arrays(mean, dispersion)
            object.__setattr__(self, "log_mean", mean)
            object.__setattr__(self, "log_dispersion", dispersion)

    @property
    def mean(self) -> jax.Array:
        """Expected value, elementwise."""
        (log_mean,) = lift(self.log_mean)
        return narrow(self.unit * jnp.exp(log_mean), self.log_mean)

    @property
    def mode(self) -> jax.Array:
        """Most likely value, elementwise: the whole part of mean (1 - dispersion), or 0."""
        log_mean, log_dispersion = lift(self.log_mean, self.log_dispersion)
        count = jnp.floor(jnp.exp(log_mean) * -jnp.expm1(log_dispersion))
        return narrow(self.unit * jnp.maximum(count, 0.0), self.log_mean)

    @property
    def variance(self) -> jax.Array:
        """Variance, elementwise."""
        log_mean, log_dispersion = lift(self.log_mean, self.log_dispersion)
        return narrow(self.unit**2 * (jnp.exp(log_mean) + jnp.exp(log_dispersion + 2.0 * log_mean)), self.log_mean)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        log_mean, log_dispersion = lift(self.log_mean, self.log_dispersion)
        rate_key, count_key = jax.random.split(key)
        log_gamma = jax.random.loggamma(rate_key, jnp.exp(-log_dispersion), shape, log_mean.dtype)
        rate = jnp.exp(log_gamma + log_dispersion + log_mean)
        counts = jax.random.poisson(count_key, rate, shape).astype(log_mean.dtype)
        return narrow(self.unit * counts, self.log_mean)

    def _log_density(self, value: jax.Array) -> jax.Array:
        log_mean, log_dispersion, value = jnp.broadcast_arrays(*lift(self.log_mean, self.log_dispersion, value))
        count, mean, r = jnp.round(value / self.unit), jnp.exp(log_mean), jnp.exp(-log_dispersion)
        k = jnp.maximum(count, 1.0)  # that of 0 is below
        # a binomial with r successes in r + k draws, times r / (r + k); log_share: log of r / (r + mean)
        log_share = -softplus(log_mean + log_dispersion)
        log_other = -softplus(-log_mean - log_dispersion)
        log_draws = jnp.log(r + k)
        away = jnp.exp(log_share) * (k - mean)  # of the expected successes from r
        log_probability = (
            _stirling_error(r + k)
            - _stirling_error(r)
            - _stirling_error(k)
            - _deviance(r, away, log_draws + log_share + log_dispersion)
            - _deviance(k, -away, log_draws + log_other - jnp.log(k))
            - 0.5 * (math.log(2.0 * math.pi) + jnp.log(k) + log_draws + log_dispersion)
        )
        return jnp.where(count == 0, r * log_share, log_probability)


def _deviance(a: jax.Array, difference: jax.Array, log_ratio: jax.Array) -> jax.Array:
    """Return a log(a / b) + b - a for difference = b - a and log_ratio = log(b / a); exact where a is near b too."""
    change = difference / a
    near = jnp.abs(change) < 0.5
    log_change = jnp.where(near, jnp.log1p(jnp.where(near, change, 0.0)), log_ratio)
    return a * (change - log_change)


def _stirling_error(x: ArrayLike) -> jax.Array:
    """Return log Gamma(x + 1) less Stirling's approximation x log x - x + log(2 pi x) / 2, for x > 0."""
    x = jnp.asarray(x)
    small = x < 8.0
    low, high = jnp.where(small, x, 1.0), jnp.where(small, 8.0, x)
    direct = gammaln(low + 1.0) - (low + 0.5) * jnp.log(low) + low - 0.5 * math.log(2.0 * math.pi)
    series = (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * high**2)) / high**2) / high
    return jnp.where(small, direct, series)
