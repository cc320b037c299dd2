"""Measured bias, variance and signal-to-noise ratio of a gradient estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

# A pytree of floating arrays, of the structure of the differentiated parameters.
Gradient: TypeAlias = Any


class GradientStatistics(NamedTuple):
    """Statistics of a random gradient, coordinate by coordinate; all but the last three have the gradient's structure.

    ``mean``, ``variance`` (of one draw), ``standard_error`` (of the mean), and ``bias`` (mean - exact; nan where no exact
    gradient was given). ``signal_to_noise``: mean over the coordinates of |mean| / standard deviation; measured from n
    draws it cannot fall much under its ``noise_floor`` of sqrt(2 / (pi n)). ``total_variance``: summed over the coordinates.
    """

    mean: Gradient
    variance: Gradient
    standard_error: Gradient
    bias: Gradient
    signal_to_noise: jax.Array
    noise_floor: jax.Array
    total_variance: jax.Array


def gradient_statistics(
    key: jax.Array,
    gradient: Callable[[jax.Array], Gradient],
    num_draws: int,
    *,
    exact: Gradient | None = None,
    draws_per_chunk: int = 64,
) -> GradientStatistics:
    """Measure a gradient estimator on a given model, in constant memory.

    Args:
      key: a key; each draw folds its number into it.
      gradient: key -> a gradient, a pytree of floating arrays; such as ``lambda key: jax.grad(loss)(params, key)``.
      num_draws: how many independent gradients, at least 2.
      exact: the true gradient, of the same structure, to measure the bias against.
      draws_per_chunk: draws that are computed at once.
    Returns: a ``GradientStatistics``.
    Raises: ValueError if there are fewer than two draws, or ``exact`` has another structure or shapes.
    Example:
      >>> noisy = lambda key: 2.0 + jax.random.normal(key, (3,))
      >>> statistics = gradient_statistics(jax.random.key(0), noisy, 10_000, exact=jnp.full(3, 2.0))
      >>> print(bool(jnp.all(jnp.abs(statistics.bias) < 4 * statistics.standard_error)), f"{statistics.signal_to_noise:.1f}")
      True 2.0

    References: Rainforth et al. 2018, eq. 4 (signal-to-noise).
    """
    if num_draws < 2 or draws_per_chunk < 1:
        raise ValueError(
            f"gradient_statistics: num_draws={num_draws}, draws_per_chunk={draws_per_chunk}; expected at least 2 and at least 1"
        )
    shapes = jax.eval_shape(gradient, key)
    if exact is not None:
        _check_exact(exact, shapes)
    size = min(draws_per_chunk, num_draws)
    chunks = -(-num_draws // size)

    def chunk(
        carry: tuple[jax.Array, Gradient, Gradient], index: jax.Array
    ) -> tuple[tuple[jax.Array, Gradient, Gradient], None]:
        """Chan's update of count, mean and sum of squared deviations by a chunk of draws."""
        count, mean, squares = carry
        numbers = index * size + jnp.arange(size)
        draws = jax.vmap(lambda number: gradient(jax.random.fold_in(key, number)))(numbers)
        counted = numbers < num_draws
        added = jnp.sum(counted)

        def merge(m: jax.Array, s: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
            g = g.astype(m.dtype)
            keep = counted.reshape(-1, *(1,) * (g.ndim - 1))
            middle = jnp.sum(jnp.where(keep, g, 0), axis=0) / added
            within = jnp.sum(jnp.where(keep, jnp.square(g - middle), 0), axis=0)
            shift = middle - m
            total = count + added
            return m + shift * (added / total), s + within + jnp.square(shift) * (count * added / total)

        merged = [merge(*leaves) for leaves in zip(*map(jax.tree.leaves, (mean, squares, draws)), strict=True)]
        structure = jax.tree.structure(mean)
        return (
            count + added,
            jax.tree.unflatten(structure, [m for m, _ in merged]),
            jax.tree.unflatten(structure, [s for _, s in merged]),
        ), None

    wide = jnp.result_type(jnp.float32, *(leaf.dtype for leaf in jax.tree.leaves(shapes)))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, wide), shapes)
    start = (jnp.zeros((), wide), zeros, zeros)
    (_, mean, squares), _ = jax.lax.scan(chunk, start, jnp.arange(chunks))
    variance = jax.tree.map(lambda s: s / (num_draws - 1), squares)
    error = jax.tree.map(lambda v: jnp.sqrt(v / num_draws), variance)
    bias = jax.tree.map(lambda m, e: m - e, mean, jax.tree.map(lambda m: m * jnp.nan, mean) if exact is None else exact)
    floor = jnp.sqrt(jnp.asarray(2.0 / (jnp.pi * num_draws), wide))
    ratio, total_variance = _signal_to_noise(mean, variance)
    return GradientStatistics(mean, variance, error, bias, ratio, floor, total_variance)


def _signal_to_noise(mean: Gradient, variance: Gradient) -> tuple[jax.Array, jax.Array]:
    """Return the mean over coordinates of |mean| / standard deviation, and the summed variance."""
    flat_mean, flat_variance = (
        jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(t)]) for t in (mean, variance)
    )
    deviation = jnp.sqrt(flat_variance)
    ratio = jnp.where(deviation > 0, jnp.abs(flat_mean) / jnp.where(deviation > 0, deviation, 1.0), jnp.inf)
    ratio = jnp.where((deviation == 0) & (flat_mean == 0), 0.0, ratio)  # neither signal nor noise
    return jnp.mean(ratio), jnp.sum(flat_variance)


def _check_exact(exact: Gradient, shapes: Gradient) -> None:
    given = jax.tree.map(jnp.shape, exact)
    expected = jax.tree.map(lambda leaf: leaf.shape, shapes)
    if given != expected:
        raise ValueError(f"gradient_statistics: exact has shapes {given}, expected {expected} like the gradient")
