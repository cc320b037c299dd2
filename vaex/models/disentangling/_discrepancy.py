"""Maximum mean discrepancy of the aggregate posterior from the prior: what ``info_vae`` and ``wae`` share."""

from __future__ import annotations

import math
from typing import Any, Literal

import jax

from vaex import divergences

Kernel = Literal["imq", "rbf"]
SCALES = tuple(math.sqrt(c) for c in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))  # Tolstikhin et al.'s constants C over 2 d


def prior_discrepancy(key: jax.Array, z: jax.Array, prior: Any, kernel: Kernel, kernel_scale: jax.Array) -> jax.Array:
    """Squared maximum mean discrepancy of latents from as many draws of the prior, a scalar.

    The kernel is the mean over seven scales, ``SCALES`` times ``kernel_scale``, in standard deviations of the prior; that of
    Tolstikhin et al. is their sum, so that 7 times their weight is the same weight here.

    Args:
      key: of the prior's draws.
      z: [k, b, d], samples of the posteriors of b examples.
      prior: a distribution over [d].
      kernel: "imq" or "rbf".
      kernel_scale: factor of all scales; may be traced.
    Returns: a scalar; unbiased, so it may be negative, where there are two latents or more.
    """
    flat = z.reshape(-1, z.shape[-1])
    drawn = prior.sample(key, flat.shape[:1])
    scales = [scale * kernel_scale for scale in SCALES]
    return divergences.mmd(flat, drawn, kernel=kernel, scales=scales, unbiased=len(flat) > 1)  # pyright: ignore[reportArgumentType]
