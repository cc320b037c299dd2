"""How good a fit is: its ELBO with error, Pareto's k of its importance weights, and expectations corrected by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaex import bounds
from vaex.errors import UserError
from vaex.inference.families import Family, Params
from vaex.inference.fitting import LogDensity, log_target
from vaex.inference.supports import Parameters
from vaex.ops.arrays import lift

MIN_TAIL = 5  # weights that a Pareto fit needs


class Diagnosis(NamedTuple):
    """Measurements of a fit, from k samples; nats.

    ``elbo`` and its standard error ``elbo_error``; ``log_evidence``, the importance bound of all samples, at least the ELBO;
    ``pareto_k``: below 0.7 the corrected expectations are usable, above 1 the family misses mass of the target;
    ``effective_sample_size`` of the smoothed weights; ``samples``, a pytree whose leaves lead with k, and their smoothed,
    normalised ``weights`` [k].
    """

    elbo: jax.Array
    elbo_error: jax.Array
    log_evidence: jax.Array
    pareto_k: jax.Array
    effective_sample_size: jax.Array
    samples: Parameters
    weights: jax.Array


def smooth_weights(log_weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Pareto smoothed importance sampling: replace the largest weights by quantiles of a fitted Pareto distribution.

    The tail is the M = min(k / 5, 3 sqrt(k)) largest weights; no smoothed weight exceeds the largest raw one. The shape is
    shrunk towards 1/2 by ten pseudo-observations, as in the reference. A tail no wider than rounding stays, with shape -inf.

    Args:
      log_weights: [k], k at least 25, nats.
    Returns: smoothed log weights [k], in the order given and not normalised; the tail's shape, Pareto's k.
    Raises: UserError for another shape.
    Example:
      >>> smoothed, shape = smooth_weights(jax.random.normal(jax.random.key(0), (1000,)))
      >>> smoothed.shape, bool(shape < 0.7)
      ((1000,), True)

    References: Vehtari, Simpson, Gelman, Yao & Gabry 2024, sections 2.4 and 3; Zhang & Stephens 2009.
    """
    (log_weights,) = lift(log_weights)
    if log_weights.ndim != 1 or log_weights.shape[0] < 5 * MIN_TAIL:
        raise UserError(
            f"smooth_weights: log_weights has shape {log_weights.shape}, expected [k] with k at least {5 * MIN_TAIL}"
        )
    count = log_weights.shape[0]
    tail = min(count // 5, math.ceil(3.0 * math.sqrt(count)))
    order = jnp.argsort(log_weights)
    peak = log_weights[order[-1]]
    ratios = jnp.exp(log_weights[order] - peak)
    cutoff = ratios[-tail - 1]
    exceedances = ratios[-tail:] - cutoff
    narrow = exceedances[-1] <= 1e2 * jnp.finfo(ratios.dtype).eps
    safe = jnp.where(narrow, jnp.arange(1.0, tail + 1.0, dtype=ratios.dtype), exceedances)
    shape, scale = _fit_pareto(jnp.maximum(safe, jnp.finfo(ratios.dtype).tiny))
    shape = (tail * shape + 5.0) / (tail + 10.0)
    # log(1 - p) of the M quantiles at (i - 1/2) / M
    upper = jnp.log1p(-(jnp.arange(tail, dtype=ratios.dtype) + 0.5) / tail)
    near_zero = jnp.abs(shape) < 1e-6
    excess = jnp.where(near_zero, -upper, jnp.expm1(-shape * upper) / jnp.where(near_zero, 1.0, shape))
    smoothed = jnp.log(jnp.minimum(cutoff + scale * excess, 1.0)) + peak
    smoothed = jnp.where(narrow, log_weights[order[-tail:]], smoothed)
    return log_weights.at[order[-tail:]].set(smoothed), jnp.where(narrow, -jnp.inf, shape)


def _fit_pareto(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shape and scale of a generalised Pareto distribution, from positive x [n], rising (Zhang & Stephens 2009, section 3)."""
    count = x.shape[0]
    grid = 30 + math.isqrt(count)
    quartile = x[math.floor(count / 4 + 0.5) - 1]
    j = jnp.arange(1, grid + 1, dtype=x.dtype)
    theta = 1.0 / x[-1] + (1.0 - jnp.sqrt(grid / (j - 0.5))) / (3.0 * quartile)
    shapes = jnp.mean(jnp.log1p(-theta[:, None] * x), axis=1)
    likelihood = count * (jnp.log(-theta / shapes) - shapes - 1.0)
    best = jnp.sum(jax.nn.softmax(likelihood) * theta)
    shape = jnp.mean(jnp.log1p(-best * x))
    return shape, -shape / best


def diagnose(
    key: jax.Array, log_density: LogDensity, family: Family, params: Params, *, num_samples: int = 2000
) -> Diagnosis:
    """Measure a fit by new samples.

    Args:
      key: a key that the fit did not use.
      log_density: as given to ``fit``.
      family: the family; not a ``PointMass``, which has no density.
      params: as from ``fit``.
      num_samples: k, at least 25.
    Returns: the measurements.
    Raises: UserError for too few samples; TypeError for a point mass.
    References: Yao, Vehtari, Simpson & Gelman 2018, section 3 (k as a diagnostic of a fit).
    """
    posterior = family.distribution(params)
    z = posterior.sample(key, (num_samples,))
    log_weights = log_target(log_density, family)(z) - posterior.log_prob(z)
    smoothed, pareto_k = smooth_weights(log_weights)
    return Diagnosis(
        elbo=jnp.mean(log_weights),
        elbo_error=jnp.std(log_weights, ddof=1) / math.sqrt(num_samples),
        log_evidence=bounds.importance_bound(log_weights),
        pareto_k=pareto_k,
        effective_sample_size=bounds.effective_sample_size(smoothed),
        samples=jax.vmap(lambda one: family.space.constrain(one)[0])(z),
        weights=bounds.normalized_weights(smoothed),
    )


def corrected_expectation(function: Callable[[Parameters], jax.Array], diagnosis: Diagnosis) -> jax.Array:
    """Expectation under the target, by the smoothed weights.

    Args:
      function: one pytree of parameters -> array [...].
      diagnosis: of ``diagnose``; its ``pareto_k`` says whether to trust the value.
    Returns: [...].
    """
    return jnp.tensordot(diagnosis.weights, jax.vmap(function)(diagnosis.samples), axes=1)
