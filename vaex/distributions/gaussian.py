"""Normal with independent elements, and the reparameterised sample."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from vaex.distributions._base import Elementwise, family, lift, match, narrow, static, sum_trailing
from vaex.ops.threefry import unrolled

LOG_2PI = math.log(2.0 * math.pi)


def reparameterize(key: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    r"""A sample of N(mean, exp(log_scale)^2) that gradients pass through: :math:`\mu + e^{s}\varepsilon`.

    Args:
      key: a key.
      mean: [...].
      log_scale: log of the standard deviation (not of the variance), of a shape that broadcasts to the mean's or back.
    Returns: [...], in the parameters' dtype.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> reparameterize(jax.random.key(0), jnp.zeros((4, 2)), jnp.zeros((4, 2))).shape
      (4, 2)

    References: Kingma & Welling 2014, section 2.4.
    """
    return Normal(mean, log_scale, event_ndims=0).sample(key)


@family
class Normal(Elementwise):
    r"""Normal with independent elements (a diagonal Gaussian).

    Args:
      mean: [*batch, *event].
      log_scale: log of the standard deviation; broadcast to the mean's shape.
      event_ndims: how many trailing axes are one event; ``log_prob`` and ``entropy`` sum over them.
    Raises: ValueError if the shapes of ``mean`` and ``log_scale`` disagree.
    Example:
      >>> Normal(jnp.zeros((4, 2)), jnp.zeros((4, 2))).log_prob(jnp.zeros((4, 2))).shape
      (4,)

    References: Kingma & Welling 2014, appendix B.
    """

    mean: jax.Array
    log_scale: jax.Array
    event_ndims: int = static(default=1)

    def __post_init__(self) -> None:
        match(self, "mean", "log_scale")

    @property
    def mode(self) -> jax.Array:
        """The mean."""
        return self.mean

    @property
    def variance(self) -> jax.Array:
        """exp(2 log_scale), elementwise."""
        return jnp.exp(2.0 * jnp.asarray(self.log_scale))

    def entropy(self) -> jax.Array:
        """Differential entropy in nats, summed over the event axes: ``[*batch_shape]``."""
        (log_scale,) = lift(self.log_scale)
        return sum_trailing(log_scale + 0.5 * (LOG_2PI + 1.0), self.event_ndims)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        mean, log_scale = lift(self.mean, self.log_scale)
        noise = jax.random.normal(unrolled(key), shape, mean.dtype)
        return narrow(mean + jnp.exp(log_scale) * noise, self.mean, self.log_scale)

    def _log_density(self, value: jax.Array) -> jax.Array:
        value, mean, log_scale = lift(value, self.mean, self.log_scale)
        return -0.5 * (jnp.square((value - mean) * jnp.exp(-log_scale)) + LOG_2PI) - log_scale
