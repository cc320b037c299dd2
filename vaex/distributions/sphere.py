"""The unit sphere: uniform and von Mises-Fisher distributions."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions._shapes import check_leading, match_leading
from vaex.distributions._sphere_sampling import cosine_gap
from vaex.distributions.family import BaseDistribution, family, static
from vaex.ops.arrays import inner, lift, narrow
from vaex.ops.bessel import log_scaled_bessel, mean_length

_LOG_2 = math.log(2.0)


def sphere_log_area(dimension: int) -> float:
    r"""Log surface area of the unit sphere in R^dimension: :math:`\log 2\pi^{d/2}/\Gamma(d/2)`.

    Raises: ValueError if ``dimension`` is not an int of 2 or more.
    Example:
      >>> round(sphere_log_area(3), 6)  # log 4 pi
      2.531024

    References: DLMF 5.19.4.
    """
    if not isinstance(dimension, int) or dimension < 2:
        raise ValueError(
            f"sphere_log_area: dimension is {dimension}, expected an int of 2 or more; it counts the axes of the space "
            "around the sphere"
        )
    return _LOG_2 + 0.5 * dimension * math.log(math.pi) - math.lgamma(0.5 * dimension)


@family
class UniformSphere(BaseDistribution):
    """Uniform on the unit sphere of R^dimension; the event is a unit vector. The prior of a spherical autoencoder.

    Args:
      dimension: of the surrounding space, so the sphere itself has one less.
    Raises: ValueError if ``dimension`` < 2.
    Example:
      >>> print(f"{UniformSphere(3).log_prob(jnp.array([0.0, 0.0, 1.0])):.4f}")
      -2.5310

    References: Davidson et al. 2018, section 3.
    """

    dimension: int = static()

    def __post_init__(self) -> None:
        sphere_log_area(self.dimension)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """(): one distribution."""
        return ()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(dimension,)."""
        return (self.dimension,)

    @property
    def mean(self) -> jax.Array:
        """The centre of the ball."""
        return jnp.zeros(self.dimension)

    @property
    def variance(self) -> jax.Array:
        """1 / dimension, elementwise."""
        return jnp.full(self.dimension, 1.0 / self.dimension)

    def entropy(self) -> jax.Array:
        """Log surface area, in nats."""
        return jnp.asarray(sphere_log_area(self.dimension))

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return unit(jax.random.normal(key, shape))

    def _log_prob(self, value: jax.Array) -> jax.Array:
        """Log-density against surface measure; the value is assumed to be a unit vector."""
        (value,) = lift(value)
        return jnp.full(value.shape[:-1], -sphere_log_area(self.dimension), value.dtype)


@family
class VonMisesFisher(BaseDistribution):
    r"""von Mises-Fisher: density proportional to :math:`e^{\kappa\,\mu\cdot x}` on the unit sphere of R^d, any d >= 2.

    The normaliser is exact to rounding for any concentration >= 0. Samples are exact (by rejection) and carry exact
    gradients in the direction and the concentration (by implicit differentiation of the angle's distribution function).

    Args:
      loc: [*batch, d], mu, the mean direction; its length does not matter. Zeros stand for the first axis.
      concentration: kappa >= 0, a scalar or [*batch].
    Raises: ValueError if the shapes disagree or d < 2.
    Example:
      >>> d = VonMisesFisher(jnp.eye(3), 10.0)
      >>> print(*(f"{x:.4f}" for x in jnp.linalg.norm(d.mean, axis=-1)))  # coth 10 - 1/10
      0.9000 0.9000 0.9000

    References: Davidson et al. 2018, section 3 and appendices B-C; Wood 1994; Figurnov, Mohamed & Mnih 2018, eq. 5.
    """

    loc: jax.Array
    concentration: jax.Array

    def __post_init__(self) -> None:
        match_leading(self, "loc", "concentration")

    @property
    def batch_shape(self) -> tuple[int, ...]:
        check_leading(self, "loc", "concentration")
        return np.shape(self.loc)[:-1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(d,): the last axis."""
        shape = np.shape(self.loc)
        if not shape or shape[-1] < 2:
            raise ValueError(
                f"VonMisesFisher: loc has shape {shape}, expected [..., d] with d >= 2; give vectors of the "
                "surrounding space"
            )
        return shape[-1:]

    @property
    def mean(self) -> jax.Array:
        """Expected value, inside the ball: the direction times I_{d/2}(kappa) / I_{d/2-1}(kappa)."""
        direction, concentration, nu = self.lifted()
        return narrow(direction * mean_length(nu, concentration)[0][..., None], self.loc, self.concentration)

    @property
    def variance(self) -> jax.Array:
        """Elementwise: along the direction the slope of the mean length in kappa, across it the mean length over kappa."""
        direction, concentration, nu = self.lifted()
        # the slope does not cancel where kappa is large, as 1 less the length's square would
        length, slope = jax.jvp(lambda k: mean_length(nu, k)[0], (concentration,), (jnp.ones_like(concentration),))
        flat = concentration < 1e-4  # where the mean length is kappa / d, to rounding
        across = jnp.where(flat, 1.0 / self.event_shape[0], length / jnp.where(flat, 1.0, concentration))
        share = jnp.square(direction)
        total = across[..., None] * (1.0 - share) + slope[..., None] * share
        return narrow(total, self.loc, self.concentration)

    @property
    def mode(self) -> jax.Array:
        """The unit vector of the direction."""
        return narrow(self.lifted()[0], self.loc)

    def entropy(self) -> jax.Array:
        """Differential entropy against surface measure, in nats: ``[*batch_shape]``."""
        _, concentration, nu = self.lifted()
        return sphere_log_area(self.event_shape[0]) - kl_to_uniform(nu, concentration)

    def lifted(self) -> tuple[jax.Array, jax.Array, float]:
        """The unit direction, the concentration and d/2 - 1, in float32 or wider."""
        nu = 0.5 * self.event_shape[0] - 1.0
        check_leading(self, "loc", "concentration")
        direction, concentration = lift(self.loc, self.concentration)
        direction = unit(direction)
        directed = jnp.any(direction != 0, axis=-1, keepdims=True)
        first = jnp.eye(1, direction.shape[-1], dtype=direction.dtype)[0]
        return jnp.where(directed, direction, first), concentration, nu

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        direction, concentration, nu = self.lifted()
        key_angle, key_tangent = jax.random.split(key)
        gap = cosine_gap(key_angle, jnp.broadcast_to(concentration, shape[:-1]), nu)[..., None]  # 1 - cos(angle)
        noise = jax.random.normal(key_tangent, shape, direction.dtype)
        tangent = unit(_across(direction, unit(_across(direction, noise))))  # twice, lest rounding be normalised too
        value = (1.0 - gap) * direction + jnp.sqrt(gap * (2.0 - gap)) * tangent
        return narrow(value, self.loc, self.concentration)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        """Log-density against surface measure; the value is assumed to be a unit vector."""
        direction, concentration, nu = self.lifted()
        value, _ = lift(value, direction)
        gap = 0.5 * jnp.sum(jnp.square(value - direction), axis=-1)  # 1 - mu.x without cancellation
        constant = log_scaled_bessel(nu, concentration) + sphere_log_area(self.event_shape[0])
        return -concentration * gap - constant


def _across(direction: jax.Array, x: jax.Array) -> jax.Array:
    """Return the part of ``x`` at right angles to ``direction``."""
    return x - direction * inner(x, direction)[..., None]


def unit(x: jax.Array) -> jax.Array:
    """Scale ``x`` to length 1 along the last axis; a vector of zeros, which has no direction, stays zero, its gradient too."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    directed = square > float(jnp.finfo(x.dtype).tiny)
    return x * jnp.where(directed, jax.lax.rsqrt(jnp.where(directed, square, 1.0)), 0.0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def kl_to_uniform(nu: float, k: jax.Array) -> jax.Array:
    """KL of the von Mises-Fisher distribution to the uniform one, k A - k - log F; its derivative is k A'(k)."""
    return -k * mean_length(nu, k)[1] - log_scaled_bessel(nu, k)


@kl_to_uniform.defjvp
def _kl_to_uniform_jvp(nu, primals, tangents):
    (k,), (t,) = primals, tangents
    _, slope = jax.jvp(lambda x: -mean_length(nu, x)[1], (k,), (t,))
    return kl_to_uniform(nu, k), k * slope
