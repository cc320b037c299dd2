"""Lookup-free quantization: each dimension's sign is one bit of the index."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from vaex.ops.arrays import lift
from vaex.quantizers._common import (
    EXACT,
    AxisName,
    Quantized,
    check_count,
    check_indices,
    check_vectors,
    total,
    weights_of,
)
from vaex.quantizers.gradients import commitment_loss, straight_through
from vaex.quantizers.usage import entropy

_MOST_BITS = 31  # of an int32 index


def lookup_free_quantize(z: jax.Array) -> Quantized:
    r"""Replace each dimension by its sign: a code of :math:`\{-1, 1\}^d`, the nearest of all :math:`2^d`.

    Args:
      z: [..., d], d <= 31. Zero counts as -1.
    Returns: ``Quantized`` with indices [...], :math:`\sum_i 2^i\,[z_i > 0]`, the first dimension being the lowest bit; gradients
      pass straight through. The codebook loss is zero. Without the penalty of ``lookup_free_entropy`` few codes are used.
    Raises: ValueError if z is not [..., d] with 1 <= d <= 31.
    Example:
      >>> print(*lookup_free_quantize(jnp.array([0.5, -2.0, 0.25])))
      [ 1. -1.  1.] 5 1.8125 0.0

    References: Yu et al. 2024, section 3.1.
    """
    z = jnp.asarray(z)
    _check("lookup_free_quantize", z)
    (x,) = lift(z)
    signs = jnp.where(x > 0, 1, -1).astype(x.dtype)
    commitment = commitment_loss(x, signs)
    return Quantized(straight_through(z, signs), lookup_free_indices(z), commitment, jnp.zeros_like(commitment))


def lookup_free_indices(codes: jax.Array) -> jax.Array:
    r"""Return the index of each code, :math:`\sum_i 2^i\,[c_i > 0]`.

    Args:
      codes: [..., d], d <= 31; only signs matter.
    Returns: [...] int32.
    Raises: ValueError if codes is not [..., d] with 1 <= d <= 31.
    Example:
      >>> print(lookup_free_indices(jnp.array([1.0, -1.0, 1.0])))
      5
    """
    codes = jnp.asarray(codes)
    _check("lookup_free_indices", codes, "codes")
    powers = np.left_shift(1, np.arange(codes.shape[-1])).astype(np.int32)
    return jnp.sum(jnp.where(codes > 0, powers, 0), axis=-1, dtype=jnp.int32)


def lookup_free_lookup(indices: jax.Array, *, num_bits: int, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return the code of each index, the inverse of ``lookup_free_indices``.

    Args:
      indices: [...], integers from 0 to 2^d - 1.
      num_bits: d, static, at most 31.
      dtype: of the codes.
    Returns: [..., d] of -1 and 1; NaN for an index out of range.
    Raises: ValueError if the indices are not integers or ``num_bits`` is not an int from 1 to 31.
    Example:
      >>> print(lookup_free_lookup(jnp.array(5), num_bits=3))
      [ 1. -1.  1.]
    """
    indices = jnp.asarray(indices)
    check_indices("lookup_free_lookup", indices)
    check_count("lookup_free_lookup", "num_bits", num_bits)
    if num_bits > _MOST_BITS:
        raise ValueError(
            f"lookup_free_lookup: num_bits is {num_bits}, expected at most {_MOST_BITS}; split into groups"
        )
    bits = (indices[..., None] >> np.arange(num_bits, dtype=np.int32)) & 1
    known = (indices >= 0) & (indices <= 2**num_bits - 1)
    return jnp.where(known[..., None], (2 * bits - 1).astype(dtype), jnp.nan)


class LookupFreeEntropy(NamedTuple):
    """Entropies in nats: ``sample`` [...], of each vector's soft choice; ``batch`` [], of the choice averaged over all."""

    sample: jax.Array
    batch: jax.Array


def lookup_free_entropy(
    z: jax.Array,
    *,
    temperature: ArrayLike = 1.0,
    mask: jax.Array | None = None,
    axis_name: AxisName | None = None,
) -> LookupFreeEntropy:
    r"""Entropies of soft choices :math:`q(c|z) \propto e^{-|z - c|^2/\tau}` among the :math:`2^d` sign codes, in nats.

    The penalty ``mean(sample) - batch`` makes each choice certain and all codes used. Both entropies are exact. The bits of
    one vector are independent, :math:`q(c_i = 1|z) = \sigma(4 z_i/\tau)`, so ``sample`` is a sum over bits. Bits under the
    average choice are not; it is a product of two matrices [b, 2^(d/2)], one for each half of the bits, so that no array
    [b, 2^d] is made.

    Args:
      z: [..., d], d <= 31; memory holds 2^d numbers.
      temperature: tau > 0; may be traced.
      mask: [...], 1 for the vectors that count in ``batch``, 0 for padding.
      axis_name: the mapped axis (or axes) that the batch is split over, inside ``shard_map`` or ``pmap``.
    Returns: ``LookupFreeEntropy``, float32 or wider; ``sample`` between 0 and d ln 2, not averaged.
    Raises: ValueError if z is not [..., d] with 1 <= d <= 31, or mask is not [...].
    Example:
      >>> entropy = lookup_free_entropy(jnp.array([[9.0, 9.0], [-9.0, 9.0]]))  # certain choices, and half of the codes used
      >>> print(jnp.round(entropy.sample, 4), jnp.round(entropy.batch, 4))
      [0. 0.] 0.6931

    References: Yu et al. 2024, section 3.1; Jansen et al. 2020.
    """
    z = jnp.asarray(z)
    _check("lookup_free_entropy", z)
    if jnp.ndim(temperature):
        raise ValueError(f"lookup_free_entropy: temperature has shape {jnp.shape(temperature)}, expected a scalar")
    (x,) = lift(z)
    logits = 4 * x / jnp.asarray(temperature, x.dtype)
    size = jnp.abs(logits)
    sample = jnp.sum(jnp.log1p(jnp.exp(-size)) + size * jax.nn.sigmoid(-size), axis=-1)
    weights = weights_of("lookup_free_entropy", mask, z.shape[:-1], x.dtype)
    flat = jnp.reshape(logits, (-1, x.shape[-1]))
    flat = flat if mask is None else jnp.where(weights[:, None] > 0, flat, 0)
    low, high = flat[:, : x.shape[-1] // 2], flat[:, x.shape[-1] // 2 :]
    together = jnp.matmul((_choices(low) * weights[:, None]).T, _choices(high), precision=EXACT)
    number = jnp.maximum(total(jnp.sum(weights), axis_name), 1)
    return LookupFreeEntropy(sample, entropy(total(together, axis_name) / number, axis=None))


def _choices(logits: jax.Array) -> jax.Array:
    """Probabilities [b, 2^m] of all codes of m bits."""
    m = logits.shape[-1]
    signs = 2 * ((np.arange(2**m)[None] >> np.arange(m)[:, None]) & 1) - 1
    return jax.nn.softmax(0.5 * jnp.matmul(logits, signs.astype(logits.dtype), precision=EXACT), axis=-1)


def _check(name: str, vectors: jax.Array, argument: str = "z") -> None:
    check_vectors(name, vectors, argument)
    if vectors.shape[-1] > _MOST_BITS:
        raise ValueError(
            f"{name}: {argument} has shape {vectors.shape}, expected [..., d] with d <= {_MOST_BITS} bits of an int32 index; "
            "split into groups"
        )
