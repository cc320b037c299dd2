"""Finite scalar quantization: each dimension rounded to a few levels, no codebook to learn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vaex.ops.arrays import lift, narrow
from vaex.quantizers._common import Quantized, check_count, check_indices
from vaex.quantizers.gradients import straight_through


def finite_scalar_quantize(z: jax.Array, *, levels: Sequence[int]) -> Quantized:
    r"""Squash each dimension by tanh and round it to one of its levels.

    With L levels and :math:`h = (L-1)(1-\epsilon)/2`, rounds :math:`h\tanh(z + s) - o`, where o = 1/2 and s = tan(o/h) for even L
    and both are 0 for odd L, then divides by floor(L/2). Values lie in [-1, 1]: -1, -1/2, 0, 1/2, 1 for five levels and -1,
    -1/2, 0, 1/2 for four.

    Args:
      z: [..., d], any real numbers.
      levels: d ints, 2 or more each; their product is the number of codes.
    Returns: ``Quantized`` with indices [...], the first dimension counting fastest. Rounding passes gradients straight
      through, tanh as it is. No codebook is learned: both losses are zero.
    Raises: ValueError if the levels are not d ints of 2 or more, or their product exceeds int32.
    Example:
      >>> quantized = finite_scalar_quantize(jnp.array([[-9.0, 0.1], [9.0, 0.6]]), levels=(4, 5))
      >>> print(quantized.codes, quantized.indices)
      [[-1.   0. ]
       [ 0.5  0.5]] [ 8 15]

    References: Mentzer et al. 2024, section 3.1 and appendix A.1.
    """
    z = jnp.asarray(z)
    _check("finite_scalar_quantize", levels, z, "z")
    (x,) = lift(z)
    count, half_width = _grid(levels, x.dtype)
    # the paper's 1e-3, less where more than 500 levels would put the outermost ones out of tanh's reach
    epsilon = np.minimum(1e-3, 0.5 / (count - 1))
    half = (count - 1) * (1 - epsilon) / 2
    offset = np.where(count % 2 == 0, 0.5, 0.0)
    bounded = (jnp.tanh(x + np.tan(offset / half).astype(x.dtype)) * half.astype(x.dtype)) - offset.astype(x.dtype)
    codes = straight_through(bounded / half_width, jnp.round(bounded) / half_width)
    zeros = jnp.zeros(z.shape[:-1], x.dtype)
    return Quantized(narrow(codes, z), finite_scalar_indices(codes, levels=levels), zeros, zeros)


def finite_scalar_indices(codes: jax.Array, *, levels: Sequence[int]) -> jax.Array:
    """Return the index of each code, its digits in mixed radix with the first dimension counting fastest.

    Args:
      codes: [..., d] in [-1, 1], as ``finite_scalar_quantize`` gives them; rounded to the nearest level.
      levels: d ints.
    Returns: [...] int32 from 0 to prod(levels) - 1.
    Raises: ValueError if the levels are not d ints of 2 or more, or their product exceeds int32.
    Example:
      >>> finite_scalar_indices(jnp.array([[-1.0, -1.0], [0.5, 1.0]]), levels=(4, 5))
      Array([ 0, 19], dtype=int32)
    """
    codes = jnp.asarray(codes)
    _check("finite_scalar_indices", levels, codes, "codes")
    (x,) = lift(jax.lax.stop_gradient(codes))
    count, half_width = _grid(levels, x.dtype)
    digits = jnp.clip(jnp.round(x * half_width) + half_width, 0, count - 1).astype(jnp.int32)
    return jnp.sum(digits * _basis(levels), axis=-1, dtype=jnp.int32)


def finite_scalar_lookup(indices: jax.Array, *, levels: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return the code of each index, the inverse of ``finite_scalar_indices``.

    Args:
      indices: [...], integers from 0 to prod(levels) - 1.
      levels: d ints.
      dtype: of the codes.
    Returns: [..., d] in [-1, 1]; NaN for an index out of range.
    Raises: ValueError if the indices are not integers, or the levels not as in ``finite_scalar_indices``.
    Example:
      >>> print(finite_scalar_lookup(jnp.array([0, 19]), levels=(4, 5)))
      [[-1.  -1. ]
       [ 0.5  1. ]]
    """
    indices = jnp.asarray(indices)
    check_indices("finite_scalar_lookup", indices)
    _check("finite_scalar_lookup", levels)
    known = (indices >= 0) & (indices < math.prod(levels))
    digits = (indices[..., None] // _basis(levels)) % np.asarray(levels, np.int32)
    wide = jnp.promote_types(dtype, jnp.float32)
    half_width = _grid(levels, wide)[1]
    return jnp.where(known[..., None], (digits.astype(wide) - half_width) / half_width, jnp.nan).astype(dtype)


def _grid(levels: Sequence[int], dtype: DTypeLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of levels and half the width of their grid."""
    count = np.asarray(levels)
    return count, (count // 2).astype(dtype)


def _basis(levels: Sequence[int]) -> np.ndarray:
    return np.cumprod([1, *levels[:-1]]).astype(np.int32)


def _check(name: str, levels: Sequence[int], vectors: jax.Array | None = None, argument: str = "") -> None:
    if len(levels) == 0:
        raise ValueError(f"{name}: levels is {levels!r}, expected one int per dimension; such as (8, 5, 5, 5)")
    for level in levels:
        check_count(name, f"a level of {tuple(levels)}", level, least=2)
    if math.prod(levels) > np.iinfo(np.int32).max:
        raise ValueError(
            f"{name}: levels {tuple(levels)} make {math.prod(levels)} codes, more than int32 can number; quantize in groups"
        )
    if vectors is not None and (vectors.ndim < 1 or vectors.shape[-1] != len(levels)):
        raise ValueError(
            f"{name}: {argument} has shape {vectors.shape}, expected [..., {len(levels)}]: one dimension for each of levels "
            f"{tuple(levels)}"
        )
