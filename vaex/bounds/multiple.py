"""Log weights of several posteriors together, as one mixture."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex.ops.log_sum_exp import log_sum_exp


def mixture_log_weights(log_joint: jax.Array, log_q: jax.Array) -> jax.Array:
    r"""Log weights of samples of several posteriors against their uniform mixture.

    :math:`\log p(x, z_s) - \log \frac1S\sum_j q_j(z_s|x)` for :math:`z_s \sim q_s(z|x)`. Their mean over samples and posteriors is
    the multi-encoder bound (MISELBO), at least the mean of the posteriors' ELBOs; ``importance_bound`` over both, the first two
    axes made one, is its importance-weighted version. Both are lower bounds of log p(x) in expectation.

    Args:
      log_joint: log p(x, z_s), [s, k, ...]; one decoder and prior for all.
      log_q: log q_j(z_s|x), [j, s, k, ...], j over the same posteriors as s.
    Returns: [s, k, ...], nats.
    Raises: ValueError if the shapes differ.
    Example:
      >>> mixture_log_weights(jnp.zeros((2, 1)), jnp.log(jnp.array([[[0.25], [0.5]], [[0.75], [0.5]]]))).round(3)
      Array([[0.693],
             [0.693]], dtype=float32)

    References: Kviman et al. 2022, eq. 5.
    """
    if log_joint.ndim < 2 or log_q.shape != (log_joint.shape[0], *log_joint.shape):
        raise ValueError(
            f"mixture_log_weights: log_joint has shape {log_joint.shape} and log_q {log_q.shape}; expected [s, k, ...] and "
            "[s, s, k, ...]: every posterior at the samples of every other"
        )
    return log_joint - (log_sum_exp(log_q, axis=0) - jnp.log(float(len(log_q))).astype(log_q.dtype))
