"""Monotone rational-quadratic splines with linear tails."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex.flows._base import bounded
from vaex.ops.arrays import broadcastable, lift, narrow

SMALLEST_BIN = 1e-3  # of the whole interval


def rational_quadratic_spline(
    widths: jax.Array,
    heights: jax.Array,
    log_slopes: jax.Array,
    x: jax.Array,
    *,
    bound: float = 3.0,
    inverse: bool = False,
) -> tuple[jax.Array, jax.Array]:
    r"""A monotone spline of [-bound, bound] onto itself, the identity outside, element by element.

    All-zero parameters are the identity. Bins are at least a thousandth of the interval; slopes lie between
    :math:`e^{-7}` and :math:`e^7` and are 1 at the ends, so the derivative is continuous.

    Args:
      widths, heights: [..., bins], logits of the bins' shares of the interval, along x and along the value.
      log_slopes: [..., bins - 1], log-derivatives at the inner knots.
      x: [...].
      bound: where the tails begin.
      inverse: go back.
    Returns: value [...] and the log-derivative of the map performed [...], the latter in float32 or wider.
    Raises: ValueError if the shapes disagree or ``bound`` is not positive.
    Example:
      >>> value, log_slope = rational_quadratic_spline(jnp.zeros(4), jnp.zeros(4), jnp.zeros(3), jnp.array([0.5, 9.0]))
      >>> print(value, log_slope)
      [0.5 9. ] [0. 0.]

    References: Durkan et al. 2019, eqs. 4-8 and appendix A.
    """
    _check(widths, heights, log_slopes, x, bound)
    given, (x, widths, heights, log_slopes) = (x, widths, heights, log_slopes), lift(x, widths, heights, log_slopes)
    inside = jnp.abs(x) <= bound
    limit = jnp.clip(x, -bound, bound)
    piece = _piece(limit, _knots(widths, bound), _knots(heights, bound), log_slopes, by_value=inverse)
    if inverse:
        theta = _solve(piece, (limit - piece.bottom) / piece.height)
        value, log_slope = piece.left + piece.width * theta, -_log_slope(piece, theta)
    else:
        theta = (limit - piece.left) / piece.width
        value, log_slope = piece.bottom + piece.height * _rise(piece, theta), _log_slope(piece, theta)
    return narrow(jnp.where(inside, value, x), *given), jnp.where(inside, log_slope, 0.0)


class _Piece(NamedTuple):
    """The bin that each element falls into: its lower left corner, its size, the slopes at its ends."""

    left: jax.Array
    width: jax.Array
    bottom: jax.Array
    height: jax.Array
    first: jax.Array
    last: jax.Array

    @property
    def mean_slope(self) -> jax.Array:
        return self.height / self.width


def _knots(logits: jax.Array, bound: float) -> jax.Array:
    """Knots [..., bins + 1] from -bound to bound exactly."""
    num_bins = logits.shape[-1]
    shares = SMALLEST_BIN + (1.0 - SMALLEST_BIN * num_bins) * jax.nn.softmax(logits, axis=-1)
    inner = bound * (2.0 * jnp.cumsum(shares, axis=-1)[..., :-1] - 1.0)
    end = jnp.full((*inner.shape[:-1], 1), bound, inner.dtype)
    return jnp.concatenate([-end, inner, end], axis=-1)


def _piece(x: jax.Array, along: jax.Array, up: jax.Array, log_slopes: jax.Array, *, by_value: bool) -> _Piece:
    slopes = jnp.exp(bounded(log_slopes))
    end = jnp.ones((*slopes.shape[:-1], 1), slopes.dtype)
    slopes = jnp.concatenate([end, slopes, end], axis=-1)
    inner = (up if by_value else along)[..., 1:-1]
    place = jnp.sum(x[..., None] >= inner, axis=-1, keepdims=True)

    def at(knots: jax.Array, index: jax.Array) -> jax.Array:
        knots = jnp.broadcast_to(knots, (*index.shape[:-1], knots.shape[-1]))
        return jnp.take_along_axis(knots, index, axis=-1)[..., 0]

    left, bottom = at(along, place), at(up, place)
    width, height = at(along, place + 1) - left, at(up, place + 1) - bottom
    return _Piece(left, width, bottom, height, at(slopes, place), at(slopes, place + 1))


def _denominator(piece: _Piece, theta: jax.Array) -> jax.Array:
    """s + (d0 + d1 - 2 s) theta (1 - theta), as a sum of positive terms."""
    rest = 1.0 - theta
    ends = jnp.square(theta) + jnp.square(rest)
    return piece.mean_slope * ends + (piece.first + piece.last) * theta * rest


def _rise(piece: _Piece, theta: jax.Array) -> jax.Array:
    """The share of the bin's height reached at the share theta of its width: eq. 4."""
    climb = piece.mean_slope * jnp.square(theta) + piece.first * theta * (1.0 - theta)
    return climb / _denominator(piece, theta)


def _log_slope(piece: _Piece, theta: jax.Array) -> jax.Array:
    """Log-derivative: eq. 5."""
    rest, s = 1.0 - theta, piece.mean_slope
    top = piece.last * jnp.square(theta) + 2.0 * s * theta * rest + piece.first * jnp.square(rest)
    return jnp.log(top) + 2.0 * (jnp.log(s) - jnp.log(_denominator(piece, theta)))


def _solve(piece: _Piece, eta: jax.Array) -> jax.Array:
    """theta with rise(theta) = eta: a root of a theta^2 + b theta - s eta, where a = s - b.

    With that the discriminant is a sum of squares, and of the root's two forms one never cancels.
    """
    eta, s = jnp.clip(eta, 0.0, 1.0), piece.mean_slope
    b = piece.first - eta * (piece.first + piece.last - 2.0 * s)
    root = jnp.sqrt(jnp.square(b - 2.0 * s * eta) + 4.0 * jnp.square(s) * eta * (1.0 - eta))
    positive = b >= 0
    usual = 2.0 * s * eta / (jnp.where(positive, b, 0.0) + root)
    return jnp.where(positive, usual, (root - b) / (2.0 * jnp.where(positive, 1.0, s - b)))


def _check(widths: jax.Array, heights: jax.Array, log_slopes: jax.Array, x: jax.Array, bound: float) -> None:
    num_bins = np.shape(widths)[-1] if np.ndim(widths) else 0
    if num_bins < 1 or num_bins * SMALLEST_BIN >= 1:
        raise ValueError(
            f"rational_quadratic_spline: widths has shape {np.shape(widths)}, expected [..., bins]; "
            f"between 1 and {round(1 / SMALLEST_BIN) - 1} bins"
        )
    for name, array, size in (("widths", widths, 0), ("heights", heights, 0), ("log_slopes", log_slopes, 1)):
        shape, expected = np.shape(array), num_bins - size
        lead, batch = shape[:-1], np.shape(x)
        if (
            not shape
            or shape[-1] != expected
            or not broadcastable(lead, batch)
            or jnp.broadcast_shapes(lead, batch) != batch
        ):
            raise ValueError(
                f"rational_quadratic_spline: {name} has shape {shape}, expected {expected} values for each element of x "
                f"{batch}; put the bins on the last axis, and in front axes that broadcast to those of x"
            )
    if not bound > 0:
        raise ValueError(
            f"rational_quadratic_spline: bound is {bound}, expected a positive number; the spline covers [-bound, bound]"
        )
