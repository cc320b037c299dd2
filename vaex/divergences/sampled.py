"""Other divergences by sampling, for any ``Distribution``.

``monte_carlo_kl(key, q, p, ...)`` is the reverse KL of variational inference. Here are the forward KL, the symmetric
divergences and the Rényi family. All are differentiated as they stand: gradients reach the parameters
through samples that carry them.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from vaex.distributions import Distribution
from vaex.divergences.monte_carlo import capped, check_num_samples, draw, monte_carlo_kl
from vaex.divergences.other_divergences import check_alpha
from vaex.ops.log_sum_exp import log_sum_exp, settle


def monte_carlo_forward_kl(key: jax.Array, q: Distribution, p: Distribution, num_samples: int) -> jax.Array:
    r"""Estimate of the forward (inclusive) :math:`\mathrm{KL}(p\,\|\,q)` in nats, from samples of p. Unbiased.

    It makes q cover p, where the reverse KL(q || p) makes q sit inside p. Where p can only be weighted, not sampled, use
    ``importance_forward_kl``.

    Args:
      key: a key.
      q: the approximation; only its ``log_prob`` is used.
      p: the target, which is sampled.
      num_samples: k.
    Returns: one value per batch element.
    Raises: ValueError if ``num_samples`` is not a positive int.
    Example:
      >>> from vaex.distributions import Normal
      >>> p = Normal(jnp.zeros(2), 1.0)
      >>> monte_carlo_forward_kl(jax.random.key(0), p, p, 5)
      Array(0., dtype=float32)

    References: Bornschein & Bengio 2015, section 2.2.
    """
    check_num_samples("monte_carlo_forward_kl", num_samples)
    return monte_carlo_kl(key, p, q, num_samples)


def importance_forward_kl(log_weights: jax.Array) -> jax.Array:
    r"""Estimate of the forward :math:`\mathrm{KL}(p(z|x)\,\|\,q)` in nats from importance weights of samples of q.

    :math:`\sum_i \bar w_i \log w_i - \log\frac1k\sum_i w_i` with w = p/q up to a constant and :math:`\bar w` normalised.
    Biased downwards at finite k (at most log k), consistent, never negative. As a loss for q use stopped weights and
    ``-sum(w * log q)``: the gradient of this value includes the weights'.

    Args:
      log_weights: [k, ...], log p - log q of samples of q; any constant may be added.
    Returns: [...]; inf, with the gradient zero, where all weights are zero.
    Raises: ValueError if there is no sample axis.
    Example:
      >>> importance_forward_kl(jnp.zeros((5, 2)))
      Array([0., 0.], dtype=float32)

    References: Bornschein & Bengio 2015, eq. 6 (wake-phase update).
    """
    log_weights = jnp.asarray(log_weights)
    if log_weights.ndim == 0 or log_weights.shape[0] == 0:
        raise ValueError(
            f"importance_forward_kl: log_weights has shape {log_weights.shape}, expected [k, ...]; put samples first"
        )
    k = log_weights.shape[0]
    settled, impossible = settle(log_weights, axis=0)
    log_normalised = jax.nn.log_softmax(settled, axis=0)
    surprise = jnp.where(jnp.isneginf(log_normalised), 0.0, log_normalised + math.log(k))  # 0 * -inf would be NaN
    return jnp.where(impossible[0], jnp.inf, jnp.sum(jnp.exp(log_normalised) * surprise, axis=0))


def monte_carlo_jeffreys(key: jax.Array, q: Distribution, p: Distribution, num_samples: int) -> jax.Array:
    r"""Estimate of :math:`\mathrm{KL}(q\|p) + \mathrm{KL}(p\|q)` in nats, from samples of both. Unbiased.

    Args:
      key: a key.
      q: a distribution.
      p: another.
      num_samples: of each.
    Returns: one value per batch element.
    Raises: ValueError if ``num_samples`` is not a positive int.
    Example:
      >>> from vaex.distributions import Normal
      >>> p = Normal(jnp.zeros(2), 1.0)
      >>> monte_carlo_jeffreys(jax.random.key(0), p, p, 5)
      Array(0., dtype=float32)

    References: Jeffreys 1946, eq. 1.
    """
    check_num_samples("monte_carlo_jeffreys", num_samples)
    key_q, key_p = jax.random.split(key)
    return monte_carlo_kl(key_q, q, p, num_samples) + monte_carlo_kl(key_p, p, q, num_samples)


def monte_carlo_jensen_shannon(key: jax.Array, q: Distribution, p: Distribution, num_samples: int) -> jax.Array:
    r"""Estimate of the Jensen-Shannon divergence in nats, between 0 and log 2. Unbiased.

    :math:`\tfrac12\mathrm{KL}(q\|m) + \tfrac12\mathrm{KL}(p\|m)` with :math:`m = (q + p)/2`. It does not add up over
    independent dimensions, so there is no closed form to sum.

    Args:
      key: a key.
      q: a distribution.
      p: another.
      num_samples: of each.
    Returns: one value per batch element.
    Raises: ValueError if ``num_samples`` is not a positive int.
    Example:
      >>> from vaex.distributions import Normal
      >>> far = monte_carlo_jensen_shannon(jax.random.key(0), Normal(jnp.full(1, 1e3), 1.0), Normal(jnp.zeros(1), 1.0), 9)
      >>> print(f"{far:.4f}")
      0.6931

    References: Lin 1991, eq. 4.1.
    """
    check_num_samples("monte_carlo_jensen_shannon", num_samples)
    key_q, key_p = jax.random.split(key)
    x, log_qx = draw(key_q, q, p, num_samples)
    y, log_py = draw(key_p, p, q, num_samples)
    # log q - log m = log 2 - softplus(log p - log q)
    gaps = jnp.stack([p.log_prob(x) - log_qx, q.log_prob(y) - log_py])
    return math.log(2.0) - jnp.mean(jax.nn.softplus(gaps), axis=(0, 1))


def monte_carlo_renyi(key: jax.Array, q: Distribution, p: Distribution, num_samples: int, alpha: float) -> jax.Array:
    r"""Estimate of the Rényi divergence :math:`D_\alpha(q\|p)` in nats, from samples of q.

    :math:`\frac1{\alpha-1}\log\frac1k\sum (q/p)^{\alpha-1}`: consistent, but biased at finite k, as a logarithm of a mean is
    (downwards for alpha > 1, upwards below).

    Args:
      key: a key.
      q: the distribution that is sampled.
      p: the other one.
      num_samples: k.
      alpha: order, positive and not 1.
    Returns: one value per batch element.
    Raises: ValueError if ``num_samples`` or ``alpha`` is out of range.
    Example:
      >>> from vaex.distributions import Normal
      >>> p = Normal(jnp.zeros(2), 1.0)
      >>> monte_carlo_renyi(jax.random.key(0), p, p, 5, 2.0)
      Array(0., dtype=float32)

    References: Li & Turner 2016, eq. 7.
    """
    check_num_samples("monte_carlo_renyi", num_samples)
    check_alpha("monte_carlo_renyi", alpha)
    z, log_q = draw(key, q, p, num_samples)
    powers = (alpha - 1.0) * (log_q - p.log_prob(z))
    return (log_sum_exp(powers, axis=0) - math.log(num_samples)) / (alpha - 1.0)


def monte_carlo_chi_square(key: jax.Array, q: Distribution, p: Distribution, num_samples: int) -> jax.Array:
    r"""Estimate of :math:`\int q^2/p - 1` from samples of q: the mean of q/p - 1. Unbiased, with heavy tails.

    The exponent is capped at 80 to stay finite in float32.

    Args:
      key: a key.
      q: the distribution that is sampled.
      p: the other one.
      num_samples: k.
    Returns: one value per batch element; a ratio, not nats.
    Raises: ValueError if ``num_samples`` is not a positive int.
    Example:
      >>> from vaex.distributions import Normal
      >>> p = Normal(jnp.zeros(2), 1.0)
      >>> monte_carlo_chi_square(jax.random.key(0), p, p, 5)
      Array(0., dtype=float32)

    References: Dieng et al. 2017, section 2.
    """
    check_num_samples("monte_carlo_chi_square", num_samples)
    z, log_q = draw(key, q, p, num_samples)
    return jnp.mean(capped(log_q - p.log_prob(z)), axis=0)
