"""Maximum mean discrepancy between aggregate posterior and prior, for ``info_vae`` and ``wae``."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp

from vaex import divergences
from vaex.distributions import Distribution

Kernel = Literal["imq", "rbf"]
SCALES = tuple(math.sqrt(c) for c in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))  # Tolstikhin et al.'s constants C over 2 d


def prior_discrepancy(
    key: jax.Array, z: jax.Array, prior: Distribution, kernel: Kernel, kernel_scale: jax.Array
) -> jax.Array:
    """Squared maximum mean discrepancy between latents and as many draws from the prior, a scalar.

    The kernel is the mean over seven length scales, ``SCALES`` times ``kernel_scale``, in standard deviations of the prior. The
    kernel of Tolstikhin et al. is their sum: 7 times their weight has the same effect here.

    Samples of one example are not independent draws from the aggregate posterior. So with several, one of each example is compared
    with the prior at a time, and these estimates are averaged.

    Args:
      key: draws from the prior.
      z: [k, b, d], samples of the posteriors of b examples.
      prior: a distribution over [d].
      kernel: "imq" or "rbf".
      kernel_scale: factor of all scales; may be traced.
    Returns: a scalar, unbiased, so it may be negative; NaN for a single example, of which there is no such estimate.
    """
    if z.shape[1] < 2:
        return jnp.full((), jnp.nan)
    scales = [scale * kernel_scale for scale in SCALES]

    def discrepancy(z: jax.Array, drawn: jax.Array) -> jax.Array:
        return divergences.mmd(z, drawn, kernel=kernel, scales=scales)  # pyright: ignore[reportArgumentType]

    if len(z) == 1:  # half the time of a leading axis of one
        return discrepancy(z[0], prior.sample(key, z.shape[1:2]))
    return jnp.mean(jax.vmap(discrepancy)(z, prior.sample(key, z.shape[:2])))
