"""Normal with independent elements, and the reparameterised sample."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.distributions._location_scale import UNSET, LocationScale, Unset, set_location_scale
from vaex.distributions.family import family, static
from vaex.ops.arrays import lift, narrow, sum_trailing

LOG_2PI = math.log(2.0 * math.pi)


def reparameterize(key: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    r"""Sample N(mean, exp(log_scale)^2) so that gradients pass through: :math:`\mu + e^{s}\varepsilon`.

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
    return Normal(mean, log_scale=log_scale, event_ndims=0).sample(key)


@family
class Normal(LocationScale):
    r"""Normal with independent elements (a diagonal Gaussian).

    Args:
      loc: [*batch, *event], the mean.
      scale: the standard deviation, positive; broadcast to the shape of ``loc``.
      log_scale: its logarithm, instead of ``scale``; the field that is stored.
      event_ndims: how many trailing axes are one event; ``log_prob`` and ``entropy`` sum over them.
    Raises: ValueError if the shapes disagree, or unless exactly one of ``scale`` and ``log_scale`` is given.
    Example:
      >>> d = Normal(jnp.zeros((4, 2)), 2.0)
      >>> d.log_prob(jnp.zeros((4, 2))).shape, float(d.variance[0, 0])
      ((4,), 4.0)

    References: Kingma & Welling 2014, appendix B.
    """

    loc: jax.Array
    log_scale: jax.Array
    event_ndims: int = static(default=1)

    def __init__(
        self,
        loc: ArrayLike,
        scale: ArrayLike | Unset = UNSET,
        *,
        log_scale: ArrayLike | Unset = UNSET,
        event_ndims: int = 1,
    ) -> None:
        set_location_scale(self, loc, scale, log_scale, event_ndims=event_ndims)

    @property
    def variance(self) -> jax.Array:
        """exp(2 log_scale), elementwise."""
        return jnp.exp(2.0 * jnp.asarray(self.log_scale))

    def entropy(self) -> jax.Array:
        """Differential entropy in nats, summed over the event axes: ``[*batch_shape]``."""
        (log_scale,) = lift(self.log_scale)
        return sum_trailing(log_scale + 0.5 * (LOG_2PI + 1.0), self.event_ndims)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        loc, log_scale = lift(self.loc, self.log_scale)
        noise = jax.random.normal(key, shape, loc.dtype)
        return narrow(loc + jnp.exp(log_scale) * noise, self.loc, self.log_scale)

    def _log_density(self, value: jax.Array) -> jax.Array:
        value, loc, log_scale = lift(value, self.loc, self.log_scale)
        return -0.5 * (jnp.square((value - loc) * jnp.exp(-log_scale)) + LOG_2PI) - log_scale
