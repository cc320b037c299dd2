"""What a distribution must offer, whoever wrote it."""

from __future__ import annotations

from typing import Any, Protocol

import jax


class Distribution(Protocol):
    """Distribution over arrays: what objectives, estimators and models ask of posteriors, priors and likelihoods.

    Every family of ``vaex.distributions`` offers it, and so do NumPyro's distributions. No base class is needed. A
    distribution that passes through jit and vmap must also be a pytree; ``family`` makes one of a class.

    Optional: ``mode``, ``entropy()`` in nats, and ``sample_and_log_prob(key, sample_shape)`` where one pass gives both, or
    where a density is known only together with auxiliary variables (``vaex.models.posteriors.Refine``).
    """

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes over independent distributions."""
        ...

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Axes of one event, the last ones of a sample; ``log_prob`` sums over them."""
        ...

    @property
    def mean(self) -> Any:
        """Expected value ``[*batch_shape, *event_shape]``, or None where no closed form is known."""
        ...

    @property
    def variance(self) -> Any:
        """Variance, elementwise, ``[*batch_shape, *event_shape]``, or None where no closed form is known."""
        ...

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw ``[*sample_shape, *batch_shape, *event_shape]``."""
        ...

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-probability or log-density in nats, ``[..., *batch_shape]``, of ``[..., *batch_shape, *event_shape]``."""
        ...
