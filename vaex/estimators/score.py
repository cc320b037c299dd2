"""Score-function gradients, for posteriors whose samples carry no gradients (discrete ones above all), and their baselines."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.bounds import importance_bound
from vaex.distributions import Distribution
from vaex.estimators._log_weights import (
    Bound,
    LogJoint,
    average_log_weight,
    check_num_samples,
    evaluate_bound,
    evaluate_log_joint,
    with_gradient_of,
)


def score_function(
    key: jax.Array,
    posterior: Distribution,
    log_joint: LogJoint,
    num_samples: int,
    *,
    bound: Bound = average_log_weight,
    baseline: ArrayLike = 0.0,
) -> jax.Array:
    r"""Bound with its score-function gradient (REINFORCE): unbiased for any posterior, of high variance.

    :math:`\nabla B + (B - c)\,\nabla\sum_i \log q(z_i)`, the samples held fixed.

    Args:
      key: a key.
      posterior: q(z|x), discrete or not; batch shape [b].
      log_joint: z [k, b, *latent] -> log p(x, z) [k, b], nats.
      num_samples: k.
      bound: log weights [k, b] -> [b]; their mean (the ELBO) by default.
      baseline: c, a scalar or [b], such as a running mean of the bound; it must not depend on the samples.
    Returns: [b], nats; ``jax.grad`` of it is the estimator.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> from vaex.distributions import Bernoulli
      >>> def loss(logits):
      ...     log_joint = lambda z: jnp.sum(2.0 * z, axis=-1)
      ...     return -score_function(jax.random.key(0), Bernoulli(logits), log_joint, 1000, baseline=2.0)
      >>> bool(jax.grad(loss)(jnp.zeros(1))[0] < 0)  # more ones
      True

    References: Williams 1992; Mnih & Gregor 2014, eq. 5.
    """
    check_num_samples("score_function", num_samples)
    log_q, _, value = _sampled("score_function", key, posterior, log_joint, num_samples, bound)
    signal = jnp.broadcast_to(value - jnp.asarray(baseline, value.dtype), value.shape)
    return _surrogate(value, signal, log_q)


def leave_one_out(
    key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int, *, bound: Bound = average_log_weight
) -> jax.Array:
    r"""Bound with a score-function gradient whose baseline for a sample is the bound of the others: unbiased.

    :math:`\nabla B + \sum_i (B - B_{-i})\,\nabla\log q(z_i)`, where :math:`B_{-i}` is the bound of the k - 1 other log weights.

    Args:
      key, posterior, log_joint, bound: as in ``score_function``. The bound takes any number of samples.
      num_samples: k, at least 2.
    Returns: [b], nats; ``jax.grad`` of it is the estimator.
    Raises: ValueError if the shapes disagree or k is 1.
    Example:
      >>> from vaex.distributions import Bernoulli
      >>> def loss(logits):  # the log weight is the same for every sample: no variance is left
      ...     return -leave_one_out(jax.random.key(0), Bernoulli(logits), lambda z: jnp.zeros(z.shape[:-1]), 4)
      >>> print(jnp.abs(jax.grad(loss)(jnp.zeros(1))))
      [0.]

    References: Mnih & Rezende 2016, section 2.4; Kool, van Hoof & Welling 2019, eq. 8.
    """
    return _with_baselines("leave_one_out", key, posterior, log_joint, num_samples, bound)


def vimco(
    key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int, *, bound: Bound = importance_bound
) -> jax.Array:
    r"""Multi-sample bound with the score-function gradient and VIMCO's baselines: unbiased.

    The baseline of sample i is the bound with its log weight replaced by the mean of the others' (the geometric mean of
    their weights).

    Args:
      key, posterior, log_joint: as in ``score_function``.
      num_samples: k, at least 2.
      bound: [k, b] -> [b]; the importance bound by default.
    Returns: [b], nats; ``jax.grad`` of it is the estimator.
    Raises: ValueError if the shapes disagree or k is 1.
    Example:
      >>> from vaex.distributions import Bernoulli
      >>> def loss(logits):  # the log weight is the same for every sample: no variance is left
      ...     return -vimco(jax.random.key(0), Bernoulli(logits), lambda z: jnp.log(0.5) * jnp.ones(z.shape[:-1]), 4)
      >>> print(jnp.abs(jnp.round(jax.grad(loss)(jnp.zeros(1)), 6)))
      [0.]

    References: Mnih & Rezende 2016, eqs. 8-10.
    """
    return _with_baselines("vimco", key, posterior, log_joint, num_samples, bound)


def _with_baselines(
    name: str, key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int, bound: Bound
) -> jax.Array:
    check_num_samples(name, num_samples, at_least=2)
    log_q, log_weights, value = _sampled(name, key, posterior, log_joint, num_samples, bound)
    fixed = jax.lax.stop_gradient(log_weights)
    indices = jnp.arange(num_samples)

    def baseline(index: jax.Array) -> jax.Array:
        others = fixed[(index + 1 + indices[:-1]) % num_samples]  # [k - 1, ...]
        if name == "vimco":
            others = jnp.concatenate([others, jnp.mean(others, axis=0, keepdims=True)])
        others = evaluate_bound(name, bound, others)
        # where no other sample has weight, there is none: any function of the others leaves the estimator unbiased
        return jnp.where(jnp.isinf(others), 0.0, others)

    signal = value - jax.lax.map(baseline, indices)  # [k, b]
    return _surrogate(value, signal, log_q)


def _sampled(name: str, key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int, bound: Bound):
    """Return log q and the log weights of fixed samples, with gradients, and the bound."""
    z = jax.lax.stop_gradient(posterior.sample(key, (num_samples,)))
    log_q = posterior.log_prob(z)
    log_weights = evaluate_log_joint(name, log_joint, z, log_q) - log_q
    return log_q, log_weights, evaluate_bound(name, bound, log_weights)


def _surrogate(value: jax.Array, signal: jax.Array, log_q: jax.Array) -> jax.Array:
    """Add to the bound's gradient that of the sampling distribution: ``signal`` [b] or [k, b] times the scores.

    An infinite bound has no such gradient.
    """
    signal = jnp.where(jnp.isinf(signal), 0.0, jax.lax.stop_gradient(signal))
    return with_gradient_of(value, value + jnp.sum(signal * log_q, axis=0))
