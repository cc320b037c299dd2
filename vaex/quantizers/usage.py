"""Entropy and perplexity of shares, and how much of a codebook is in use."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex.quantizers._common import AxisName, check_count, check_indices, total, weights_of


def entropy(probabilities: jax.Array, *, axis: int | tuple[int, ...] | None = -1) -> jax.Array:
    r"""Entropy :math:`-\sum_i p_i \ln p_i` of probabilities, in nats.

    Args:
      probabilities: [..., k], which sum to 1 over ``axis``; a probability of 0 adds nothing and passes no gradient.
      axis: the axes to sum over; None for all of them.
    Returns: [...], between 0 and ln k.
    Example:
      >>> print(f"{entropy(jnp.array([0.5, 0.5, 0.0])):.4f}")
      0.6931

    References: Cover & Thomas 2006, eq. 2.1.
    """
    positive = probabilities > 0
    terms = jnp.where(positive, probabilities * jnp.log(jnp.where(positive, probabilities, 1)), 0)
    return -jnp.sum(terms, axis=axis)


def perplexity(probabilities: jax.Array) -> jax.Array:
    r"""Effective number of categories, :math:`\exp(-\sum_i p_i \ln p_i)`.

    Args:
      probabilities: [..., k], which sum to 1 over the last axis.
    Returns: [...], between 1 (a single category) and k (all equally likely).
    Example:
      >>> print(perplexity(jnp.array([0.5, 0.5, 0.0])))
      2.0

    References: Jelinek et al. 1977.
    """
    return jnp.exp(entropy(probabilities))


def code_perplexity(
    indices: jax.Array, *, num_codes: int, mask: jax.Array | None = None, axis_name: AxisName | None = None
) -> jax.Array:
    """Effective number of codes in use: the ``perplexity`` of the share of each code among all indices.

    Args:
      indices: [...], integers from 0 to k - 1; others are left out. For several codebooks vmap over their axis.
      num_codes: k; static.
      mask: [...], 1 for the indices that count, 0 for padding.
      axis_name: the mapped axis (or axes) that the batch is split over, inside ``shard_map`` or ``pmap``.
    Returns: a scalar between 1 and k; 1 where no index counts.
    Raises: ValueError if the indices are not integers, ``num_codes`` is no positive int, or the mask has another shape.
    Example:
      >>> print(f"{code_perplexity(jnp.array([0, 1, 2, 3]), num_codes=4):.4f}")
      4.0000

    References: van den Oord, Vinyals & Kavukcuoglu 2017.
    """
    counts = _counts("code_perplexity", indices, num_codes, mask, axis_name)
    return perplexity(counts / jnp.maximum(jnp.sum(counts), 1))


def code_usage(
    indices: jax.Array, *, num_codes: int, mask: jax.Array | None = None, axis_name: AxisName | None = None
) -> jax.Array:
    """Share of the codes that occur at least once among all indices.

    Args:
      indices, num_codes, mask, axis_name: as in ``code_perplexity``.
    Returns: a scalar between 0 and 1.
    Raises: ValueError under the conditions of ``code_perplexity``.
    Example:
      >>> print(code_usage(jnp.array([0, 3, 3]), num_codes=4))
      0.5
    """
    return jnp.mean(_counts("code_usage", indices, num_codes, mask, axis_name) > 0, dtype=jnp.float32)


def _counts(
    name: str, indices: jax.Array, num_codes: int, mask: jax.Array | None, axis_name: AxisName | None
) -> jax.Array:
    """Occurrences of each code, [k] float32."""
    check_count(name, "num_codes", num_codes)
    indices = jnp.asarray(indices)
    check_indices(name, indices)
    weights = weights_of(name, mask, indices.shape, jnp.int32)  # integers add exactly in any order
    flat = jnp.reshape(indices, -1)
    flat = jnp.where(flat < 0, num_codes, flat)  # a negative index would count from the end
    return total(jnp.zeros(num_codes, jnp.int32).at[flat].add(weights, mode="drop"), axis_name).astype(jnp.float32)
