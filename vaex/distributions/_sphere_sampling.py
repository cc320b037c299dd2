"""Exact samples of the angle to a von Mises-Fisher direction, with exact gradients in the concentration."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vaex.ops.bessel import mean_length

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_DECAY = 40.0  # the tail is integrated until it has fallen by e^-40, below float64's rounding


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
