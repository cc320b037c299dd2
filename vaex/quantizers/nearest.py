"""Nearest codes, distances to all codes, and the code of an index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from vaex.ops.arrays import lift, narrow
from vaex.quantizers._common import BLOCK, EXACT, check_choice, check_codebook, check_indices, check_vectors, unit


def nearest_code(
    codebook: jax.Array, z: jax.Array, *, distance: Literal["euclidean", "cosine"] = "euclidean"
) -> jax.Array:
    r"""Return the index of the nearest code of each vector.

    :math:`\arg\min_i |z - c_i|^2`, or :math:`\arg\max_i z\cdot c_i / (|z||c_i|)`. Of codes equally near, the first is chosen,
    so that a repeated code is used once; rounding decides between distances that differ by less. Distances come from products
    with the codebook, arrays [..., k] of 16,384 codes at most, and none [..., k, d].

    Args:
      codebook: [k, d].
      z: [..., d].
      distance: ``cosine`` compares directions alone; a zero vector is equally far from all.
    Returns: [...] int32, without a gradient.
    Raises: ValueError if the shapes disagree or for an unknown ``distance``.
    Example:
      >>> nearest_code(jnp.eye(2), jnp.array([[0.9, 0.2], [0.1, 3.0]]))
      Array([0, 1], dtype=int32)

    References: van den Oord, Vinyals & Kavukcuoglu 2017, eq. 1; Yu et al. 2022, section 3.2 (cosine).
    """
    check_choice("nearest_code", "distance", distance, ("euclidean", "cosine"))
    z, codebook = _arrays("nearest_code", jax.lax.stop_gradient(z), jax.lax.stop_gradient(codebook))
    if distance == "cosine":
        direction = unit(z)[0]
        return _first_least(lambda codes: -_products(direction, codes), unit(codebook)[0])
    centred, codebook = _centred(z, codebook)
    # |z|^2 is the same for all codes, and adding it would round away what tells them apart
    return _first_least(lambda codes: _squares(codes)[:, 0] - 2 * _products(centred, codes), codebook)


def squared_distances(codebook: jax.Array, z: jax.Array) -> jax.Array:
    r"""Squared Euclidean distances of each vector to all codes, :math:`|z|^2 - 2 z\cdot c + |c|^2`, never below zero.

    From one matrix product; what is small beside :math:`|z|^2 + |c|^2` is lost in rounding, once the codes' mean is taken off
    both.

    Args:
      codebook: [k, d].
      z: [..., d].
    Returns: [..., k], summed over d, float32 or wider.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> squared_distances(jnp.array([[0.0, 0.0], [3.0, 0.0]]), jnp.array([3.0, 4.0]))
      Array([25., 16.], dtype=float32)
    """
    z, codebook = _centred(*_arrays("squared_distances", z, codebook))
    return jnp.maximum(_squares(z) - 2 * _products(z, codebook) + _squares(codebook)[:, 0], 0)


def lookup(codebook: jax.Array, indices: jax.Array) -> jax.Array:
    """Return the codes of indices; gradients pass to the codebook.

    Args:
      codebook: [k, d].
      indices: [...], integers.
    Returns: [..., d], in the codebook's dtype; NaN for an index outside 0 to k - 1, which no quantizer gives.
    Raises: ValueError if the codebook is not [k, d] or the indices are not integers.
    Example:
      >>> lookup(jnp.eye(3), jnp.array([2, 0]))
      Array([[0., 0., 1.],
             [1., 0., 0.]], dtype=float32)
    """
    codebook, indices = jnp.asarray(codebook), jnp.asarray(indices)
    check_codebook("lookup", codebook)
    check_indices("lookup", indices)
    outside = jnp.where(indices < 0, codebook.shape[0], indices)  # a negative index would count from the end
    return jnp.take(codebook, outside, axis=0, mode="fill", fill_value=jnp.nan)


def unit_norm(z: jax.Array) -> jax.Array:
    r"""Project vectors onto the unit sphere, :math:`z / |z|`; a zero vector stays zero and passes no gradient.

    With vectors and codebook both on the sphere, Euclidean and cosine distance choose the same code.

    Args:
      z: [..., d].
    Returns: [..., d], in z's dtype.
    Raises: ValueError if z has no axis of dimensions.
    Example:
      >>> unit_norm(jnp.array([[3.0, 4.0], [0.0, 0.0]]))
      Array([[0.6, 0.8],
             [0. , 0. ]], dtype=float32)

    References: Yu et al. 2022, section 3.2.
    """
    z = jnp.asarray(z)
    check_vectors("unit_norm", z)
    return narrow(unit(lift(z)[0])[0], z)


def _arrays(name: str, z: jax.Array, codebook: jax.Array) -> list[jax.Array]:
    z, codebook = jnp.asarray(z), jnp.asarray(codebook)
    check_vectors(name, z)
    check_codebook(name, codebook, z.shape[-1])
    return lift(z, codebook)


def _centred(z: jax.Array, codebook: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Subtract the mean code from both: distances stay, and far from the origin the large squares no longer cancel.

    The mean is rounded to eight bits, so that subtracting it from simple numbers is exact and ties between them stay ties.
    """
    centre = jax.lax.stop_gradient(jnp.mean(codebook, axis=0))
    centre = jax.lax.reduce_precision(centre, exponent_bits=jnp.finfo(centre.dtype).nexp, mantissa_bits=7)
    return z - centre, codebook - centre


def _products(z: jax.Array, codebook: jax.Array) -> jax.Array:
    return jnp.matmul(z, codebook.T, precision=EXACT)


def _first_least(scores: Callable[[jax.Array], jax.Array], codebook: jax.Array) -> jax.Array:
    """Return the first index of the least score, ``BLOCK`` codes at a time."""
    k, d = codebook.shape
    if k <= BLOCK:
        return jnp.argmin(scores(codebook), axis=-1).astype(jnp.int32)
    starts = jnp.arange(0, k, BLOCK, dtype=jnp.int32)
    blocks = jnp.reshape(jnp.pad(codebook, ((0, len(starts) * BLOCK - k), (0, 0))), (-1, BLOCK, d))

    def of_block(start: jax.Array, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = jnp.where(start + jnp.arange(BLOCK) < k, scores(codes), jnp.inf)
        return start + jnp.argmin(values, axis=-1).astype(jnp.int32), jnp.min(values, axis=-1)

    indices, least = jax.lax.map(lambda block: of_block(*block), (starts, blocks))
    return jnp.take_along_axis(indices, jnp.argmin(least, axis=0)[None], axis=0)[0]


def _squares(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x), axis=-1, keepdims=True)
