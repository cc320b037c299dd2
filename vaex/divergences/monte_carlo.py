"""Kullback-Leibler divergences by sampling, for any ``Distribution``."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from vaex.distributions import Distribution

_FORMS = ("naive", "k2", "k3")
_GRADIENTS = ("total", "path", "score")
_LARGEST_EXPONENT = 80.0  # just below float32's overflow


def monte_carlo_kl(
    key: jax.Array,
    q: Distribution,
    p: Distribution,
    num_samples: int,
    *,
    form: Literal["naive", "k2", "k3"] = "naive",
    gradient: Literal["total", "path", "score"] = "total",
) -> jax.Array:
    r"""Estimate of :math:`\mathrm{KL}(q\,\|\,p)` in nats from samples of q, one value per batch element.

    With :math:`r = \log q(z) - \log p(z)`, the mean over samples of

    - ``naive``: r. Unbiased; may come out negative.
    - ``k2``: r^2 / 2. Never negative, biased to third order in r; little variance where q is near p.
    - ``k3``: e^-r - 1 + r. Unbiased where p is absolutely continuous to q, never negative, little variance where q is
      near p, and infinite variance where p has much heavier tails. The exponent is capped at 80.

    Gradients:

    - ``total``: differentiate the value as it stands. Right when q's samples carry gradients; biased for ``k2``.
    - ``path``: q's parameters get gradients through the samples only, which drops a term of mean zero and leaves no
      variance where q = p ("sticking the landing"). That of ``naive`` whatever the form. q must be a pytree.
    - ``score``: the samples are constants and q's parameters get the score-function gradient, with the mean of the
      other samples as baseline; p's get theirs directly. Unbiased for any q, also a discrete one, whatever the form.

    Args:
      key: a key.
      q: the distribution that is sampled; NumPyro's objects work too. Where it has ``sample_and_log_prob(key,
        sample_shape)``, that is used (for ``total``).
      p: the other one.
      num_samples: k.
      form: the estimator.
      gradient: how the estimate is differentiated.
    Returns: one value per batch element; batch axes broadcast, so that p may be one prior for a batch of posteriors.
    Raises: ValueError if the form, the gradient or the number of samples is none of those above.
    Example:
      >>> from vaex.distributions import Normal
      >>> q = p = Normal(jnp.zeros((3, 2)), 1.0)
      >>> monte_carlo_kl(jax.random.key(0), q, p, 10)
      Array([0., 0., 0.], dtype=float32)

    References: Schulman 2020, "Approximating KL divergence"; Roeder, Wu & Duvenaud 2017, eq. 6 (path); Kool, van Hoof &
      Welling 2019 (baseline).
    """
    _check(num_samples, form, gradient)
    if gradient == "total":
        z, log_q = draw(key, q, p, num_samples)
    else:
        z = q.sample(key, _sample_shape(q, p, num_samples))
        z = jax.lax.stop_gradient(z) if gradient == "score" else z
        log_q = (jax.tree.map(jax.lax.stop_gradient, q) if gradient == "path" else q).log_prob(z)
    log_p = p.log_prob(z)
    ratio = log_q - log_p
    value = jnp.mean(_forms(ratio, form), axis=0)
    if gradient == "total":
        return value
    carrier = jnp.mean(_score(ratio) * log_q - log_p if gradient == "score" else ratio, axis=0)
    return jax.lax.stop_gradient(value - carrier) + carrier


def draw(key: jax.Array, q: Distribution, p: Distribution, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """Draw samples [k, ...] of q, with their log-densities: from one pass where q offers it, so no flow is inverted."""
    shape = _sample_shape(q, p, num_samples)
    if hasattr(q, "sample_and_log_prob"):
        return q.sample_and_log_prob(key, shape)  # type: ignore[attr-defined]
    z = q.sample(key, shape)
    return z, q.log_prob(z)


def _sample_shape(q: Distribution, p: Distribution, num_samples: int) -> tuple[int, ...]:
    """Return (k,) and the leading batch axes that only p has, so that each of its batch elements gets separate samples."""
    missing = len(getattr(p, "batch_shape", ())) - len(getattr(q, "batch_shape", ()))
    return (num_samples, *p.batch_shape[:missing]) if missing > 0 else (num_samples,)


def capped(log_ratio: jax.Array) -> jax.Array:
    """exp(log_ratio) - 1, with the exponent capped at 80 so that float32 does not overflow."""
    return jnp.expm1(jnp.minimum(log_ratio, _LARGEST_EXPONENT))


def check_num_samples(name: str, num_samples: int) -> None:
    """Raise ValueError unless the number of samples is a positive int."""
    if not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(f"{name}: num_samples is {num_samples}, expected a positive int; it fixes a shape")


def _forms(ratio: jax.Array, form: str) -> jax.Array:
    if form == "k2":
        return 0.5 * jnp.square(ratio)
    return capped(-ratio) + ratio if form == "k3" else ratio


def _score(ratio: jax.Array) -> jax.Array:
    """Factor of the score: the log ratio less the mean over the other samples, a constant."""
    k = ratio.shape[0]
    ratio = jax.lax.stop_gradient(ratio)
    return ratio if k == 1 else (ratio - jnp.mean(ratio, axis=0)) * (k / (k - 1))


def _check(num_samples: int, form: str, gradient: str) -> None:
    check_num_samples("monte_carlo_kl", num_samples)
    for name, value, known in (("form", form, _FORMS), ("gradient", gradient, _GRADIENTS)):
        if value not in known:
            raise ValueError(f"monte_carlo_kl: {name} is {value!r}, expected one of these: {', '.join(known)}")
