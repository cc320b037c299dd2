"""Gradients along the paths of samples: reparameterization, and estimators that lower its variance."""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.bounds import importance_bound, normalized_weights
from vaex.distributions import Categorical, Distribution, RelaxedOneHot
from vaex.estimators._log_weights import (
    Bound,
    LogJoint,
    average_log_weight,
    check_num_samples,
    evaluate_bound,
    evaluate_log_joint,
    with_gradient_of,
)

Estimator = Literal["reparameterized", "sticking_the_landing", "doubly_reparameterized"]
ESTIMATORS = get_args(Estimator)


def reparameterized(
    key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int, *, bound: Bound = average_log_weight
) -> jax.Array:
    """Bound with its plain reparameterization gradient: unbiased for every bound.

    Args:
      key: a key.
      posterior: q(z|x), whose samples carry gradients; batch shape [b].
      log_joint: z [k, b, *latent] -> log p(x, z) [k, b], nats.
      num_samples: k.
      bound: log weights [k, b] -> [b]; their mean (the ELBO) by default.
    Returns: [b], nats; ``jax.grad`` of it is the estimator.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> from vaex.distributions import Normal
      >>> def loss(mean):
      ...     q = Normal(mean, 1.0)
      ...     return -reparameterized(jax.random.key(0), q, Normal(jnp.ones(1), 1.0).log_prob, 100_000)
      >>> print(jnp.round(jax.grad(loss)(jnp.zeros(1)), 1))
      [-1.]

    References: Kingma & Welling 2014, section 2.4; Burda, Grosse & Salakhutdinov 2016, eq. 13.
    """
    return _estimate("reparameterized", key, posterior, log_joint, num_samples, bound)


def sticking_the_landing(
    key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int, *, bound: Bound = average_log_weight
) -> jax.Array:
    """ELBO with the path derivative alone: the score of q, whose mean is zero, is left out.

    For the ELBO it is unbiased and has no variance where the posterior is exact. For bounds of several samples it is
    biased (the score's mean is no longer zero): use ``doubly_reparameterized`` there. Measured on a linear-Gaussian VAE near
    its optimum by ``experiments/estimators.py``, the encoder's mean gradient is off by 2.7 times its size at k = 10, by 25
    times at k = 100; the generative network's is exact.

    Args:
      key, posterior, log_joint, num_samples, bound: as in ``reparameterized``; the posterior is a pytree.
    Returns: [b], nats; ``jax.grad`` of it is the estimator.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> from vaex.distributions import Normal
      >>> def loss(mean):  # the posterior is exact: the gradient is zero for every sample
      ...     q = Normal(mean, 1.0)
      ...     return -sticking_the_landing(jax.random.key(0), q, Normal(jnp.ones(1), 1.0).log_prob, 4)
      >>> print(jax.grad(loss)(jnp.ones(1)))
      [0.]

    References: Roeder, Wu & Duvenaud 2017, eq. 6; Tucker et al. 2019, section 3 (the bias for k > 1).
    """
    return _estimate("sticking_the_landing", key, posterior, log_joint, num_samples, bound)


def doubly_reparameterized(
    key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int, *, bound: Bound = importance_bound
) -> jax.Array:
    r"""Bound with the doubly reparameterized gradient (DReG): unbiased, and the encoder's signal does not fade as k grows.

    The score of q is reparameterized a second time, which turns the weight of a sample's path,
    :math:`\partial B/\partial \log w_i`, into
    :math:`\partial B/\partial \log w_i - \partial^2 B/\partial (\log w_i)^2`: for the importance bound the square of its
    normalised weight. What ``log_joint`` closes over (the generative network) gets the plain gradient.

    Args:
      key, posterior, log_joint, num_samples: as in ``reparameterized``; the posterior is a pytree.
      bound: [k, b] -> [b]; any that is twice differentiable. The importance bound by default; for others the second
        derivatives cost k products with the bound's Hessian.
    Returns: [b], nats; ``jax.grad`` of it is the estimator.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> from vaex.distributions import Normal
      >>> def loss(mean):  # the posterior is exact: the gradient is zero for every sample
      ...     q = Normal(mean, 1.0)
      ...     return -doubly_reparameterized(jax.random.key(0), q, Normal(jnp.ones(1), 1.0).log_prob, 4)
      >>> print(jax.grad(loss)(jnp.ones(1)))
      [0.]

    References: Tucker et al. 2019, eqs. 6-8; Bauer & Mnih 2021, section 3.
    """
    return _estimate("doubly_reparameterized", key, posterior, log_joint, num_samples, bound)


def path_log_weights(
    posterior: Distribution,
    log_joint: LogJoint,
    z: Any,
    *,
    estimator: Estimator = "reparameterized",
    bound: Bound = importance_bound,
) -> jax.Array:
    """Log weights of given samples such that the gradient of ``bound`` of them is the estimator.

    Use it where the weights or the samples are needed beside the bound.

    Args:
      posterior, log_joint: as in ``reparameterized``; the posterior is a pytree.
      z: samples of the posterior that carry its gradients, [k, b, *latent].
      estimator: name of the estimator.
      bound: [k, b] -> [b], the bound whose gradient is estimated. Another bound of these weights gives the parameters of
        ``log_joint`` its plain gradient, whatever the estimator.
    Returns: [k, b], nats.
    Raises: ValueError if the shapes disagree, or for an unknown estimator.
    Example:
      >>> from vaex.distributions import Normal
      >>> q = Normal(jnp.zeros(1), 1.0)
      >>> z = q.sample(jax.random.key(0), (4,))
      >>> print(path_log_weights(q, q.log_prob, z, estimator="doubly_reparameterized"))
      [0. 0. 0. 0.]

    References: those of the estimators.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"path_log_weights: estimator is {estimator!r}, expected one of {', '.join(ESTIMATORS)}")
    fixed = posterior if estimator == "reparameterized" else jax.lax.stop_gradient(posterior)
    if estimator == "doubly_reparameterized":
        # the weights are needed before the pass that carries gradients; XLA merges the two passes, which are the same
        still = jax.lax.stop_gradient(z)
        log_q = fixed.log_prob(still)
        log_weights = jax.lax.stop_gradient(evaluate_log_joint(estimator, log_joint, still, log_q) - log_q)
        ratio = _path_ratio(estimator, bound, log_weights)
        z = jax.tree.map(lambda leaf: _scale_gradient(leaf, ratio), z)
    log_q = fixed.log_prob(z)
    return evaluate_log_joint(estimator, log_joint, z, log_q) - log_q


def _estimate(
    name: Estimator, key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int, bound: Bound
) -> jax.Array:
    check_num_samples(name, num_samples)
    z = posterior.sample(key, (num_samples,))
    return evaluate_bound(name, bound, path_log_weights(posterior, log_joint, z, estimator=name, bound=bound))


def _path_ratio(name: str, bound: Bound, log_weights: jax.Array) -> jax.Array:
    """1 - B_ii / B_i of each sample, where B_i and B_ii are the bound's first two derivatives in its log weight."""
    if bound is importance_bound:
        return normalized_weights(log_weights)

    def slope(weights: jax.Array) -> jax.Array:
        return jax.grad(lambda w: jnp.sum(evaluate_bound(name, bound, w)))(weights)

    def curvature(index: jax.Array) -> jax.Array:
        direction = jnp.zeros_like(log_weights).at[index].set(1.0)
        return jax.jvp(slope, (log_weights,), (direction,))[1][index]

    first = slope(log_weights)
    second = jax.lax.map(curvature, jnp.arange(log_weights.shape[0]))
    return jnp.where(first == 0, 0.0, 1.0 - second / jnp.where(first == 0, 1.0, first))


@jax.custom_vjp
def _scale_gradient(z: jax.Array, ratio: jax.Array) -> jax.Array:
    """z, whose cotangent is multiplied by ``ratio``, [k, b] for z [k, b, ...]."""
    return z


def _scale_gradient_forward(z: jax.Array, ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
    return z, ratio


def _scale_gradient_backward(ratio: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    spread = ratio.reshape(*ratio.shape, *(1,) * (cotangent.ndim - ratio.ndim)).astype(cotangent.dtype)
    return cotangent * spread, jnp.zeros_like(ratio)


_scale_gradient.defvjp(_scale_gradient_forward, _scale_gradient_backward)


def straight_through_gumbel(
    key: jax.Array,
    posterior: Categorical,
    log_joint: LogJoint,
    num_samples: int,
    *,
    temperature: ArrayLike,
    bound: Bound = average_log_weight,
) -> jax.Array:
    """Bound of a categorical posterior: one-hot samples forward, the gradient of relaxed samples backward. Biased.

    The value is that of exact samples of the posterior. The bias falls with the temperature while the variance rises:
    measured by ``experiments/estimators.py`` on a small discrete VAE, the mean gradient is off by 10% of its size at
    temperature 0.25, by 66% at 1 and by 150% at 4.

    Args:
      key: a key.
      posterior: a ``Categorical``, logits [b, *event, classes].
      log_joint: one-hot z [k, b, *event, classes], floats -> log p(x, z) [k, b], nats; it must be differentiable in z.
      num_samples: k.
      temperature: of the relaxation, above 0; may be traced.
      bound: log weights [k, b] -> [b]; their mean (the ELBO) by default.
    Returns: [b], nats; ``jax.grad`` of it is the estimator.
    Raises: ValueError if the shapes disagree; TypeError for another posterior.
    Example:
      >>> scores = jnp.array([0.0, 2.0])
      >>> def loss(logits):
      ...     log_joint = lambda z: jnp.sum(z * scores, axis=(-2, -1))
      ...     return -straight_through_gumbel(jax.random.key(0), Categorical(logits), log_joint, 1000, temperature=0.5)
      >>> bool(jax.grad(loss)(jnp.zeros((1, 2)))[0, 1] < 0)  # more of the second class
      True

    References: Jang, Gu & Poole 2017, section 2.2.
    """
    name = "straight_through_gumbel"
    check_num_samples(name, num_samples)
    if not isinstance(posterior, Categorical):
        raise TypeError(
            f"{name}: posterior is a {type(posterior).__name__}, expected a Categorical; "
            "use reparameterized for a posterior whose samples carry gradients"
        )
    ndims = posterior.event_ndims + 1
    relaxed = RelaxedOneHot(posterior.logits, jnp.asarray(temperature, jnp.result_type(posterior.logits)), ndims)
    soft = relaxed.sample(key, (num_samples,))
    hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1], dtype=soft.dtype)
    z = with_gradient_of(hard, soft)
    probabilities = posterior.log_probabilities
    impossible = jnp.isneginf(probabilities)
    log_q = jnp.sum(z * jnp.where(impossible, 0.0, probabilities), axis=tuple(range(-ndims, 0)))
    return evaluate_bound(name, bound, evaluate_log_joint(name, log_joint, z, log_q) - log_q)
