"""A distribution pushed through an invertible map."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from vaex.distributions._base import Distribution, check_sample_shape, family, static


@family
class Transformed(Distribution):
    r"""The law of f(z) for z from ``base``: :math:`\log p(x) = \log p_{base}(z) + \log|\det \partial z/\partial x|`.

    Args:
      base: a distribution.
      flow: any hashable object with ``forward(params, z) -> (value, log_det)`` and
        ``inverse(params, value) -> (z, log_det)``, each with the log-determinant of the map that it performs, summed over
        the event: the shape is that of ``base.log_prob``. It is static; what is learned lies in ``params``. A flow without
        an inverse still samples and has ``sample_and_log_prob``.
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

    base: Any
    flow: Any = static()
    params: Any = ()

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """That of the base."""
        return tuple(self.base.batch_shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of the base: the map keeps shapes."""
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
