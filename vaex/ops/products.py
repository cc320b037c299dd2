"""Products of many vectors with one matrix, laid out so that XLA computes their gradients on CPU without copies."""

from __future__ import annotations

import math
from typing import Any

import jax
from jax import lax

from vaex.ops.platforms import traced_for


def matmul(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """``x @ matrix``, [..., m] and [m, n] -> [..., n], by ``dot_general``.

    Example:
      >>> matmul(jax.numpy.ones((2, 3, 4)), jax.numpy.ones((4, 5))).shape
      (2, 3, 5)
    """
    return dot_general(x, matrix, (((x.ndim - 1,), (0,)), ((), ())))


def dot_general(
    x: jax.Array, matrix: jax.Array, dimension_numbers: lax.DotDimensionNumbers, **options: Any
) -> jax.Array:
    """``lax.dot_general`` for ``flax.linen.Dense``: on CPU it merges the leading axes of x, [..., m], to one.

    The gradient with respect to the matrix [m, n] sums over the leading axes; of several, XLA for CPU copies x and the cotangent to
    transposed arrays first, which takes as long as the product.

    Args:
      x: [..., m].
      matrix: [m, n].
      dimension_numbers: that contract the last axis of x with the first of the matrix; others are left to ``lax.dot_general``.
      **options: as of ``lax.dot_general``.
    Returns: [..., n].
    """
    contracts_last = dimension_numbers == (((x.ndim - 1,), (0,)), ((), ()))
    if x.ndim < 3 or matrix.ndim != 2 or not contracts_last or traced_for() != "cpu":
        return lax.dot_general(x, matrix, dimension_numbers, **options)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # -1 would be ambiguous where an axis is empty
    y = lax.dot_general(rows, matrix, (((1,), (0,)), ((), ())), **options)
    return y.reshape(*x.shape[:-1], matrix.shape[1])
