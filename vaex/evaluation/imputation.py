"""Imputation of missing values from importance-weighted samples of the latents.

Axes: k importance samples, m draws, b batch, d latent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex import bounds, distributions
from vaex.distributions import Distribution
from vaex.distributions.tables.rows import Rows


class Imputation(NamedTuple):
    """What missing values may be, given those that are observed; observed values stand where they are.

    Attributes:
      mean: E[x_missing | x_observed], [b, *shape]; of categories without an order, the most probable code.
      deviation: standard deviation of each value, [b, *shape]; 0 where it is observed. Of categories without an order,
        sqrt(p (1 - p)) of the most probable one.
      draws: joint draws of the missing values, [m, b, *shape].
      effective_sample_size: of the importance weights, [b], between 1 and k; where it is small, all of these are unreliable.
    """

    mean: jax.Array
    deviation: jax.Array
    draws: jax.Array
    effective_sample_size: jax.Array


def impute(
    key: jax.Array,
    x: jax.Array,
    posterior: Distribution,
    decode: Callable[[jax.Array], Distribution],
    *,
    num_samples: int,
    num_draws: int,
) -> Imputation:
    r"""Return moments and draws of the missing values of x by self-normalised importance sampling.

    With z_k of :math:`q(z|x_o)` and weights :math:`w_k \propto p(x_o|z_k) p(z_k) / q(z_k|x_o)`, where p(z) is the standard normal,
    the mean is :math:`\sum_k w_k E[x_m|z_k]`, and a draw is of :math:`p(x_m|z_k)` for k drawn by the weights (sampling importance
    resampling). Both are exact as k grows.

    Args:
      key: of the samples and the draws.
      x: examples [b, *shape], NaN where a value is missing.
      posterior: q(z|x_observed), of batch shape [b], over z [b, d].
      decode: z [..., b, d] -> p(x|z), of batch shape [..., b], whose ``log_prob`` leaves out values that are NaN.
      num_samples: k, at least 1.
      num_draws: m, at least 1.
    References: Mattei & Frellsen 2019, MIWAE: deep generative modelling and imputation of incomplete data, section 3.
    """
    missing = jnp.isnan(x)
    latent_key, resample_key, value_key = jax.random.split(key, 3)
    z = posterior.sample(latent_key, (num_samples,))
    px = decode(z)
    prior = distributions.Normal(jnp.zeros(z.shape[-1]), 1.0)
    log_weights = px.log_prob(x) + prior.log_prob(z) - posterior.log_prob(z)
    weights = jax.nn.softmax(log_weights, axis=0).reshape(*log_weights.shape, *(1,) * (x.ndim - 1))
    mean = jnp.sum(weights * px.mean, axis=0)
    variance = jnp.sum(weights * (px.variance + jnp.square(px.mean - mean)), axis=0)
    for columns, of_codes in (px.probabilities if isinstance(px, Rows) else {}).items():
        probabilities = jnp.sum(weights[..., None] * of_codes, axis=0)
        most = jnp.max(probabilities, axis=-1)
        mean = mean.at[..., np.array(columns)].set(jnp.argmax(probabilities, axis=-1).astype(mean.dtype))
        variance = variance.at[..., np.array(columns)].set(most * (1.0 - most))
    chosen = jax.random.categorical(resample_key, log_weights, axis=0, shape=(num_draws, x.shape[0]))
    drawn = decode(jnp.take_along_axis(z, chosen[..., None], axis=0)).sample(value_key)
    return Imputation(
        jnp.where(missing, mean, x),
        jnp.where(missing, jnp.sqrt(variance), 0.0),
        jnp.where(missing, drawn, x),
        bounds.effective_sample_size(log_weights),
    )
