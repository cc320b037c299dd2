"""One layer of latents in a hierarchy: normal distributions from raw numbers, and z from a code."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex.nets.activations import soft_clip
from vaex.nets.protocols import Source

LOG_SCALE_LIMIT = 5.0  # no ratio of two scales exceeds e^10

Moments = tuple[jax.Array, jax.Array]  # mean and log scale


def normal_moments(raw: jax.Array) -> Moments:
    """Return mean and log scale, float32 [..., d] each, from raw numbers [..., 2 d]; log scales are within ``LOG_SCALE_LIMIT``.

    Example:
      >>> mean, log_scale = normal_moments(jnp.array([1.5, -100.0]))
      >>> float(mean[0]), float(log_scale[0])
      (1.5, -5.0)
    """
    mean, log_scale = jnp.split(raw.astype(jnp.float32), 2, axis=-1)
    return mean, soft_clip(log_scale, LOG_SCALE_LIMIT)


def latents_from_code(code: jax.Array, source: Source, prior: Moments, posterior: Moments | None) -> jax.Array:
    """Return z of one layer, of the shape of the code.

    Args:
      code: standard normal noise, or z where the source is "given".
      source: the distribution that scales and shifts the noise.
      prior: its mean and log scale.
      posterior: its mean and log scale, or None where the pass has no activations of x.
    Raises: ValueError for the posterior where there is none.
    Example:
      >>> float(latents_from_code(jnp.array(2.0), "prior", (jnp.array(1.0), jnp.array(0.0)), None))
      3.0
    """
    if source == "given":
        return code
    moments = prior if source == "prior" else posterior
    if moments is None:
        raise ValueError("top_down: source is 'posterior', but activations is None; give those of bottom_up")
    mean, log_scale = moments
    return mean + jnp.exp(log_scale) * code
