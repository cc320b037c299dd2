"""Scalar functions that stay finite, with their gradients, where the textbook form overflows or cancels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp

_BERNOULLI_NUMBERS = [  # B_2, B_4, ..., B_20
    Fraction(1, 6),
    Fraction(-1, 30),
    Fraction(1, 42),
    Fraction(-1, 30),
    Fraction(5, 66),
    Fraction(-691, 2730),
    Fraction(7, 6),
    Fraction(-3617, 510),
    Fraction(43867, 798),
    Fraction(-174611, 330),
]
# log(sinh(x/2) / (x/2)) = sum_n c_n x^(2n), with radius of convergence 2 pi; ten terms reach 1e-17 at |x| = 1.
_LOG_SINHC = [float(b / (2 * n * math.factorial(2 * n))) for n, b in enumerate(_BERNOULLI_NUMBERS, start=1)]


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
    """log(1 + e^x). Written out because it is a quarter faster than logaddexp; its derivatives are exact at 0 too."""
    return jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return softplus(x), jax.nn.sigmoid(x) * t


@jax.custom_jvp
def cross_entropy(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Cross-entropy between x in [0, 1] and the Bernoulli of ``logits``, per element: softplus(logits) - logits x.

    max(l, 0) - l x is formed first: it is exact where x is 0 or 1, so a confident right answer costs what it should.
    """
    return (jnp.maximum(logits, 0.0) - logits * x) + jnp.log1p(jnp.exp(-jnp.abs(logits)))


@cross_entropy.defjvp
def _cross_entropy_jvp(primals, tangents):
    (logits, x), (t_logits, t_x) = primals, tangents
    # the sigmoid by the exponential that the value needs too, so that XLA computes it once
    decay = jnp.exp(-jnp.abs(logits))
    sigmoid = jnp.where(logits >= 0, 1.0, decay) / (1.0 + decay)
    return cross_entropy(logits, x), (sigmoid - x) * t_logits - logits * t_x


def log_sinhc_series(square: jax.Array) -> jax.Array:
    """log(sinh(x/2) / (x/2)) from x^2 <= 1."""
    return square * polynomial(_LOG_SINHC, square)


def polynomial(coefficients: Sequence[float], x: jax.Array) -> jax.Array:
    """Horner's scheme, constant term first."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def log_decay(a: jax.Array) -> jax.Array:
    """log((1 - e^-a) / a) for a >= 0: the log of the integral of e^(-a t) over t in [0, 1]; 0 at a = 0."""
    small = a < 1.0
    large = jnp.where(small, 1.0, a)
    series = jnp.where(small, a, 0.0)
    return jnp.where(
        small, log_sinhc_series(series * series) - 0.5 * series, jnp.log(-jnp.expm1(-large)) - jnp.log(large)
    )


# In powers of s = y^2, for s < 0.01: tanh(y) / y, and asinh(y) / y.
_TANH = [1.0, -1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155925, 21844 / 6081075]
_ASINH = [(-0.25) ** n * math.comb(2 * n, n) / (2 * n + 1) for n in range(9)]


def _over_root(s: jax.Array, function: Callable[[jax.Array], jax.Array], series: Sequence[float]) -> jax.Array:
    """function(y) / y as a smooth function of s = y^2 >= 0, also at 0."""
    small = s < 0.01
    root = jnp.sqrt(jnp.where(small, 1.0, s))
    return jnp.where(small, polynomial(series, jnp.where(small, s, 0.0)), function(root) / root)


def tanh_ratio(s: jax.Array) -> jax.Array:
    """tanh(y) / y from s = y^2."""
    return _over_root(s, jnp.tanh, _TANH)


def asinh_ratio(s: jax.Array) -> jax.Array:
    """asinh(y) / y from s = y^2."""
    return _over_root(s, jnp.arcsinh, _ASINH)


def log_sinhc(s: jax.Array) -> jax.Array:
    """log(sinh(y) / y) from s = y^2."""
    small = s < 0.25
    root = jnp.sqrt(jnp.where(small, 1.0, s))
    return jnp.where(small, log_sinhc_series(jnp.where(small, 4.0 * s, 0.0)), root + log_decay(2.0 * root))
