"""Laplace's approximation: the Gaussian at the mode, its precision the curvature there."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaex.distributions.gaussian import LOG_2PI
from vaex.inference.families import FullRank
from vaex.inference.fitting import LogDensity, log_target


class LaplaceFit(NamedTuple):
    """Result of ``laplace``.

    ``params`` are those of ``family``, a ``FullRank``; ``log_evidence`` is the approximation to the log normaliser, nats;
    ``gradient`` is the largest absolute slope left at the mode.
    """

    family: FullRank
    params: dict[str, jax.Array]
    log_evidence: jax.Array
    gradient: jax.Array


def laplace(
    log_density: LogDensity, supports: object, *, start: object = None, steps: int = 100, damping: float = 1e-6
) -> LaplaceFit:
    """Find the mode of the unconstrained vector by Newton's method, and the Gaussian there.

    Each step is tried at lengths 1, 1/2, ... 1/128 and the best is taken; where the curvature is not negative definite, the
    absolute values of its eigenvalues scale the step, so the density rises. If none of the lengths raises it, nothing moves.

    Args:
      log_density: one pytree of parameters -> scalar, nats, up to a constant; twice differentiable.
      supports: a pytree of supports, or an int.
      start: a pytree of parameters to begin from; by default the vector zero.
      steps: of Newton's method.
      damping: least size of an eigenvalue, relative to the largest.
    Returns: the fit. Exact for a Gaussian.
    References: MacKay 2003, chapter 27.
    """
    family = FullRank(supports)
    target = log_target(log_density, family)
    z = jnp.zeros(family.space.size) if start is None else family.space.unconstrain(start)
    lengths = jnp.append(0.5 ** jnp.arange(8), 0.0).astype(z.dtype)

    def newton(z: jax.Array, _: None) -> tuple[jax.Array, None]:
        slope, curvature = jax.grad(target)(z), jax.hessian(target)(z)
        values, vectors = jnp.linalg.eigh(curvature)
        sizes = jnp.maximum(jnp.abs(values), damping * jnp.max(jnp.abs(values)))
        direction = vectors @ ((vectors.T @ slope) / sizes)
        trials = z + lengths[:, None] * direction
        heights = target(trials)
        return trials[jnp.argmax(jnp.where(jnp.isnan(heights), -jnp.inf, heights))], None

    z, _ = jax.lax.scan(newton, z, None, length=steps)
    precision = -jax.hessian(target)(z)
    params = family.params(z, jnp.linalg.inv(precision))
    log_evidence = target(z) + 0.5 * z.shape[0] * LOG_2PI + jnp.sum(params["log_scale"])
    return LaplaceFit(family, params, log_evidence, jnp.max(jnp.abs(jax.grad(target)(z))))
