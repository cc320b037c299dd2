"""The unit sphere: uniform and von Mises-Fisher distributions."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions._shapes import check_leading, match_leading
from vaex.distributions.family import BaseDistribution, family, static
from vaex.ops.arrays import inner, lift, narrow
from vaex.ops.bessel import log_scaled_bessel, mean_length

_LOG_2 = math.log(2.0)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_DECAY = 40.0  # the tail is integrated until it has fallen by e^-40, below float64's rounding


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


# --- exact samples of the angle to a von Mises-Fisher direction, with exact gradients in the concentration -----------


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _attach(gap: jax.Array, k: jax.Array, nu: float) -> jax.Array:
    """``gap`` itself, whose derivative in k is that of the quantile function at a fixed probability."""
    return gap


@_attach.defjvp
def _attach_jvp(nu, primals, tangents):
    gap, k = primals
    return gap, _slope(gap, k, nu) * tangents[1]


def cosine_gap(key: jax.Array, k: jax.Array, nu: float) -> jax.Array:
    """1 - cos(angle) between a sample and the direction, for concentrations k and d = 2 nu + 2, elementwise."""
    gap = jax.lax.stop_gradient(_reject(key, jax.lax.stop_gradient(k), round(2 * nu + 2)))
    return _attach(gap, k, nu)


def _reject(key: jax.Array, k: jax.Array, dimension: int) -> jax.Array:
    """Wood's (1994) algorithm VM*, in terms of 1 - cos so that it keeps its digits at high concentration.

    About two thirds of the proposals are accepted in any dimension, and a NaN always, lest the loop never end.
    """
    below = dimension - 1.0
    b = below / (2.0 * k + jnp.sqrt(4.0 * k * k + below * below))
    x0_gap, x0 = 2.0 * b / (1.0 + b), (1.0 - b) / (1.0 + b)
    log_normal = jnp.log(4.0 * b) - 2.0 * jnp.log1p(b)  # log(1 - x0^2)
    tiny = float(jnp.finfo(k.dtype).tiny)

    def propose(carry):
        key, gap, done = carry
        key, key_beta, key_accept = jax.random.split(key, 3)
        z = _beta(key_beta, k.shape, dimension, k.dtype)
        proposal = jnp.clip(2.0 * b * z / (1.0 - (1.0 - b) * z), tiny, 2.0 - 4.0 * float(jnp.finfo(k.dtype).epsneg))
        log_accept = k * (x0_gap - proposal) + below * (jnp.log(x0_gap + x0 * proposal) - log_normal)
        uniform = jax.random.uniform(key_accept, k.shape, k.dtype, minval=tiny)
        accepted = ~(log_accept < jnp.log(uniform))
        return key, jnp.where(done, gap, proposal), done | accepted

    start = (key, jnp.ones_like(k), jnp.zeros(k.shape, bool))
    return jax.lax.while_loop(lambda carry: ~jnp.all(carry[2]), propose, start)[1]


def _beta(key: jax.Array, shape: tuple[int, ...], dimension: int, dtype) -> jax.Array:
    """Beta((d-1)/2, (d-1)/2): (1 + t) / 2 for a coordinate t of a uniform point on the sphere, exact near 0."""
    normal = jax.random.normal(key, (*shape, dimension), dtype)
    first, rest = normal[..., 0], jnp.sum(jnp.square(normal[..., 1:]), axis=-1)
    length = jnp.sqrt(jnp.square(first) + rest)
    return jnp.where(first < 0, rest / (length - jnp.minimum(first, 0.0)), length + jnp.maximum(first, 0.0)) / (
        2.0 * length
    )


def _slope(gap: jax.Array, k: jax.Array, nu: float) -> jax.Array:
    """d gap / d k at a fixed value of the distribution function.

    The angle has density f ~ e^(k cos t) sin(t)^(d-2), so d angle / dk = (integral of (A - cos) f up to it) / f there,
    or minus the integral beyond it, as the whole vanishes. The tail on the far side of the mode is taken: it decays.
    """
    power = 2.0 * nu  # d - 2
    angle = 2.0 * jnp.arcsin(jnp.sqrt(0.5 * jnp.minimum(gap, 2.0)))
    sine, cosine = jnp.sin(angle), 1.0 - gap
    push = k * sine * sine - power * cosine  # sin(t) times the slope of -log f: positive beyond the mode
    above = push >= 0
    safe = jnp.maximum(sine, float(jnp.finfo(gap.dtype).tiny) ** 0.25)
    steepness = jnp.abs(push) / safe
    curvature = jnp.maximum(k * cosine + power / (safe * safe), 0.0)
    reach = 2.0 * _DECAY / (steepness + jnp.sqrt(steepness * steepness + 2.0 * _DECAY * curvature) + 1e-6)
    reach = jnp.minimum(reach, jnp.where(above, jnp.pi - angle, angle))
    offset = jnp.asarray(0.5 + 0.5 * _NODES, gap.dtype) * reach[..., None]
    t = angle[..., None] + jnp.where(above[..., None], offset, -offset)
    drop = 2.0 * jnp.square(jnp.sin(0.5 * t)) - gap[..., None]  # cos(angle) - cos(t)
    log_ratio = -k[..., None] * drop
    if power > 0:
        log_ratio = log_ratio + power * jnp.log(jnp.maximum(jnp.sin(t), 0.0) / safe[..., None])
    centred = 2.0 * jnp.square(jnp.sin(0.5 * t)) - mean_length(nu, k)[1][..., None]  # A - cos(t)
    weights = jnp.asarray(0.5 * _WEIGHTS, gap.dtype)
    integral = reach * jnp.sum(weights * centred * jnp.exp(log_ratio), axis=-1)
    return sine * jnp.where(above, -integral, integral)
