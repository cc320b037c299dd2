"""Penalties on the covariance of the aggregate posterior (DIP-VAE)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.ops.arrays import lift


def dip_i_penalty(mean: jax.Array, *, off_diagonal: ArrayLike, diagonal: ArrayLike) -> jax.Array:
    r"""DIP-VAE-I: squared distance of the covariance of posterior means from the identity, a scalar over the batch.

    :math:`\lambda_{od}\sum_{i\ne j}C_{ij}^2 + \lambda_d\sum_i(C_{ii}-1)^2` with C the batch covariance (divided by b).

    Args:
      mean: [b, d], posterior means of a batch.
      off_diagonal: lambda_od; may be traced.
      diagonal: lambda_d; the paper uses 10 lambda_od here.
    Returns: a scalar, float32 or wider.
    Raises: ValueError if the shape is not [b, d] with b >= 2.
    Example:
      >>> dip_i_penalty(jnp.array([[1.0, 1.0], [-1.0, -1.0]]), off_diagonal=1.0, diagonal=10.0)
      Array(2., dtype=float32)

    References: Kumar, Sattigeri & Balakrishnan 2018, eq. 6.
    """
    (mean,) = lift(_checked("dip_i_penalty", mean))
    return _penalty(_covariance(mean), off_diagonal, diagonal)


def dip_ii_penalty(mean: jax.Array, log_scale: jax.Array, *, off_diagonal: ArrayLike, diagonal: ArrayLike) -> jax.Array:
    r"""DIP-VAE-II: squared distance of the covariance of the latents, posterior noise included, from the identity; a scalar.

    C is the batch covariance of the means (divided by b) plus the mean over the batch of the posterior variances.

    Args:
      mean: [b, d], posterior means of a batch.
      log_scale: [b, d], log standard deviations of the posteriors.
      off_diagonal: lambda_od; may be traced.
      diagonal: lambda_d; the paper uses lambda_od here.
    Returns: a scalar, float32 or wider.
    Raises: ValueError if the shapes are not both [b, d] with b >= 2.
    Example:
      >>> dip_ii_penalty(jnp.zeros((2, 3)), jnp.zeros((2, 3)), off_diagonal=1.0, diagonal=1.0)
      Array(0., dtype=float32)

    References: Kumar, Sattigeri & Balakrishnan 2018, eq. 7.
    """
    mean, log_scale = lift(_checked("dip_ii_penalty", mean), log_scale)
    if log_scale.shape != mean.shape:
        raise ValueError(
            f"dip_ii_penalty: log_scale has shape {log_scale.shape}, expected {mean.shape} like mean; broadcast it first"
        )
    noise = jnp.mean(jnp.exp(2.0 * log_scale), axis=0)
    return _penalty(_covariance(mean) + jnp.diag(noise), off_diagonal, diagonal)


def _checked(name: str, mean: jax.Array) -> jax.Array:
    if np.ndim(mean) != 2 or np.shape(mean)[0] < 2:
        raise ValueError(
            f"{name}: mean has shape {np.shape(mean)}, expected [b, d] with b >= 2; give a batch of latents"
        )
    return mean


def _covariance(x: jax.Array) -> jax.Array:
    centred = x - jnp.mean(x, axis=0)
    return jnp.matmul(centred.T, centred, precision=jax.lax.Precision.HIGHEST) / x.shape[0]


def _penalty(covariance: jax.Array, off_diagonal: ArrayLike, diagonal: ArrayLike) -> jax.Array:
    variances = jnp.diagonal(covariance)
    off = jnp.sum(jnp.square(covariance - jnp.diag(variances)))
    return jnp.asarray(off_diagonal * off + diagonal * jnp.sum(jnp.square(variances - 1.0)))
