"""Bounds from several weighted samples, all read from log weights ``log p(x, z) - log q(z | x)`` with samples first: [k, ...].

A log weight of -inf is a sample of weight zero. What a function gives where all weights are zero it says; a log weight of inf gives
inf, NaN gives NaN. Each column [k] stands by itself: whatever one holds, values and gradients of the others are those without it.
A bound that is infinite has the gradient zero, but for means of log weights and for sums of several bounds, of which each part
keeps its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.bounds.evidence import check_per_sample, standard_normal_like
from vaex.distributions import Distribution
from vaex.divergences.monte_carlo import check_num_samples, draw
from vaex.ops.arrays import lift
from vaex.ops.log_sum_exp import log_sum_exp, normalise_exp, settle


def estimate_log_weights(
    key: jax.Array,
    encoder: Callable[[jax.Array], Distribution],
    decoder: Callable[[jax.Array], Distribution],
    x: jax.Array,
    *,
    num_samples: int,
    prior: Distribution | None = None,
) -> jax.Array:
    r"""Log weights :math:`\log p(x|z_i) + \log p(z_i) - \log q(z_i|x)` of k samples of the posterior, in nats.

    Args:
      key: a key.
      encoder: x -> the posterior q(z|x), batch shape [b].
      decoder: z [k, b, *latent] -> the distribution over x, batch shape [k, b].
      x: [b, *event].
      num_samples: k.
      prior: over one z; the standard normal by default.
    Returns: [k, b], what every bound of this module takes.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> from vaex.distributions import Normal
      >>> exact = lambda x: Normal(0.5 * x, log_scale=jnp.full(x.shape, -0.5 * jnp.log(2.0)))
      >>> weights = estimate_log_weights(jax.random.key(0), exact, lambda z: Normal(z, 1.0), jnp.ones((1, 1)), num_samples=4)
      >>> print(jnp.round(weights[:, 0], 3))  # log p(x), whatever the sample: the posterior is exact
      [-1.516 -1.516 -1.516 -1.516]

    References: Burda, Grosse & Salakhutdinov 2016, eq. 8.
    """
    check_num_samples("estimate_log_weights", num_samples)
    posterior = encoder(x)
    prior = standard_normal_like(posterior) if prior is None else prior
    z, log_q = draw(key, posterior, prior, num_samples)
    log_px = decoder(z).log_prob(x)
    check_per_sample("estimate_log_weights", log_px, num_samples, log_q.shape[1:])
    return log_px + prior.log_prob(z) - log_q


def importance_bound(log_weights: jax.Array) -> jax.Array:
    r"""Importance-weighted bound (IWAE) per example, in nats.

    :math:`\log \frac1k \sum_i w_i` over the first axis; its expectation is the ELBO at k = 1, never falls with k and
    tends to log p(x).

    Args:
      log_weights: [k, ...].
    Returns: [...]; -inf where all weights are zero.
    Raises: ValueError if there is no sample axis or it is empty.
    Example:
      >>> importance_bound(jnp.log(jnp.array([[1.0], [3.0]])))
      Array([0.6931472], dtype=float32)

    References: Burda, Grosse & Salakhutdinov 2016, eq. 8.
    """
    log_weights = samples_first("importance_bound", log_weights)
    return log_sum_exp(log_weights, axis=0) - math.log(log_weights.shape[0])


def mean_importance_bound(log_weights: jax.Array) -> jax.Array:
    r"""Mean of m importance bounds of k samples each (MIWAE), in nats.

    Args:
      log_weights: [m, k, ...].
    Returns: [...]; between the ELBO (k = 1) and the importance bound of all samples (m = 1), in expectation; -inf where all weights
      of one group are zero.
    Raises: ValueError if the first two axes are missing or empty.
    Example:
      >>> print(f"{mean_importance_bound(jnp.log(jnp.array([[1.0, 3.0], [2.0, 6.0]]))):.4f}")
      1.0397

    References: Rainforth et al. 2018, eq. 14.
    """
    log_weights = _groups_first("mean_importance_bound", log_weights)
    return jnp.mean(importance_bound(jnp.swapaxes(log_weights, 0, 1)), axis=0)


def combined_importance_bound(log_weights: jax.Array, *, mix: ArrayLike) -> jax.Array:
    r"""Combination of the ELBO and the importance bound (CIWAE): :math:`\beta\,\mathrm{ELBO} + (1-\beta)\,\mathrm{IWAE}_k`.

    Args:
      log_weights: [k, ...].
      mix: beta in [0, 1], the share of the ELBO; may be traced.
    Returns: [...], nats; -inf where one weight is zero and mix is above 0, or all are. A bound whose share is 0 has no part.
    Raises: ValueError if there is no sample axis or it is empty.
    Example:
      >>> print(f"{combined_importance_bound(jnp.log(jnp.array([1.0, 3.0])), mix=0.5):.4f}")
      0.6212

    References: Rainforth et al. 2018, eq. 15.
    """
    log_weights = samples_first("combined_importance_bound", log_weights)
    share = jnp.asarray(mix, log_weights.dtype)
    return _share(share, jnp.mean(log_weights, axis=0)) + _share(1.0 - share, importance_bound(log_weights))


def _share(weight: jax.Array, bound: jax.Array) -> jax.Array:
    """Return weight * bound, where 0 * -inf is 0; where the bound is infinite without a gradient in the weight."""
    infinite = ~jnp.isfinite(bound)
    return constant_where(infinite, weight) * jnp.where(infinite & (weight == 0), 0.0, bound)


class PartialImportanceBounds(NamedTuple):
    """Targets of PIWAE: ``decoder`` trains the generative network, ``encoder`` the inference network."""

    decoder: jax.Array
    encoder: jax.Array


def partial_importance_bounds(log_weights: jax.Array) -> PartialImportanceBounds:
    """Return the two targets of PIWAE from one set of samples: IWAE over all m k samples, and MIWAE over m groups of k.

    Train each network by the gradient of its own target alone; adding the two would mix them.

    Args:
      log_weights: [m, k, ...].
    Returns: both bounds, [...] each, nats.
    Raises: ValueError if the first two axes are missing or empty.
    Example:
      >>> bounds = partial_importance_bounds(jnp.log(jnp.array([[1.0, 3.0], [2.0, 6.0]])))
      >>> print(f"{bounds.decoder:.4f} {bounds.encoder:.4f}")
      1.0986 1.0397

    References: Rainforth et al. 2018, section 5.
    """
    log_weights = _groups_first("partial_importance_bounds", log_weights)
    together = log_weights.reshape(-1, *log_weights.shape[2:])
    return PartialImportanceBounds(importance_bound(together), mean_importance_bound(log_weights))


def renyi_bound(log_weights: jax.Array, *, alpha: ArrayLike) -> jax.Array:
    r"""Variational Renyi bound :math:`\frac1{1-\alpha}\log\frac1k\sum_i w_i^{1-\alpha}`, in nats.

    alpha = 0 is the importance bound, alpha = 1 the ELBO (the limit, smooth in alpha), alpha -> -inf the largest log weight.
    It falls as alpha rises: a lower bound on log p(x) for alpha >= 0, an upper bound for alpha < 0 as k grows; from k samples
    the upper one is estimated too low.

    Args:
      log_weights: [k, ...].
      alpha: order, any real number; may be traced.
    Returns: [...]; -inf where all weights are zero, and where one is and alpha is 1 or more.
    Raises: ValueError if there is no sample axis or it is empty, or alpha is not a scalar.
    Example:
      >>> weights = jnp.log(jnp.array([1.0, 3.0]))
      >>> print(*(f"{renyi_bound(weights, alpha=alpha):.4f}" for alpha in (0.0, 1.0, -100.0)))
      0.6931 0.5493 1.0917

    References: Li & Turner 2016, eqs. 5 and 7.
    """
    log_weights = samples_first("renyi_bound", log_weights)
    if jnp.ndim(alpha):
        raise ValueError(
            f"renyi_bound: alpha has shape {jnp.shape(alpha)}, expected a scalar; vmap over several orders"
        )
    return power_mean(log_weights, 1.0 - jnp.asarray(alpha, log_weights.dtype))


def power_mean(log_weights: jax.Array, power: jax.Array) -> jax.Array:
    """Log of the power mean of the weights over the first axis, (1/s) log mean w^s; the mean log weight at s = 0.

    No digit is lost around s = 0, where the textbook form divides a rounding error by s.
    """
    centre = jax.lax.stop_gradient(jnp.mean(log_weights, axis=0))  # the value does not depend on it
    centre = jnp.where(jnp.isfinite(centre), centre, jax.lax.stop_gradient(jnp.max(log_weights, axis=0)))
    deviation = log_weights - jnp.where(jnp.isfinite(centre), centre, 0.0)
    zero = jnp.abs(power) < 1e-12
    divisor = jnp.where(zero, 1.0, power)
    scaled = constant_where(jnp.isinf(deviation), divisor) * deviation  # its slope there would be infinite
    narrow = jnp.max(jnp.abs(scaled), axis=0) < 1.0
    near = jnp.log1p(jnp.mean(jnp.expm1(jnp.where(narrow, scaled, 0.0)), axis=0))
    far = log_sum_exp(jnp.where(narrow, 0.0, scaled), axis=0) - math.log(log_weights.shape[0])
    finite = jnp.where(jnp.isfinite(deviation), deviation, 0.0)
    series = jnp.mean(deviation, axis=0) + 0.5 * power * jnp.mean(jnp.square(finite), axis=0)
    total = jnp.where(narrow, near, far)
    total = jnp.where(zero, series, total / constant_where(jnp.isinf(total), divisor))
    return jnp.where(jnp.isfinite(centre), centre, 0.0) + total


def constant_where(mask: jax.Array, x: jax.Array) -> jax.Array:
    """Return ``x`` in the shape of the mask, without a gradient where the mask is True."""
    return jnp.where(mask, jax.lax.stop_gradient(x), x)


def effective_sample_size(log_weights: jax.Array) -> jax.Array:
    r"""Effective sample size: how many equally weighted samples the weights are worth, between 1 and k.

    :math:`(\sum w)^2 / \sum w^2` over the first axis.

    Args:
      log_weights: [k, ...].
    Returns: [...]; 0 where all weights are zero. Where weights are infinite, their number.
    Raises: ValueError if there is no sample axis or it is empty.
    Example:
      >>> effective_sample_size(jnp.zeros((10, 1)))
      Array([10.], dtype=float32)

    References: Kong 1992; Owen 2013, section 9.3.
    """
    log_weights, impossible = settle(samples_first("effective_sample_size", log_weights), axis=0)
    twice_sum = 2.0 * log_sum_exp(log_weights, axis=0)
    return jnp.where(impossible[0], 0.0, jnp.exp(twice_sum - log_sum_exp(2.0 * log_weights, axis=0)))


def normalized_weights(log_weights: jax.Array) -> jax.Array:
    """Self-normalised importance weights: over the first axis they sum to 1.

    Args:
      log_weights: [k, ...].
    Returns: [k, ...]; zeros where all weights are zero. Infinite weights share equally.
    Raises: ValueError if there is no sample axis or it is empty.
    Example:
      >>> print(jnp.round(normalized_weights(jnp.log(jnp.array([1.0, 3.0]))), 4))
      [0.25 0.75]

    References: Owen 2013, section 9.2.
    """
    return normalise_exp(samples_first("normalized_weights", log_weights), axis=0)


def weighted_mean(weights: jax.Array, log_weights: jax.Array) -> jax.Array:
    """Mean of the log weights under normalised weights, [k, ...] each, in which 0 * -inf is 0; -inf where all weights are 0."""
    infinite = jnp.isinf(log_weights)
    mean = jnp.sum(weights * jnp.where(infinite, 0.0, log_weights), axis=0)
    counted = jnp.sum(jnp.where(infinite & (weights > 0), log_weights, 0.0), axis=0)  # 0, -inf, inf; of both NaN
    counted = jnp.where(jnp.all(weights == 0, axis=0), -jnp.inf, jax.lax.stop_gradient(counted))
    return jnp.where(counted == 0, mean, counted)


def samples_first(name: str, log_weights: jax.Array) -> jax.Array:
    """Return the log weights in float32 or wider, as an array that has a sample axis."""
    (log_weights,) = lift(log_weights)
    if log_weights.ndim == 0 or log_weights.shape[0] == 0:
        raise ValueError(
            f"{name}: log_weights has shape {log_weights.shape}, expected [k, ...] with k >= 1 samples first"
        )
    return log_weights


def _groups_first(name: str, log_weights: jax.Array) -> jax.Array:
    (log_weights,) = lift(log_weights)
    if log_weights.ndim < 2 or 0 in log_weights.shape[:2]:
        raise ValueError(
            f"{name}: log_weights has shape {log_weights.shape}, expected [m, k, ...]: m groups of k samples first; "
            "reshape [m * k, ...] weights"
        )
    return log_weights
