"""Samplers without a fitted density: codes between neighbours, and directions that are uniform on a sphere."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

KEPT = 10_000  # codes, at most


def fit_neighbours(codes: np.ndarray, k: int, seed: int) -> dict[str, np.ndarray]:
    """Return "codes" [m, d], at most 10,000 chosen at random, and "neighbours" [m, k], the numbers of the k nearest of each."""
    from sklearn.neighbors import NearestNeighbors

    chosen = np.random.default_rng(seed).permutation(len(codes))[:KEPT]
    kept = np.asarray(codes, np.float32)[chosen]
    neighbours = NearestNeighbors(n_neighbors=k).fit(kept).kneighbors(return_distance=False)
    return {"codes": kept, "neighbours": neighbours.astype(np.int32)}


def draw_between(arrays: Mapping[str, np.ndarray], key: jax.Array, n: int) -> jax.Array:
    """Draw codes [n, d], each uniform on the line from a code to one of its neighbours.

    References: Chawla et al. 2002 (SMOTE), section 4.2.
    """
    codes, neighbours = jnp.asarray(arrays["codes"]), jnp.asarray(arrays["neighbours"])
    first_key, neighbour_key, place_key = jax.random.split(key, 3)
    first = jax.random.randint(first_key, (n,), 0, len(codes))
    second = neighbours[first, jax.random.randint(neighbour_key, (n,), 0, neighbours.shape[1])]
    place = jax.random.uniform(place_key, (n, 1))
    return codes[first] + place * (codes[second] - codes[first])


def fit_sphere(codes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return "norms" [m] of at most 10,000 codes chosen at random, and "zero" [d]."""
    chosen = np.random.default_rng(seed).permutation(len(codes))[:KEPT]
    norms = np.linalg.norm(np.asarray(codes, np.float64)[chosen], axis=-1)
    return {"norms": norms.astype(np.float32), "zero": np.zeros(codes.shape[1], np.float32)}


def draw_sphere(arrays: Mapping[str, np.ndarray], key: jax.Array, n: int) -> jax.Array:
    """Draw codes [n, d] whose direction from the origin is uniform, and whose norm is that of a code."""
    direction_key, norm_key = jax.random.split(key)
    noise = jax.random.normal(direction_key, (n, len(arrays["zero"])))
    direction = noise / jnp.linalg.norm(noise, axis=-1, keepdims=True)
    norms = jnp.asarray(arrays["norms"])
    return norms[jax.random.randint(norm_key, (n,), 0, len(norms))][:, None] * direction
