"""The radial flow."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from vaex.flows._base import BaseFlow, bounded, check_int
from vaex.flows._tanh import constrain
from vaex.flows.protocol import Params


@dataclasses.dataclass(frozen=True)
class Radial(BaseFlow):
    r"""Expansion or contraction around a centre: :math:`f(z) = z + \beta (z - z_0) / (\alpha + r)`, :math:`r = \|z - z_0\|`.

    :math:`\beta = \alpha\, c(\hat\beta)` with c > -1 and c(0) = 0 keeps the map invertible for all parameters. The radius of
    the inverse is the positive root of a quadratic.

    Parameters: ``centre`` z_0 [..., d], ``log_alpha`` [...] (squeezed into (-7, 7)), ``beta`` [...].

    Args:
      dimension: d.
    Raises: ValueError if ``dimension`` is not a positive int.
    Example:
      >>> flow = Radial(2)
      >>> params = {"centre": jnp.zeros(2), "log_alpha": 0.0, "beta": 0.0}
      >>> print(jnp.round(flow.forward(params, jnp.array([3.0, 4.0]))[0], 4))  # beta = 0 is the identity
      [3. 4.]

    References: Rezende & Mohamed 2015, eq. 14 and appendix A.2.
    """

    dimension: int

    def __post_init__(self) -> None:
        check_int("Radial", "dimension", self.dimension, 1)

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """A random centre and a little expansion or contraction."""
        keys = jax.random.split(key)
        centre = 0.1 * jax.random.normal(keys[0], (self.dimension,))
        return {"centre": centre, "log_alpha": jnp.zeros(()), "beta": 0.1 * jax.random.normal(keys[1], ())}

    def _forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        offset = z - params["centre"]
        factor, log_det = self._stretch(params, _norm(offset))
        return params["centre"] + offset * factor[..., None], log_det

    def _inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        # r (alpha gain + r) = r' (alpha + r); the two forms of the root each avoid a cancellation
        offset = value - params["centre"]
        alpha, (_, gain) = jnp.exp(bounded(params["log_alpha"])), constrain(params["beta"])
        radius = _norm(offset)
        excess = radius - alpha * gain
        root = jnp.sqrt(jnp.square(excess) + 4.0 * alpha * radius)
        inside = 2.0 * alpha * radius / (root + jnp.abs(excess))
        factor, log_det = self._stretch(params, jnp.where(excess < 0, inside, 0.5 * (root + jnp.abs(excess))))
        return params["centre"] + offset / factor[..., None], -log_det

    def _stretch(self, params: Params, radius: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The factor 1 + beta / (alpha + r) across the radius, and the log-determinant: d - 1 such factors and one along it."""
        alpha, (_, gain) = jnp.exp(bounded(params["log_alpha"])), constrain(params["beta"])
        share = alpha / (alpha + radius)
        rest = radius / (alpha + radius)
        across = gain * share + rest
        along = gain * jnp.square(share) + rest * (1.0 + share)
        return across, (self.dimension - 1) * jnp.log(across) + jnp.log(along)


def _norm(x: jax.Array) -> jax.Array:
    """The Euclidean norm over the last axis, with gradient 0 at 0."""
    square = jnp.sum(jnp.square(x), axis=-1)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
