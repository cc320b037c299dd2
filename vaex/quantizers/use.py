"""How much of a codebook is used, read from indices."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex.quantizers._common import AxisName, check_count, check_indices, total, weights_of


def perplexity(
    indices: jax.Array, num_codes: int, *, mask: jax.Array | None = None, axis_name: AxisName | None = None
) -> jax.Array:
    r"""Effective number of codes in use, :math:`\exp(-\sum_i p_i \ln p_i)` with p the share of each code among all indices.

    Args:
      indices: [...], integers from 0 to k - 1; others are left out. For several codebooks vmap over their axis.
      num_codes: k; static.
      mask: [...], 1 for the indices that count, 0 for padding.
      axis_name: the mapped axis (or axes) that the batch is split over, inside ``shard_map`` or ``pmap``.
    Returns: a scalar between 1 (one code) and k (all alike); 1 where nothing counts.
    Raises: ValueError if the indices are not integers, ``num_codes`` no positive int, or the mask's shape another.
    Example:
      >>> print(f"{perplexity(jnp.array([0, 1, 2, 3]), 4):.4f} {perplexity(jnp.array([2, 2]), 4):.4f}")
      4.0000 1.0000

    References: van den Oord, Vinyals & Kavukcuoglu 2017.
    """
    counts = _counts("perplexity", indices, num_codes, mask, axis_name)
    shares = counts / jnp.maximum(jnp.sum(counts), 1)
    return jnp.exp(-jnp.sum(shares * jnp.log(jnp.where(shares > 0, shares, 1))))


def code_usage(
    indices: jax.Array, num_codes: int, *, mask: jax.Array | None = None, axis_name: AxisName | None = None
) -> jax.Array:
    """Share of the codes that are used at least once.

    Args:
      indices: [...], integers from 0 to k - 1; others are left out.
      num_codes: k; static.
      mask: [...], 1 for the indices that count, 0 for padding.
      axis_name: as in ``perplexity``.
    Returns: a scalar between 0 and 1.
    Raises: ValueError as ``perplexity``.
    Example:
      >>> print(code_usage(jnp.array([0, 3, 3]), 4))
      0.5
    """
    return jnp.mean(_counts("code_usage", indices, num_codes, mask, axis_name) > 0, dtype=jnp.float32)


def _counts(
    name: str, indices: jax.Array, num_codes: int, mask: jax.Array | None, axis_name: AxisName | None
) -> jax.Array:
    """[k] float32."""
    check_count(name, "num_codes", num_codes)
    indices = jnp.asarray(indices)
    check_indices(name, indices)
    weights = weights_of(name, mask, indices.shape, jnp.int32)  # whole numbers add exactly in any order
    flat = jnp.reshape(indices, -1)
    flat = jnp.where(flat < 0, num_codes, flat)  # a negative index would count from the end
    return total(jnp.zeros(num_codes, jnp.int32).at[flat].add(weights, mode="drop"), axis_name).astype(jnp.float32)
