"""Stein variational gradient descent: particles that move towards a density and push one another apart."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from vaex.errors import UserError
from vaex.inference.families import MeanField
from vaex.inference.fitting import LogDensity, log_target
from vaex.inference.supports import Parameters


class SteinFit(NamedTuple):
    """Result of ``fit_stein``: ``samples``, the pytree of parameters, leaves lead with k; ``z`` [k, d], unconstrained.

    ``speed`` [steps]: root mean square of the direction before each step; near 0 where the particles have come to rest.
    """

    samples: Parameters
    z: jax.Array
    speed: jax.Array


def stein_direction(z: jax.Array, score: jax.Array, *, bandwidth: ArrayLike | None = None) -> jax.Array:
    r"""Direction of steepest descent of KL(particles, target) in the space of a Gaussian kernel.

    :math:`\phi(z_i) = \frac1k \sum_j k(z_j, z_i) s_j + \nabla_{z_j} k(z_j, z_i)`, :math:`k(x, y) = \exp(-|x - y|^2 / h)`.

    Args:
      z: particles [k, d].
      score: gradients of the log-density at them [k, d].
      bandwidth: h; by default the squared median distance over log k. Of one particle it does not matter.
    Returns: [k, d].
    References: Liu & Wang 2016, eq. 8.
    """
    count = z.shape[0]
    difference = z[:, None] - z  # [i, j, d]: z_i - z_j
    squares = jnp.sum(jnp.square(difference), axis=-1)
    if bandwidth is None:
        pairs = jnp.sqrt(squares[jnp.tril_indices(count, -1)])
        bandwidth = jnp.square(jnp.median(pairs)) / math.log(count) if count > 1 else 1.0
    kernel = jnp.exp(-squares / bandwidth)
    drift = kernel @ score
    repulsion = 2.0 / bandwidth * jnp.sum(kernel[..., None] * difference, axis=1)
    return (drift + repulsion) / count


def fit_stein(
    key: jax.Array,
    log_density: LogDensity,
    supports: object,
    *,
    num_particles: int = 100,
    steps: int = 1000,
    optimizer: optax.GradientTransformation | None = None,
    bandwidth: ArrayLike | None = None,
    start: jax.Array | None = None,
) -> SteinFit:
    """Move particles to a density. Deterministic after the start; one particle climbs to the mode of the unconstrained vector.

    In many dimensions the particles' variances come out too small.

    Args:
      key: of the start.
      log_density: one pytree of parameters -> scalar, nats, up to a constant.
      supports: a pytree of supports, or an int.
      num_particles: k.
      steps: of the optimizer.
      optimizer: of optax; Adagrad at 0.5 by default.
      bandwidth: of the kernel, as for ``stein_direction``.
      start: unconstrained [k, d]; by default standard normal.
    Returns: the particles.
    Raises: UserError for fewer than one particle or step, or a start of another shape.
    Example:
      >>> fit = fit_stein(jax.random.key(0), lambda x: -jnp.sum((x - 1.0) ** 2), 2, num_particles=30, steps=200)
      >>> print(jnp.round(jnp.mean(fit.samples, axis=0), 2))
      [1. 1.]

    References: Liu & Wang 2016, algorithm 1.
    """
    if num_particles < 1 or steps < 1:
        raise UserError(f"fit_stein: num_particles is {num_particles}, steps is {steps}; expected at least 1")
    family = MeanField(supports)
    shape = (num_particles, family.space.size)
    z = jax.random.normal(key, shape) if start is None else jnp.asarray(start)
    if z.shape != shape:
        raise UserError(f"fit_stein: start has shape {z.shape}, expected {shape}")
    target = log_target(log_density, family)
    optimizer = optax.adagrad(0.5) if optimizer is None else optimizer

    def advance(state: tuple[jax.Array, optax.OptState], _: None) -> tuple[tuple[jax.Array, optax.OptState], jax.Array]:
        z, moments = state
        direction = stein_direction(z, jax.vmap(jax.grad(target))(z), bandwidth=bandwidth)
        updates, moments = optimizer.update(-direction, moments, z)
        moved: Any = optax.apply_updates(z, updates)
        return (moved, moments), jnp.sqrt(jnp.mean(jnp.square(direction)))

    (z, _), speed = jax.lax.scan(advance, (z, optimizer.init(z)), None, length=steps)
    return SteinFit(jax.vmap(lambda one: family.space.constrain(one)[0])(z), z, speed)
