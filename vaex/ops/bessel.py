"""Modified Bessel functions of the first kind in the combinations that the von Mises-Fisher distribution needs.

With nu = d/2 - 1: the ratio A = I_{nu+1}(k) / I_nu(k), which is the mean length, and
log F = log(I_nu(k) k^-nu 2^nu Gamma(nu + 1)) - k, which is 0 at k = 0. Orders are raised to at least 50, where Debye's
expansion is exact to rounding for every k, and brought down by the stable recurrence; below k = 1 + nu it runs in terms
of k, above in terms of 1/k, so that neither A nor 1 - A nor a derivative cancels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp

from vaex.ops.platforms import unroll
from vaex.ops.scalars import polynomial

_LEAST_ORDER = 50.0
_TERMS = 10


@functools.cache
def _debye() -> tuple[list[list[float]], list[list[float]]]:
    """Polynomials in p^2: U_k / p^k, and W_k / p^(k-1) with W_k = U_{k-1}/2 + p U'_{k-1} (DLMF 10.41.9-11).

    V_k = U_k - p (1 - p^2) W_k.
    """
    polynomials = [[Fraction(1)]]
    for k in range(_TERMS):
        following = [Fraction(0)] * (k + 2)
        for i, c in enumerate(polynomials[-1]):  # the term in p^n with n = k + 2 i
            n = k + 2 * i  # U_{k+1} = p^2 (1 - p^2) U'_k / 2 + (integral of (1 - 5 t^2) U_k over [0, p]) / 8
            following[i] += c * n / 2 + c / (8 * (n + 1))
            following[i + 1] += -c * n / 2 - 5 * c / (8 * (n + 3))
        polynomials.append(following)
    slopes = [[c * (Fraction(1, 2) + k + 2 * i) for i, c in enumerate(u)] for k, u in enumerate(polynomials[:-1])]
    return [list(map(float, u)) for u in polynomials], [list(map(float, w)) for w in slopes]


def _raised(nu: float) -> tuple[int, float]:
    """How many steps of the recurrence, and the order N = nu + steps that Debye's expansion is used at."""
    steps = max(0, math.ceil(_LEAST_ORDER - nu))
    return steps, nu + steps


def _sums(order: float, p: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum of U_k / N^k, and of W_k / N^k."""
    u, w = _debye()
    square, step = p * p, p / order
    totals = []
    for polynomials in (u, w):
        total = jnp.zeros_like(p)
        for coefficients in reversed(polynomials):
            total = total * step + polynomial(coefficients, square)
        totals.append(total)
    return totals[0], totals[1] / order


def _descend(step: Callable[[jax.Array, jax.Array], jax.Array], start: jax.Array, nu: float) -> jax.Array:
    """Apply step(carry, j) for the orders j = N, N - 1, ..., nu + 1."""
    steps, order = _raised(nu)
    orders = order - jnp.arange(steps, dtype=start.dtype)
    return jax.lax.scan(lambda carry, j: (step(carry, j), None), start, orders, unroll=unroll(steps, most=64))[0]


def _ratio_below(nu: float, k: jax.Array) -> jax.Array:
    """A / k, from s_j = 2 (j + 1) I_{j+1} / (k I_j): s_j = 1 / (1 + k^2 s_{j+1} / (4 (j + 1) (j + 2)))."""
    order = _raised(nu)[1]
    root = jnp.sqrt(order * order + k * k)
    u, w = _sums(order, order / root)
    s = 2.0 * (order + 1.0) * (1.0 / (root + order) - order / (root * root) * w / u)
    s = _descend(lambda s, j: 1.0 / (1.0 + k * k * s / (4.0 * j * (j + 1.0))), s, nu)
    return s / (2.0 * (nu + 1.0))


def _complement_above(nu: float, inverse: jax.Array) -> jax.Array:
    """1 - A from 1/k, by b_j = (c - b_{j+1}) / (1 + c - b_{j+1}) with c = 2 (j + 1) / k."""
    order = _raised(nu)[1]
    t = order * inverse
    q = jnp.sqrt(1.0 + t * t)
    u, w = _sums(order, t / q)
    b = (t + t * t / (1.0 + q)) / (t + q) + t / (q * q) * w / u
    return _descend(lambda b, j: (2.0 * j * inverse - b) / (1.0 + 2.0 * j * inverse - b), b, nu)


def mean_length(nu: float, k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A and 1 - A, each to its own precision, elementwise."""
    below = k < 1.0 + nu
    low = jnp.where(below, k, 0.0)
    small = low * _ratio_below(nu, low)
    complement = _complement_above(nu, 1.0 / jnp.where(below, 1.0 + nu, k))
    return jnp.where(below, small, 1.0 - complement), jnp.where(below, 1.0 - small, complement)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_scaled_bessel(nu: float, k: jax.Array) -> jax.Array:
    """log F, elementwise; its derivative is A - 1."""
    order = _raised(nu)[1]
    root = jnp.sqrt(order * order + k * k)
    gained = k * k / (root + order)  # root - order
    stirling = math.lgamma(order + 1.0) - order * math.log(order) + order - 0.5 * math.log(2.0 * math.pi * order)
    debye = jnp.log(_sums(order, order / root)[0]) + stirling - 0.5 * jnp.log1p(gained / order)
    total = debye - order * ((gained + k) / (root + k) + jnp.log1p(0.5 * gained / order))
    s = 2.0 * (order + 1.0) * _ratio_below(order, k)

    def lower(carry: jax.Array, j: jax.Array) -> jax.Array:
        s = 1.0 / (1.0 + k * k * carry[0] / (4.0 * j * (j + 1.0)))
        return jnp.stack([s, carry[1] - jnp.log(s)])

    return _descend(lower, jnp.stack([s, total]), nu)[1]


@log_scaled_bessel.defjvp
def _log_scaled_bessel_jvp(nu, primals, tangents):
    return log_scaled_bessel(nu, primals[0]), -mean_length(nu, primals[0])[1] * tangents[0]
