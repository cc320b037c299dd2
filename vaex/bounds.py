"""Bounds on the log-likelihood, from raw terms. Bounds go up; everything is in nats and per example.

Log weights are ``log p(x, z) - log q(z | x)`` with samples on the first axis: [k, ...].
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def elbo(log_px: jax.Array, kl: jax.Array, *, beta: ArrayLike = 1.0) -> jax.Array:
    r"""Evidence lower bound per example, in nats (larger is better).

    :math:`\log p(x|z) - \beta\,\mathrm{KL}(q(z|x)\,\|\,p(z))`; a lower bound on log p(x) for beta >= 1.

    Args:
      log_px: [...], log-likelihood, summed over event dimensions.
      kl: [...], divergence, summed over latent dimensions.
      beta: weight; may be traced.
    Returns: [...], one value per example, not averaged.
    Raises: ValueError if the shapes differ.
    Example:
      >>> elbo(jnp.array([-1.0]), jnp.array([0.5]), beta=2.0)
      Array([-2.], dtype=float32)

    References: Kingma & Welling 2014, eq. 3; Higgins et al. 2017, eq. 4.
    """
    log_px, kl = jnp.asarray(log_px), jnp.asarray(kl)
    if log_px.shape != kl.shape:
        raise ValueError(
            f"elbo: kl has shape {kl.shape}, expected {log_px.shape} like log_px; sum the event and latent axes first"
        )
    return log_px - beta * kl


def importance_bound(log_weights: jax.Array) -> jax.Array:
    r"""Importance-weighted bound (IWAE) per example, in nats.

    :math:`\log \frac1k \sum_i w_i` over the first axis; its expectation is the elbo at k = 1, never falls with k and
    tends to log p(x).

    Args:
      log_weights: [k, ...].
    Returns: [...].
    Raises: ValueError if there is no sample axis or it is empty.
    Example:
      >>> importance_bound(jnp.log(jnp.array([[1.0], [3.0]])))
      Array([0.6931472], dtype=float32)

    References: Burda, Grosse & Salakhutdinov 2016, eq. 8.
    """
    log_weights = _samples_first("importance_bound", log_weights)
    return jax.nn.logsumexp(log_weights, axis=0) - jnp.log(log_weights.shape[0]).astype(log_weights.dtype)


def effective_sample_size(log_weights: jax.Array) -> jax.Array:
    r"""How many equally weighted samples the weights are worth, between 1 and k.

    :math:`(\sum w)^2 / \sum w^2` over the first axis.

    Args:
      log_weights: [k, ...].
    Returns: [...].
    Raises: ValueError if there is no sample axis or it is empty.
    Example:
      >>> effective_sample_size(jnp.zeros((10, 1)))
      Array([10.], dtype=float32)

    References: Kong 1992; Owen 2013, section 9.3.
    """
    log_weights = _samples_first("effective_sample_size", log_weights)
    twice_sum = 2.0 * jax.nn.logsumexp(log_weights, axis=0)
    return jnp.exp(twice_sum - jax.nn.logsumexp(2.0 * log_weights, axis=0))


def free_bits(kl_per_latent: jax.Array, minimum: ArrayLike) -> jax.Array:
    r"""KL with a floor under each latent: :math:`\sum_j \max(\mathrm{KL}_j, \lambda)`, in nats.

    Args:
      kl_per_latent: [b, d], one term per latent and example. The floor is applied to the batch mean of each latent, and
        the result is spread over the examples so that its batch mean is the penalised KL.
      minimum: nats that each latent may use freely; 0 leaves the KL as it is.
    Returns: [b].
    Raises: ValueError if ``kl_per_latent`` is not [b, d].
    Example:
      >>> free_bits(jnp.array([[0.1, 2.0], [0.3, 4.0]]), 0.5)
      Array([2.5, 4.5], dtype=float32)

    References: Kingma et al. 2016, eq. 15.
    """
    kl_per_latent = jnp.asarray(kl_per_latent)
    if kl_per_latent.ndim != 2:
        raise ValueError(
            f"free_bits: kl_per_latent has shape {kl_per_latent.shape}, expected [b, d]; keep the latent axis"
        )
    over = jnp.mean(kl_per_latent, axis=0) > minimum
    return jnp.sum(jnp.where(over, kl_per_latent, jnp.asarray(minimum, kl_per_latent.dtype)), axis=-1)


def capacity_penalty(kl: jax.Array, capacity: ArrayLike, *, gamma: ArrayLike) -> jax.Array:
    r"""Penalty that draws the KL to a target: :math:`\gamma\,|\mathrm{KL} - C|`, in nats.

    Args:
      kl: [...], summed over latent dimensions. Give the batch mean to bind the average, as the paper does.
      capacity: C, in nats.
      gamma: weight.
    Returns: [...].
    Example:
      >>> capacity_penalty(jnp.array(3.0), 5.0, gamma=10.0)
      Array(20., dtype=float32, weak_type=True)

    References: Burgess et al. 2018, eq. 8.
    """
    return jnp.asarray(gamma * jnp.abs(kl - capacity))


def _samples_first(name: str, log_weights: jax.Array) -> jax.Array:
    log_weights = jnp.asarray(log_weights)
    if log_weights.ndim == 0 or log_weights.shape[0] == 0:
        raise ValueError(
            f"{name}: log_weights has shape {log_weights.shape}, expected [k, ...] with k >= 1 samples first"
        )
    return log_weights
