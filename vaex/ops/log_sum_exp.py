"""Log-sum-exp and softmax whose values and gradients are defined where weights are zero or infinite."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def log_sum_exp(x: jax.Array, axis: int = -1) -> jax.Array:
    r"""Return :math:`\log\sum_i e^{x_i}` over one axis.

    It is -inf where every entry is, and inf where an entry is; there its gradient is zero, as no small change of a finite entry
    moves it. ``jax.nn.logsumexp`` has the gradient NaN there, even where the value is masked out, and one NaN spoils the
    gradient of all parameters. A NaN among the entries gives NaN.

    Example:
      >>> slope = jax.grad(lambda x: jnp.sum(jnp.where(jnp.array([True, False]), log_sum_exp(x), 0.0)))
      >>> print(slope(jnp.array([[0.0, 0.0], [-jnp.inf, -jnp.inf]])).tolist())
      [[0.5, 0.5], [0.0, 0.0]]
    """
    peak = jax.lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True))
    infinite = jnp.isinf(peak)
    shift = jnp.where(infinite, 0.0, peak)
    total = jnp.log(jnp.sum(jnp.exp(jnp.where(infinite, 0.0, x) - shift), axis=axis))
    infinite, peak, shift = (jnp.squeeze(array, axis) for array in (infinite, peak, shift))
    return jnp.where(infinite, peak, total + shift)


def normalise_exp(x: jax.Array, axis: int = -1) -> jax.Array:
    r"""Return :math:`e^{x_i} / \sum_j e^{x_j}` over one axis: shares that sum to 1, or are all 0 where every entry is -inf.

    Where entries are inf, they share equally. In both cases the gradient is zero. A NaN among the entries gives NaN.

    Example:
      >>> print(normalise_exp(jnp.array([[0.0, -jnp.inf], [-jnp.inf, -jnp.inf], [0.0, jnp.inf]])).tolist())
      [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    settled, impossible = settle(x, axis)
    return jnp.where(impossible, 0.0, jax.nn.softmax(settled, axis=axis))


def settle(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Return entries of which at least one is finite and none is inf, and whether all were -inf (``axis`` kept, of length 1).

    Their softmax is that of ``x`` where that is defined. Where the largest entry is inf, those that are become 0 and all others
    -inf; where all are -inf, all become 0.
    """
    peak = jax.lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True))
    ranked = jnp.where(x == peak, 0.0, -jnp.inf)
    return jnp.where(jnp.isinf(peak), ranked, x), jnp.isneginf(peak)
