"""Codebooks from a batch of vectors: k-means++ seeds, then Lloyd's iterations."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from vaex.ops.arrays import lift, narrow
from vaex.quantizers._common import check_count, code_sums, flat_batch
from vaex.quantizers.nearest import nearest_code


def kmeans_codebook(
    key: jax.Array,
    z: jax.Array,
    *,
    num_codes: int,
    num_iterations: int = 20,
    num_starts: int = 1,
    mask: jax.Array | None = None,
) -> jax.Array:
    r"""Codebook of cluster means, which lowers :math:`\sum_j \min_i |z_j - c_i|^2`.

    Seeds are drawn one after another with probability proportional to the squared distance to the nearest seed so far; of
    2 + ln k draws the one that leaves the smallest sum is kept. A cluster that comes out empty keeps its code. With fewer
    distinct vectors than codes some codes repeat others; ``nearest_code`` then never chooses the repetitions.

    Args:
      key: a key.
      z: [..., d], constants here. All must be in memory: take a sample of a large data set.
      num_codes: k; static.
      num_iterations: Lloyd's steps; static. 0 gives the seeds, vectors of the batch.
      num_starts: static. Of so many runs, one after another, the one with the smallest sum is kept: a single one ends in a
        local minimum more often than not.
      mask: [...], 1 for the vectors that count, 0 for padding.
    Returns: [k, d], in z's dtype.
    Raises: ValueError if z is empty or has no axis of dimensions, or a count is not a positive int.
    Example:
      >>> z = jnp.array([[0.0], [1.0], [10.0], [11.0]])
      >>> print(jnp.sort(kmeans_codebook(jax.random.key(0), z, num_codes=2)[:, 0]))
      [ 0.5 10.5]

    References: Arthur & Vassilvitskii 2007, section 2.2; Grunau et al. 2023 (several draws); Lloyd 1982.
    """
    check_count("kmeans_codebook", "num_codes", num_codes)
    check_count("kmeans_codebook", "num_iterations", num_iterations, least=0)
    check_count("kmeans_codebook", "num_starts", num_starts)
    z = jnp.asarray(z)
    flat, weights = flat_batch("kmeans_codebook", lift(z)[0], mask)
    if not flat.shape[0]:
        raise ValueError(f"kmeans_codebook: z has shape {z.shape}, expected [..., d] with at least one vector")

    def step(_: jax.Array, codebook: jax.Array) -> jax.Array:
        indices = nearest_code(codebook, flat)
        # moved by the mean difference: exactly nothing where all vectors of a cluster equal its code
        counts, sums = code_sums(flat - codebook[indices], indices, weights, num_codes)
        return codebook + sums / jnp.maximum(counts, 1)[:, None]

    def run(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        codebook = jax.lax.fori_loop(0, num_iterations, step, _seeds(key, flat, weights, num_codes))
        left = flat - codebook[nearest_code(codebook, flat)]
        return codebook, jnp.sum(weights * jnp.sum(jnp.square(left), axis=-1))

    if num_starts == 1:
        return narrow(run(key)[0], z)
    codebooks, errors = jax.lax.map(run, jax.random.split(key, num_starts))
    return narrow(codebooks[jnp.argmin(errors)], z)


def _seeds(key: jax.Array, flat: jax.Array, weights: jax.Array, num_codes: int) -> jax.Array:
    num_draws = 2 + int(math.log(num_codes))
    first_key, key = jax.random.split(key)

    def distances(seeds: jax.Array) -> jax.Array:
        """[t, n], by differences: exactly zero at the seed itself, so that it is not drawn again."""
        return weights * jnp.sum(jnp.square(flat - seeds[:, None]), axis=-1)

    def step(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        codebook, nearest = carry
        left = jnp.where(jnp.any(nearest > 0), nearest, weights)  # all vectors are seeds already: any will do
        draws = flat[jax.random.categorical(jax.random.fold_in(key, i), jnp.log(left), shape=(num_draws,))]
        after = jnp.minimum(nearest, distances(draws))
        best = jnp.argmin(jnp.sum(after, axis=-1))
        return codebook.at[i].set(draws[best]), after[best]

    first = flat[jax.random.categorical(first_key, jnp.log(weights))]
    codebook = jnp.zeros((num_codes, flat.shape[1]), flat.dtype).at[0].set(first)
    return jax.lax.fori_loop(1, num_codes, step, (codebook, distances(first[None])[0]))[0]
