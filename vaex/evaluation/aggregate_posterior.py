"""Aggregate posterior of a data set: its density, and the three parts of the average KL."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex.evaluation.likelihood import Estimate, estimate
from vaex.ops.log_sum_exp import log_sum_exp

BLOCK = 512  # posteriors evaluated together


class AggregateKL(NamedTuple):
    """Parts of the average KL to a standard normal prior, in nats, which they add up to; see ``aggregate_kl``."""

    index_code_mi: Estimate
    total_correlation: Estimate
    dimension_wise_kl: Estimate


def aggregate_kl(key: jax.Array, mean: np.ndarray, log_scale: np.ndarray, num_samples: int = 1000) -> AggregateKL:
    r"""Decompose the average KL of diagonal Gaussian posteriors to a standard normal prior, over a data set.

    :math:`\mathrm{KL}(q(z,n)\,\|\,q(z)p(n)) + \mathrm{KL}(q(z)\,\|\,\prod_j q(z_j)) + \sum_j\mathrm{KL}(q(z_j)\,\|\,p(z_j))` with
    :math:`q(z) = \frac1N\sum_n q(z|x_n)` over all N posteriors given. Unlike estimates from a minibatch, these are unbiased:
    their only error is that of the mean over z, and it is reported.

    Args:
      key: draws examples uniformly, and their z.
      mean, log_scale: [n, d], the posteriors of all examples.
      num_samples: draws of z, s; time grows as s n d.
    Returns: three ``Estimate``s whose ``values`` are [s], in nats.
    Raises: ValueError unless mean and log_scale are finite and of one shape [n, d], or for fewer than 2 samples.
    Example:
      >>> mean = np.array([[-1.0, -1.0], [1.0, 1.0]])  # two far points on the diagonal: log 2 nats of dependence
      >>> parts = aggregate_kl(jax.random.key(0), mean, np.full((2, 2), -5.0), 10)
      >>> round(parts.total_correlation.mean, 4), round(parts.index_code_mi.mean, 4)
      (0.6931, 0.6931)

    References: Chen et al. 2018, eq. 2; Hoffman & Johnson 2016.
    """
    mean, log_scale = np.asarray(mean, np.float32), np.asarray(log_scale, np.float32)
    if mean.ndim != 2 or mean.shape != log_scale.shape or not mean.size or num_samples < 2:
        raise ValueError(
            f"aggregate_kl: mean and log_scale have shapes {mean.shape} and {log_scale.shape} and num_samples is {num_samples}, "
            "expected one shape [n, d] and at least 2 samples; give the posteriors of all examples"
        )
    if not (np.isfinite(mean).all() and np.isfinite(log_scale).all()):
        raise ValueError("aggregate_kl: mean or log_scale holds NaN or infinity; look at the encoder first")
    example_key, noise_key = jax.random.split(key)
    chosen = np.asarray(jax.random.randint(example_key, (num_samples,), 0, len(mean)))
    noise = np.asarray(jax.random.normal(noise_key, (num_samples, mean.shape[1])))
    z = mean[chosen] + np.exp(log_scale[chosen]) * noise
    joint, marginals = aggregate_log_density(z, mean, log_scale)
    half_log_2pi = 0.5 * math.log(2 * math.pi)
    conditional = np.sum(-0.5 * noise**2 - log_scale[chosen] - half_log_2pi, axis=1, dtype=np.float64)
    prior = np.sum(-0.5 * z**2 - half_log_2pi, axis=1, dtype=np.float64)
    product = np.sum(marginals, axis=1)
    return AggregateKL(estimate(conditional - joint), estimate(joint - product), estimate(product - prior))


def aggregate_log_density(z: np.ndarray, mean: np.ndarray, log_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Log-densities of the aggregate posterior and of its marginals: :math:`\log q(z)` [s] and :math:`\log q(z_j)` [s, d].

    Args:
      z: [s, d], points near the posteriors: a marginal density below 1e-37 or so counts as 0.
      mean, log_scale: [n, d], diagonal Gaussian posteriors; any number, in blocks.
    Returns: float64 [s] and [s, d], nats.
    Example:
      >>> joint, marginals = aggregate_log_density(np.zeros((1, 2)), np.zeros((3, 2)), np.zeros((3, 2)))
      >>> print(joint.round(4), marginals.round(4))
      [-1.8379] [[-0.9189 -0.9189]]
    """
    n, d = mean.shape
    points = jnp.asarray(z, jnp.float32).T
    joint, marginals = np.full(len(z), -np.inf), np.zeros(z.shape)
    for start in range(0, n, BLOCK):
        rows = np.arange(start, start + BLOCK)
        counted = rows < n  # all blocks are of one shape, for one program
        rows = np.minimum(rows, n - 1)
        block = _block(points, mean[rows].T.astype(np.float32), log_scale[rows].T.astype(np.float32), counted)
        joint = np.logaddexp(joint, np.asarray(block[0], np.float64))
        marginals += np.asarray(block[1], np.float64)
    constant = 0.5 * math.log(2 * math.pi)
    with np.errstate(divide="ignore"):  # log 0 is -inf
        return joint - math.log(n) - d * constant, np.log(marginals) - math.log(n) - constant


@jax.jit
def _block(z: jax.Array, mean: jax.Array, log_scale: jax.Array, counted: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum the densities of a block of posteriors [d, n] at points [d, s], without the Gaussians' constants: log [s], and [s, d].

    One latent after the other: at once, XLA's CPU compiler would keep [d, s, n] in memory, and take ten times as long.
    """
    precision = jnp.exp(-log_scale)
    total, marginals = jnp.where(counted, 0.0, -jnp.inf), []
    for latent in range(z.shape[0]):
        scaled = (z[latent, :, None] - mean[latent]) * precision[latent]
        log_density = -0.5 * jnp.square(scaled) - log_scale[latent]
        marginals.append(jnp.sum(jnp.where(counted, jnp.exp(log_density), 0.0), axis=-1))
        total = total + log_density
    return log_sum_exp(total, axis=-1), jnp.stack(marginals, axis=-1)
