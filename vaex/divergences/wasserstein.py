"""Wasserstein distances: between Gaussians, and between two batches along random directions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions import Distribution, Normal
from vaex.distributions.sphere import unit
from vaex.divergences.gaussian import Gaussian, columns
from vaex.divergences.registry import check_shapes
from vaex.ops.arrays import lift, sum_trailing


def squared_wasserstein(q: Distribution, p: Distribution) -> jax.Array:
    r"""Squared 2-Wasserstein distance between two Gaussians, in squared units of the latents (not nats).

    :math:`|\mu_q-\mu_p|^2 + \mathrm{tr}(\Sigma_q + \Sigma_p - 2(\Sigma_q^{1/2}\Sigma_p\Sigma_q^{1/2})^{1/2})`; the last trace
    is the sum of singular values of :math:`A^\top B` with :math:`\Sigma_q=AA^\top`, :math:`\Sigma_p=BB^\top`.

    Args:
      q: Normal, MultivariateNormal or LowRankNormal.
      p: another of these.
    Returns: one value per batch element, summed over event axes.
    Raises: TypeError for other families (``sliced_wasserstein`` compares samples of anything). ValueError if the shapes
      differ.
    Example:
      >>> squared_wasserstein(Normal(jnp.full(2, 3.0), 1.0), Normal(jnp.zeros(2), 1.0))
      Array(18., dtype=float32)

    References: Dowson & Landau 1982; Givens & Shortt 1984, proposition 7.
    """
    names = f"{type(q).__name__} and {type(p).__name__}"
    if not isinstance(q, Gaussian) or not isinstance(p, Gaussian):
        raise TypeError(
            f"squared_wasserstein: got {names}, expected two Gaussians; use sliced_wasserstein(key, x, y, num_projections) "
            "on samples"
        )
    check_shapes("squared_wasserstein", names, q, p)
    if isinstance(q, Normal) and isinstance(p, Normal):
        q_mean, q_log_scale, p_mean, p_log_scale = lift(q.mean, q.log_scale, p.mean, p.log_scale)
        terms = jnp.square(q_mean - p_mean) + jnp.square(jnp.exp(q_log_scale) - jnp.exp(p_log_scale))
        return sum_trailing(terms, q.event_ndims)
    a, b, q_mean, p_mean = lift(columns(q), columns(p), q.mean, p.mean)
    product = jnp.matmul(a.mT, b, precision=jax.lax.Precision.HIGHEST)
    overlap = jnp.sum(jnp.linalg.svd(product, compute_uv=False), axis=-1)
    spread = jnp.sum(jnp.square(a), axis=(-2, -1)) + jnp.sum(jnp.square(b), axis=(-2, -1)) - 2.0 * overlap
    return jnp.sum(jnp.square(q_mean - p_mean), axis=-1) + spread


def sliced_wasserstein(
    key: jax.Array, x: jax.Array, y: jax.Array, num_projections: int, *, power: int = 2
) -> jax.Array:
    r"""Sliced Wasserstein distance between two batches, to the power ``power``, a scalar.

    The mean over random unit directions of the one-dimensional :math:`W_p^p`, which sorting gives exactly. For
    Gaussians that differ by a shift m it is :math:`|m|^2/d` at power 2.

    Args:
      key: a key.
      x: [n, d].
      y: [n, d], as many rows.
      num_projections: number of directions.
      power: p, 1 or 2.
    Returns: a scalar over the whole batch, float32 or wider.
    Raises: ValueError if the shapes differ or a number is out of range.
    Example:
      >>> x = jax.random.normal(jax.random.key(0), (10, 3))
      >>> sliced_wasserstein(jax.random.key(1), x, x[::-1], 5)
      Array(0., dtype=float32)

    References: Kolouri et al. 2019, eqs. 9-11; Bonneel et al. 2015.
    """
    if np.ndim(x) != 2 or np.shape(x) != np.shape(y) or np.shape(x)[0] == 0:
        raise ValueError(
            f"sliced_wasserstein: got shapes {np.shape(x)} and {np.shape(y)}, expected [n, d] twice; draw as many samples "
            "of one as of the other"
        )
    if not isinstance(num_projections, int) or num_projections < 1 or power not in (1, 2):
        raise ValueError(
            f"sliced_wasserstein: num_projections is {num_projections} and power is {power}, expected a positive int and 1 "
            "or 2; 50 directions and power 2 are usual"
        )
    x, y = lift(x, y)
    directions = unit(jax.random.normal(key, (num_projections, x.shape[1]), x.dtype))

    def project(z: jax.Array) -> jax.Array:
        return jnp.sort(jnp.matmul(directions, z.T, precision=jax.lax.Precision.HIGHEST), axis=-1)

    return jnp.mean(jnp.abs(project(x) - project(y)) ** power)
