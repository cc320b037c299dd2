"""Losses of a discriminator, and of what is trained against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import softplus

from vaex import divergences


class Losses(NamedTuple):
    """Losses of both sides, [b] each, nats.

    Attributes:
      discriminator: logistic regression of real against fake inputs, which weigh the same.
      generator: of what makes the fakes; the one that does not saturate.
      accuracy: how often the discriminator is right, [], a statistic of the batch.
    """

    discriminator: jax.Array
    generator: jax.Array
    accuracy: jax.Array


def losses(real: jax.Array, *fakes: jax.Array) -> Losses:
    r"""Return the losses at the discriminator's log odds D that an input is real.

    The discriminator's is ``divergences.density_ratio_loss``, the generator's :math:`-\log\sigma(D(\tilde x))`; both are averaged
    over the kinds of fakes.

    Args:
      real: log odds of real inputs, [b].
      fakes: log odds of one kind of fakes or more, [b] each.
    Example:
      >>> [round(float(x[0]), 4) for x in losses(jnp.zeros(1), jnp.zeros(1))[:2]]
      [0.6931, 0.6931]

    References: Goodfellow et al. 2014, eq. 1 and section 3.
    """
    told_apart = [divergences.density_ratio_loss(real, fake) for fake in fakes]
    accuracy = 0.5 * (jnp.mean(real > 0) + jnp.mean(jnp.stack(fakes) < 0))
    return Losses(_mean(told_apart), _mean([softplus(-fake) for fake in fakes]), accuracy)


def _mean(values: Sequence[jax.Array]) -> jax.Array:
    """Return the mean of arrays of one shape."""
    return sum(values[1:], start=values[0]) / len(values)
