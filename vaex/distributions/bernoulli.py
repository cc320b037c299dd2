"""Bernoulli and continuous Bernoulli, by their logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions.family import Elementwise, family, static
from vaex.ops.arrays import lift, narrow, sum_trailing
from vaex.ops.scalars import cross_entropy, log_decay, log_sinhc_series, softplus

_LEGENDRE = np.transpose(np.polynomial.legendre.leggauss(6)).tolist()
_QUADRATURE = [(0.5 + 0.5 * node, 0.5 * weight) for node, weight in _LEGENDRE]  # on [0, 1]


def bernoulli_log_prob(logits: jax.Array, x: jax.Array, *, event_ndims: int = 1) -> jax.Array:
    r"""Bernoulli log-likelihood in nats, summed over the last ``event_ndims`` axes.

    :math:`\sum x\,l - \log(1 + e^l)`, finite with its gradient at any finite logit. For x strictly between 0 and 1 this
    is minus the cross-entropy, which is no likelihood: binarise, or use ``ContinuousBernoulli``.

    Args:
      logits: [*batch, *event].
      x: [..., *batch, *event] in [0, 1], any dtype; batch axes may broadcast, event axes may not.
      event_ndims: how many trailing axes are one event.
    Returns: [..., *batch], float32 or wider.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> print(f"{bernoulli_log_prob(jnp.array([0.0, 1e4]), jnp.array([1.0, 1.0])):.4f}")
      -0.6931

    References: Kingma & Welling 2014, appendix C.1.
    """
    return Bernoulli(logits, event_ndims).log_prob(x)


@family
class Bernoulli(Elementwise):
    r"""Bernoulli with independent elements, by logits; values are floats 0 and 1.

    Args:
      logits: [*batch, *event], log-odds of a 1.
      event_ndims: how many trailing axes are one event; ``log_prob`` and ``entropy`` sum over them.
    Example:
      >>> Bernoulli(jnp.array([0.0, 100.0])).mean
      Array([0.5, 1. ], dtype=float32)

    References: Kingma & Welling 2014, appendix C.1.
    """

    logits: jax.Array
    event_ndims: int = static(default=1)

    @property
    def mean(self) -> jax.Array:
        """Probability of a 1, elementwise."""
        (logits,) = lift(self.logits)
        return narrow(jax.nn.sigmoid(logits), self.logits)

    @property
    def mode(self) -> jax.Array:
        """1 where the logit is positive, else 0."""
        return narrow(jnp.asarray(self.logits) > 0, self.logits)

    @property
    def variance(self) -> jax.Array:
        """p (1 - p), elementwise."""
        (logits,) = lift(self.logits)
        return narrow(jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits), self.logits)

    def entropy(self) -> jax.Array:
        """Entropy in nats, summed over the event axes: ``[*batch_shape]``."""
        (logits,) = lift(self.logits)

        def right(l: jax.Array) -> jax.Array:  # exact for l > 0; the entropy is even
            return softplus(-l) + l * jax.nn.sigmoid(-l)

        return sum_trailing(jnp.where(logits > 0, right(logits), right(-logits)), self.event_ndims)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        (logits,) = lift(self.logits)
        return narrow(jax.random.bernoulli(key, jax.nn.sigmoid(logits), shape), self.logits)

    def _log_density(self, value: jax.Array) -> jax.Array:
        logits, value = lift(self.logits, value)
        return -cross_entropy(*jnp.broadcast_arrays(logits, value))


@family
class ContinuousBernoulli(Elementwise):
    r"""Continuous Bernoulli with independent elements: density proportional to :math:`e^{l x}` on [0, 1].

    Args:
      logits: [*batch, *event], l. The density is flat at 0. Neither values nor gradients lose digits around 0, and
        they are finite at any finite logit.
      event_ndims: how many trailing axes are one event; ``log_prob`` and ``entropy`` sum over them.
    Example:
      >>> ContinuousBernoulli(jnp.zeros(3)).log_prob(jnp.array([0.0, 0.3, 1.0]))
      Array(0., dtype=float32)

    References: Loaiza-Ganem & Cunningham 2019, eqs. 5-8.
    """

    logits: jax.Array
    event_ndims: int = static(default=1)

    @property
    def mean(self) -> jax.Array:
        """Expected value, elementwise (not sigmoid(logits))."""
        (logits,) = lift(self.logits)
        return narrow(mean_at(logits), self.logits)

    @property
    def mode(self) -> jax.Array:
        """0 or 1 by the sign of the logit; 0.5 at logit 0, where the density is flat."""
        return 0.5 + 0.5 * jnp.sign(jnp.asarray(self.logits))

    @property
    def variance(self) -> jax.Array:
        """Variance, elementwise: 1/12 at logit 0."""
        (logits,) = lift(self.logits)
        _, variance = jax.jvp(mean_at, (logits,), (jnp.ones_like(logits),))  # exponential family
        return narrow(variance, self.logits)

    def entropy(self) -> jax.Array:
        """Differential entropy in nats, summed over the event axes: ``[*batch_shape]``; never above 0."""
        (logits,) = lift(self.logits)
        return sum_trailing(-expected_log_density(logits, logits), self.event_ndims)

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        (logits,) = lift(self.logits)
        uniform = jax.random.uniform(key, shape, logits.dtype, minval=jnp.finfo(logits.dtype).tiny)
        return narrow(_quantile(jnp.broadcast_to(logits, shape), uniform), self.logits)

    def _log_density(self, value: jax.Array) -> jax.Array:
        logits, value = lift(self.logits, value)
        small, near, far = _split(logits)
        flat = near * (value - 0.5) - log_sinhc_series(near * near)
        steep = (far * value - jnp.maximum(far, 0.0)) - log_decay(jnp.abs(far))
        return jnp.where(small, flat, steep)


def _split(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return a mask |l| < 1, and a harmless argument for each of the two branches, so that neither poisons a gradient."""
    small = jnp.abs(logits) < 1.0
    return small, jnp.where(small, logits, 0.0), jnp.where(small, 1.0, logits)


def mean_at(logits: jax.Array) -> jax.Array:
    """Mean of the continuous Bernoulli: 1/2 + l/12 - l^3/720 + ... near 0."""
    small, near, far = _split(logits)
    _, slope = jax.jvp(lambda l: log_sinhc_series(l * l), (near,), (jnp.ones_like(near),))
    steep = jnp.abs(far)
    left = 1.0 / steep - jnp.exp(-steep) / -jnp.expm1(-steep)  # the mean at -|l|
    return jnp.where(small, 0.5 + slope, jnp.where(far > 0, 1.0 - left, left))


def expected_log_density(logits: jax.Array, other: jax.Array) -> jax.Array:
    """E[log p(x; other)] for x from the continuous Bernoulli of ``logits``, elementwise.

    The mean enters as its distance to the nearer end, which stays exact where the mean itself rounds to 1.
    """
    small, near, far = _split(other)
    flat = near * (mean_at(logits) - 0.5) - log_sinhc_series(near * near)
    distance = mean_at(jnp.where(far > 0, -logits, logits))
    return jnp.where(small, flat, -jnp.abs(far) * distance - log_decay(jnp.abs(far)))


def _quantile(logits: jax.Array, u: jax.Array) -> jax.Array:
    """Inverse of the distribution function, log(1 + u (e^l - 1)) / l, with gradients that don't cancel near l = 0.

    There it is the mean of sigmoid(logit(u) + s l) over s in [0, 1], smooth enough for six Gauss-Legendre nodes.
    """
    small = jnp.abs(logits) < 0.5
    near = jnp.where(small, logits, 0.0)
    odds = jnp.log(u) - jnp.log1p(-u)
    flat = sum(weight * jax.nn.sigmoid(odds + s * near) for s, weight in _QUADRATURE)
    steep = jnp.abs(jnp.where(small, 1.0, logits))
    left = -jnp.log1p(u * jnp.expm1(-steep)) / steep
    return jnp.where(small, flat, jnp.where(logits > 0, 1.0 - left, left))
