"""Maximum mean discrepancy between aggregate posterior and prior, for ``info_vae`` and ``wae``."""

from __future__ import annotations

import math
from typing import Literal

import jax

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

    Args:
      key: draws from the prior.
      z: [k, b, d], samples of the posteriors of b examples.
      prior: a distribution over [d].
      kernel: "imq" or "rbf".
      kernel_scale: factor of all scales; may be traced.
    Returns: a scalar; with two latents or more the estimate is unbiased, and may be negative.
    """
    flat = z.reshape(-1, z.shape[-1])
    drawn = prior.sample(key, flat.shape[:1])
    scales = [scale * kernel_scale for scale in SCALES]
    return divergences.mmd(flat, drawn, kernel=kernel, scales=scales, unbiased=len(flat) > 1)  # pyright: ignore[reportArgumentType]
