"""Relaxations of one-hot and binary variables that gradients pass through (Gumbel-softmax, binary Concrete).

Each comes in two coordinate systems. At low temperatures the simplex coordinates round to 0 and 1, so estimate a KL between
relaxed variables in log or logit coordinates: the KL is the same and nothing rounds.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions._shapes import check_leading, match, match_leading
from vaex.distributions.family import Elementwise, family, static
from vaex.ops.arrays import lift, narrow, sum_trailing
from vaex.ops.log_sum_exp import log_sum_exp
from vaex.ops.scalars import softplus


class _OneHot(Elementwise):
    """Classes along the last axis, which ``event_ndims`` counts."""

    logits: jax.Array
    temperature: jax.Array

    def __post_init__(self) -> None:
        match_leading(self, "logits", "temperature")

    @property
    def _shape(self) -> tuple[int, ...]:
        shape, name = np.shape(self.logits), type(self).__name__
        if len(shape) < 1 or self.event_ndims < 1:
            raise ValueError(
                f"{name}: logits has shape {shape} and event_ndims is {self.event_ndims}, expected [..., classes] and 1 "
                "or more; the class axis is part of the event"
            )
        check_leading(self, "logits", "temperature")
        return shape

    def _log_sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        logits, temperature = lift(self.logits, self.temperature)
        noise = jax.random.gumbel(key, shape, logits.dtype)
        return jax.nn.log_softmax((logits + noise) / temperature[..., None], axis=-1)

    def _log_space(self, log_value: jax.Array) -> jax.Array:
        """Density of the logarithms, per variable."""
        log_value, logits, temperature = lift(log_value, self.logits, self.temperature)
        classes = logits.shape[-1]
        scores = logits - temperature[..., None] * log_value
        constant = math.lgamma(classes) + (classes - 1) * jnp.log(temperature)
        return constant + jnp.sum(scores, axis=-1) - classes * log_sum_exp(scores, axis=-1)


@family
class RelaxedOneHot(_OneHot):
    r"""Gumbel-softmax: :math:`\mathrm{softmax}((l + \text{Gumbel noise})/\tau)`, a point of the simplex.

    Args:
      logits: [*batch, *event, classes], unnormalised.
      temperature: tau > 0, a scalar or one per variable, [*batch, *event]. Samples are nearly one-hot as it goes to 0.
      event_ndims: how many trailing axes are one event, the class axis included.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> print(*(f"{x:.4f}" for x in RelaxedOneHot(jnp.zeros((4, 3)), 0.5).sample(jax.random.key(0)).sum(-1)))
      1.0000 1.0000 1.0000 1.0000

    References: Jang, Gu & Poole 2017; Maddison, Mnih & Teh 2017, eq. 6.
    """

    logits: jax.Array
    temperature: jax.Array
    event_ndims: int = static(default=1)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return narrow(jnp.exp(self._log_sample(key, shape)), self.logits)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        """Against Lebesgue measure on all coordinates but one; those below 1e-30 (in float32) count as that."""
        value, _ = lift(value, self.logits)
        log_value = jnp.log(jnp.maximum(value, _floor(value)))
        return sum_trailing(self._log_space(log_value) - jnp.sum(log_value, axis=-1), self.event_ndims - 1)


@family
class LogRelaxedOneHot(_OneHot):
    r"""The logarithm of a ``RelaxedOneHot`` variable: coordinates in which nothing rounds to 0 or 1.

    Args:
      logits: [*batch, *event, classes], unnormalised.
      temperature: tau > 0, a scalar or one per variable, [*batch, *event].
      event_ndims: how many trailing axes are one event, the class axis included.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> d = LogRelaxedOneHot(jnp.zeros((4, 3)), 0.01)
      >>> bool(jnp.isfinite(d.log_prob(d.sample(jax.random.key(0)))).all())
      True

    References: Maddison, Mnih & Teh 2017, appendix C.3 (ExpConcrete).
    """

    logits: jax.Array
    temperature: jax.Array
    event_ndims: int = static(default=1)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return narrow(self._log_sample(key, shape), self.logits)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        return sum_trailing(self._log_space(value), self.event_ndims - 1)


class _Binary(Elementwise):
    logits: jax.Array
    temperature: jax.Array

    def __post_init__(self) -> None:
        match(self, "logits", "temperature")

    def _logit_sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        logits, temperature = lift(self.logits, self.temperature)
        return (logits + jax.random.logistic(key, shape, logits.dtype)) / temperature

    def _logit_space(self, logit: jax.Array) -> jax.Array:
        """Density of the logit: a logistic with scale 1 / tau."""
        logit, logits, temperature = lift(logit, self.logits, self.temperature)
        score = logits - temperature * logit
        return jnp.log(temperature) - softplus(score) - softplus(-score)


@family
class RelaxedBernoulli(_Binary):
    r"""Binary Concrete: :math:`\sigma((l + \text{logistic noise})/\tau)`, independent elements in (0, 1).

    Args:
      logits: [*batch, *event].
      temperature: tau > 0, broadcast to the shape of the logits. Samples are nearly binary as it goes to 0.
      event_ndims: how many trailing axes are one event; ``log_prob`` sums over them.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> print(f"{RelaxedBernoulli(jnp.zeros(2), 1.0).log_prob(jnp.array([0.3, 0.9])):.4f}")  # uniform at tau = 1
      0.0000

    References: Maddison, Mnih & Teh 2017, appendix B.
    """

    logits: jax.Array
    temperature: jax.Array
    event_ndims: int = static(default=1)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return narrow(jax.nn.sigmoid(self._logit_sample(key, shape)), self.logits)

    def _log_density(self, value: jax.Array) -> jax.Array:
        """Values are taken no nearer to 0 than 1e-30 (in float32) and no nearer to 1 than the dtype resolves."""
        value, _ = lift(value, self.logits)
        value = jnp.clip(value, _floor(value), 1.0 - float(jnp.finfo(value.dtype).epsneg))
        left, right = jnp.log(value), jnp.log1p(-value)
        return self._logit_space(left - right) - left - right


@family
class LogitRelaxedBernoulli(_Binary):
    r"""The logit of a ``RelaxedBernoulli`` variable: coordinates in which nothing rounds to 0 or 1.

    Args:
      logits: [*batch, *event].
      temperature: tau > 0, broadcast to the shape of the logits.
      event_ndims: how many trailing axes are one event; ``log_prob`` sums over them.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> print(f"{LogitRelaxedBernoulli(jnp.zeros(1), 1.0).log_prob(jnp.zeros(1)):.4f}")
      -1.3863

    References: Maddison, Mnih & Teh 2017, appendix B.
    """

    logits: jax.Array
    temperature: jax.Array
    event_ndims: int = static(default=1)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return narrow(self._logit_sample(key, shape), self.logits)

    def _log_density(self, value: jax.Array) -> jax.Array:
        return self._logit_space(value)


def _floor(x: jax.Array) -> float:
    """Least coordinate that is distinguished: about 1e-30 in float32, where the gradient of the logarithm is still finite."""
    return float(jnp.finfo(x.dtype).tiny) ** 0.8
