"""A distribution pushed through an invertible map."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import numpy as np

from vaex.distributions._shapes import check_sample_shape
from vaex.distributions.family import BaseDistribution, family, static
from vaex.distributions.protocol import Distribution


class InvertibleMap(Protocol):
    """Map of events with parameters ``params``, a pytree; hashable, as it is static under jit."""

    def forward(self, params: Any, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the value, and log|det dvalue/dz| summed over the event, of the shape of ``base.log_prob``."""
        ...

    def inverse(self, params: Any, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return z, and log|det dz/dvalue|."""
        ...


@family
class Transformed(BaseDistribution):
    r"""Distribution of f(z) for z from ``base``: :math:`\log p(x) = \log p_{base}(z) + \log|\det \partial z/\partial x|`.

    Args:
      base: a distribution.
      flow: an invertible map f, for instance one of ``vaex.flows``. It is static; what is learned lies in ``params``. A flow
        without an inverse still samples and has ``sample_and_log_prob``.
      params: the flow's parameters, a pytree.
    Example:
      >>> class Double:  # a flow may be a module, a record or a class
      ...     forward = staticmethod(lambda params, z: (2 * z, np.full(z.shape[:-1], np.log(2.0), np.float32)))
      ...     inverse = staticmethod(lambda params, x: (x / 2, np.full(x.shape[:-1], -np.log(2.0), np.float32)))
      >>> from vaex.distributions import Normal
      >>> print(f"{Transformed(Normal(np.zeros(1), 1.0), Double).log_prob(np.zeros(1)):.4f}")
      -1.6121

    References: Rezende & Mohamed 2015, eq. 5.
    """

    base: Distribution
    flow: InvertibleMap = static()
    params: Any = ()

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Batch shape of the base."""
        return tuple(self.base.batch_shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Event shape of the base: the map keeps shapes."""
        return tuple(self.base.event_shape)

    def sample_and_log_prob(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> tuple[jax.Array, jax.Array]:
        """A sample ``[*sample_shape, *batch_shape, *event_shape]`` and its log-density, without inverting the map."""
        sample_shape = check_sample_shape("Transformed.sample_and_log_prob", sample_shape)
        z = self.base.sample(key, sample_shape)
        value, log_det = self.flow.forward(self.params, z)
        log_prob = self.base.log_prob(z)
        return value, log_prob - _checked(log_det, log_prob)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        z = self.base.sample(key, shape[: len(shape) - len(self.batch_shape) - len(self.event_shape)])
        return self.flow.forward(self.params, z)[0]

    def _log_prob(self, value: jax.Array) -> jax.Array:
        z, log_det = self.flow.inverse(self.params, value)
        log_prob = self.base.log_prob(z)
        return log_prob + _checked(log_det, log_prob)


def _checked(log_det: jax.Array, log_prob: jax.Array) -> jax.Array:
    if np.shape(log_det) != log_prob.shape:
        raise ValueError(
            f"Transformed: the flow's log_det has shape {np.shape(log_det)}, expected {log_prob.shape} like base.log_prob; "
            "sum it over the event axes"
        )
    return log_det
