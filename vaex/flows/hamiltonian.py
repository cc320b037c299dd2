"""Hamiltonian flows: leapfrog steps of a position and a momentum, which keep volume, and tempering between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.ops.platforms import unroll

UNROLLED = 8  # most steps that an accelerator takes without a loop


class PhasePoint(NamedTuple):
    """``position`` and ``momentum``, [..., d] each."""

    position: jax.Array
    momentum: jax.Array


def quadratic_tempering(num: int, *, initial: ArrayLike) -> jax.Array:
    r"""Inverse temperatures from ``initial`` to 1: :math:`\beta_k^{-1/2} = (1 - \beta_0^{-1/2})\,k^2/K^2 + \beta_0^{-1/2}`.

    Args:
      num: number of steps, K.
      initial: beta_0, above 0; may be traced.
    Returns: [K + 1].
    Raises: ValueError for fewer than one step.
    Example:
      >>> [round(float(beta), 3) for beta in quadratic_tempering(2, initial=0.25)]
      [0.25, 0.327, 1.0]

    References: Caterini et al. 2018, section 3.
    """
    if num < 1:
        raise ValueError(f"quadratic_tempering: num={num}, expected at least 1")
    root = jax.lax.rsqrt(jnp.asarray(initial, jnp.result_type(initial, jnp.float32)))
    return 1.0 / jnp.square((1.0 - root) * jnp.square(jnp.arange(num + 1, dtype=root.dtype) / num) + root)


def leapfrog(
    log_density: Callable[[jax.Array], jax.Array],
    start: PhasePoint,
    *,
    step_size: ArrayLike,
    inverse_temperatures: jax.Array,
) -> tuple[PhasePoint, jax.Array]:
    r"""Follow the Hamiltonian :math:`-\log p(z) + \frac12|\rho|^2` for K leapfrog steps.

    After step k the momentum is multiplied by :math:`\sqrt{\beta_{k-1}/\beta_k}`; equal temperatures leave it. The steps keep
    volume, so the log-determinant of the map is that of tempering, :math:`\frac d2\log(\beta_0/\beta_K)`.

    Args:
      log_density: position [..., d] -> log p [...], up to a constant, each row on its own.
      start: position and momentum, [..., d].
      step_size: [] or [d].
      inverse_temperatures: beta, [K + 1], as ``quadratic_tempering`` returns them.
    Returns: the last point, and the log-determinant [].
    Example:
      >>> start = PhasePoint(jnp.array([1.0]), jnp.array([0.0]))  # a quarter of an oscillation
      >>> end, _ = leapfrog(lambda z: -0.5 * z[..., 0] ** 2, start, step_size=jnp.pi / 100, inverse_temperatures=jnp.ones(51))
      >>> bool(jnp.abs(end.position[0]) < 1e-3), bool(jnp.abs(end.momentum[0] + 1) < 1e-3)
      (True, True)

    References: Caterini et al. 2018, algorithm 1; Neal 2011.
    """
    gradient = jax.grad(lambda z: jnp.sum(log_density(z)))

    def step(carry: tuple[PhasePoint, jax.Array], factor: jax.Array) -> tuple[tuple[PhasePoint, jax.Array], None]:
        (position, momentum), force = carry
        halfway = momentum + 0.5 * step_size * force
        position = position + step_size * halfway
        force = gradient(position)
        momentum = factor * (halfway + 0.5 * step_size * force)
        return (PhasePoint(position, momentum), force), None

    start, factors = _in_one_dtype(start, step_size, inverse_temperatures), _momentum_factors(inverse_temperatures)
    at_once = unroll(factors.shape[0], most=UNROLLED)
    (end, _), _ = jax.lax.scan(step, (start, gradient(start.position)), factors, unroll=at_once)
    return end, _log_det(start, factors)


def generalized_leapfrog(
    log_density: Callable[[jax.Array], jax.Array],
    kinetic: Callable[[jax.Array, jax.Array], jax.Array],
    start: PhasePoint,
    *,
    step_size: ArrayLike,
    inverse_temperatures: jax.Array,
    iterations: int = 3,
) -> tuple[PhasePoint, jax.Array]:
    r"""Follow the Hamiltonian :math:`-\log p(z) + K(z, \rho)`, whose kinetic energy depends on the position, for K leapfrog steps.

    The momentum's first half step and the position's step are implicit equations, which are iterated ``iterations`` times; the
    map keeps volume as far as they are solved. Tempering and log-determinant are as in ``leapfrog``.

    Args:
      log_density: position [..., d] -> log p [...], up to a constant, each row on its own.
      kinetic: position and momentum [..., d] -> kinetic energy [...]: with a metric G,
        :math:`\frac12\log\det G(z) + \frac12\rho^\top G(z)^{-1}\rho`.
      start: position and momentum, [..., d].
      step_size: [] or [d].
      inverse_temperatures: beta, [K + 1], as ``quadratic_tempering`` returns them.
      iterations: of each implicit equation, static.
    Returns: the last point, and the log-determinant [].
    Example:
      >>> start, betas = PhasePoint(jnp.ones((4, 2)), jnp.zeros((4, 2))), jnp.ones(6)
      >>> flat = lambda z, momentum: 0.5 * jnp.sum(jnp.square(momentum), axis=-1)
      >>> log_density = lambda z: -jnp.sum(jnp.square(z), axis=-1)
      >>> end, _ = generalized_leapfrog(log_density, flat, start, step_size=0.1, inverse_temperatures=betas)
      >>> same, _ = leapfrog(log_density, start, step_size=0.1, inverse_temperatures=betas)
      >>> bool(jnp.allclose(end.position, same.position))
      True

    References: Girolami & Calderhead 2011, section 5; Chadebec et al. 2020, section 3.
    """
    gradient = jax.grad(lambda z: jnp.sum(log_density(z)))
    by_position, by_momentum = (jax.grad(lambda z, m: jnp.sum(kinetic(z, m)), argnum) for argnum in (0, 1))

    def step(carry: tuple[PhasePoint, jax.Array], factor: jax.Array) -> tuple[tuple[PhasePoint, jax.Array], None]:
        (position, momentum), force = carry
        halfway = momentum
        for _ in range(iterations):
            halfway = momentum + 0.5 * step_size * (force - by_position(position, halfway))
        velocity, moved = by_momentum(position, halfway), position
        for _ in range(iterations):
            moved = position + 0.5 * step_size * (velocity + by_momentum(moved, halfway))
        force = gradient(moved)
        momentum = factor * (halfway + 0.5 * step_size * (force - by_position(moved, halfway)))
        return (PhasePoint(moved, momentum), force), None

    start, factors = _in_one_dtype(start, step_size, inverse_temperatures), _momentum_factors(inverse_temperatures)
    at_once = unroll(factors.shape[0], most=UNROLLED)
    (end, _), _ = jax.lax.scan(step, (start, gradient(start.position)), factors, unroll=at_once)
    return end, _log_det(start, factors)


def _in_one_dtype(start: PhasePoint, *others: ArrayLike) -> PhasePoint:
    """Return the point in the common dtype of its parts and of what moves it."""
    dtype = jnp.result_type(*start, *others)
    return PhasePoint(jnp.asarray(start.position, dtype), jnp.asarray(start.momentum, dtype))


def _momentum_factors(inverse_temperatures: jax.Array) -> jax.Array:
    """Return what the momentum is multiplied by after each step, [K]."""
    return jnp.sqrt(inverse_temperatures[:-1] / inverse_temperatures[1:])


def _log_det(start: PhasePoint, factors: jax.Array) -> jax.Array:
    """Return the log-determinant of tempering, []."""
    return start.momentum.shape[-1] * jnp.sum(jnp.log(factors))
