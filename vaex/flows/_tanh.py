"""The scalar map v -> v + c tanh(v), c > -1, of planar and Sylvester flows: its slope, its inverse, the constraint on c."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from vaex.ops.scalars import softplus

# the gain 1 + c is the slope at 0; away from 0, where the map would not be invertible, by this much
SMALLEST_GAIN = 1e-3
_OFFSET = math.log(math.e - 1.0)  # softplus of it is 1
_MOST_STEPS = 100


def constrain(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """c(x) > -1 and the gain 1 + c: c = softplus(x + log(e - 1)) - 1, shrunk by the smallest gain so that c(0) = 0.

    Around 0 the difference is written as a log1p: it is divided by a squared norm that may be small.
    """
    far = softplus(x + _OFFSET)
    narrow = jnp.abs(x) < 1.0
    near = jnp.log1p((1.0 - math.exp(-1.0)) * jnp.expm1(jnp.where(narrow, x, 0.0)))
    share = 1.0 - SMALLEST_GAIN
    return share * jnp.where(narrow, near, far - 1.0), SMALLEST_GAIN + share * far


def slope(gain: jax.Array, v: jax.Array) -> jax.Array:
    """1 + c sech^2(v) as a sum of positive terms, gain sech^2 + tanh^2; 1 - tanh^2 would cancel where c is large."""
    decay = jnp.exp(-2.0 * jnp.abs(v))
    return gain * (4.0 * decay / jnp.square(1.0 + decay)) + jnp.square(jnp.tanh(v))


@jax.custom_jvp
def tanh_root(target: jax.Array, gain: jax.Array) -> jax.Array:
    """v with v + (gain - 1) tanh(v) = target, to rounding; gradients by the implicit function theorem.

    Newton's method needs no bracket: for target > 0 the map is concave (c > 0) or convex (c < 0) on v > 0, and the start
    lies on the side from which the steps approach the root monotonically.
    """
    target, gain = jnp.broadcast_arrays(target, gain)
    y, c = jnp.abs(target), gain - 1.0
    start = jnp.where(c > 0, jnp.maximum(y - c, y / gain), y - c)
    epsilon = 4.0 * jnp.finfo(y.dtype).eps

    def going(state):
        step, _, open_ = state
        return (step < _MOST_STEPS) & jnp.any(open_)

    def newton(state):
        step, v, _ = state
        bend = c * jnp.tanh(v)
        residual = v + bend - y
        return step + 1, v - residual / slope(gain, v), jnp.abs(residual) > epsilon * (v + jnp.abs(bend) + y)

    _, v, _ = jax.lax.while_loop(going, newton, (0, start, jnp.ones(y.shape, bool)))
    return jnp.sign(target) * v


@tanh_root.defjvp
def _tanh_root_jvp(primals, tangents):
    (target, gain), (t_target, t_gain) = primals, tangents
    v = tanh_root(target, gain)
    return v, (t_target - jnp.tanh(v) * t_gain) / slope(gain, v)
