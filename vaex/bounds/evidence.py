"""The evidence lower bound, from raw terms or in one call, and modifications of its KL term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import divergences
from vaex.distributions import Distribution, Normal
from vaex.divergences.monte_carlo import check_num_samples, draw


def elbo(log_px: jax.Array, kl: jax.Array, *, beta: ArrayLike = 1.0) -> jax.Array:
    r"""Evidence lower bound per example, in nats (larger is better).

    :math:`\log p(x|z) - \beta\,\mathrm{KL}(q(z|x)\,\|\,p(z))`; a lower bound on log p(x) for beta >= 1.

    Args:
      log_px: [...], log-likelihood, summed over event dimensions.
      kl: [...], divergence, summed over latent dimensions.
      beta: weight; may be traced.
    Returns: [...], one value per example, not averaged.
    Raises: ValueError if the shapes differ.
    Example:
      >>> elbo(jnp.array([-1.0]), jnp.array([0.5]), beta=2.0)
      Array([-2.], dtype=float32)

    References: Kingma & Welling 2014, eq. 3; Higgins et al. 2017, eq. 4.
    """
    log_px, kl = jnp.asarray(log_px), jnp.asarray(kl)
    if log_px.shape != kl.shape:
        raise ValueError(
            f"elbo: kl has shape {kl.shape}, expected {log_px.shape} like log_px; sum the event and latent axes first"
        )
    return log_px - beta * kl


class ElboTerms(NamedTuple):
    """Arguments of ``elbo``: ``log_px`` [b] and ``kl`` [b] in nats, both averaged over the posterior's samples."""

    log_px: jax.Array
    kl: jax.Array


def estimate_elbo(
    key: jax.Array,
    encoder: Callable[[jax.Array], Distribution],
    decoder: Callable[[jax.Array], Distribution],
    x: jax.Array,
    *,
    prior: Distribution | None = None,
    beta: ArrayLike = 1.0,
    num_samples: int = 1,
    kl: Literal["closed_form", "monte_carlo"] = "closed_form",
) -> jax.Array:
    r"""Evidence lower bound of each example in one call: encode, sample, decode, in nats.

    :math:`\frac1k\sum_i \log p(x|z_i) - \beta\,\mathrm{KL}(q(z|x)\,\|\,p(z))` with :math:`z_i \sim q(z|x)`, whose gradient is
    the reparameterized one where the posterior's samples carry gradients.

    Args:
      key: a key.
      encoder: x -> the posterior q(z|x), batch shape [b]; a closure over its parameters.
      decoder: z [k, b, *latent] -> the distribution over x, batch shape [k, b].
      x: [b, *event].
      prior: over one z; the standard normal by default.
      beta: weight of the KL; may be traced.
      num_samples: k.
      kl: in closed form, or estimated from the samples that are decoded.
    Returns: [b], one value per example, not averaged.
    Raises: ValueError if the shapes disagree; TypeError where the KL has no closed form.
    Example:
      >>> from vaex.distributions import Normal
      >>> encoder = lambda x: Normal(0.5 * x, log_scale=jnp.full(x.shape, -0.5 * jnp.log(2.0)))  # the exact posterior
      >>> decoder = lambda z: Normal(z, 1.0)
      >>> x = jnp.array([[1.0], [3.0]])
      >>> bound = estimate_elbo(jax.random.key(0), encoder, decoder, x, num_samples=10_000)
      >>> print(jnp.round(bound, 1), jnp.round(Normal(jnp.zeros(1), log_scale=jnp.full(1, 0.5 * jnp.log(2.0))).log_prob(x), 1))
      [-1.5 -3.5] [-1.5 -3.5]

    References: Kingma & Welling 2014, eqs. 7 and 10.
    """
    terms = elbo_terms(key, encoder, decoder, x, prior=prior, num_samples=num_samples, kl=kl)
    return elbo(terms.log_px, terms.kl, beta=beta)


def elbo_terms(
    key: jax.Array,
    encoder: Callable[[jax.Array], Distribution],
    decoder: Callable[[jax.Array], Distribution],
    x: jax.Array,
    *,
    prior: Distribution | None = None,
    num_samples: int = 1,
    kl: Literal["closed_form", "monte_carlo"] = "closed_form",
) -> ElboTerms:
    """Return the two terms of ``estimate_elbo``, to weight or to report each by itself: same arguments, same samples.

    Returns: ``log_px`` [b] and ``kl`` [b], nats.
    Raises: ValueError if the shapes disagree or for an unknown ``kl``; TypeError where the KL has no closed form.
    Example:
      >>> from vaex.distributions import Bernoulli, Normal
      >>> encoder = lambda x: Normal(jnp.ones((2, 3)), 1.0)
      >>> decoder = lambda z: Bernoulli(jnp.zeros((*z.shape[:-1], 4)))
      >>> terms = elbo_terms(jax.random.key(0), encoder, decoder, jnp.ones((2, 4)))
      >>> print(terms.kl, terms.log_px.shape)
      [1.5 1.5] (2,)
    """
    if kl not in ("closed_form", "monte_carlo"):
        raise ValueError(f"elbo_terms: kl is {kl!r}, expected closed_form or monte_carlo")
    check_num_samples("elbo_terms", num_samples)
    posterior = encoder(x)
    prior = standard_normal_like(posterior) if prior is None else prior
    if kl == "closed_form":
        divergence = divergences.kl(posterior, prior)
        z = posterior.sample(key, (num_samples,))
    else:
        z, log_q = draw(key, posterior, prior, num_samples)
        divergence = jnp.mean(log_q - prior.log_prob(z), axis=0)
    log_px = decoder(z).log_prob(x)
    check_per_sample("elbo_terms", log_px, num_samples, jnp.shape(divergence))
    return ElboTerms(jnp.mean(log_px, axis=0), divergence)


def standard_normal_like(posterior: Distribution) -> Normal:
    """Return N(0, I) over one latent vector of this posterior."""
    shape = tuple(posterior.event_shape)
    dtype = jax.eval_shape(lambda: posterior.sample(jax.random.key(0))).dtype
    return Normal(jnp.zeros(shape, dtype), log_scale=jnp.zeros(shape, dtype), event_ndims=len(shape))


def check_per_sample(name: str, log_px: jax.Array, num_samples: int, batch: tuple[int, ...]) -> None:
    """Raise ValueError unless the decoder's log-likelihoods are [k, *batch]."""
    if log_px.shape != (num_samples, *batch):
        raise ValueError(
            f"{name}: decoder(z).log_prob(x) has shape {log_px.shape}, expected {(num_samples, *batch)}: samples first, then the "
            "posterior's batch; keep z's leading axes in the decoder, and set event_ndims of its distribution"
        )


def free_bits(kl_per_latent: jax.Array, *, minimum: ArrayLike) -> jax.Array:
    r"""KL with a floor under each latent: :math:`\sum_j \max(\mathrm{KL}_j, \lambda)`, in nats.

    Args:
      kl_per_latent: [b, d], one term per latent and example. The floor is applied to the batch mean of each latent, and
        the result is spread over the examples so that its batch mean is the penalised KL.
      minimum: nats that each latent may use freely; 0 leaves the KL as it is.
    Returns: [b].
    Raises: ValueError if ``kl_per_latent`` is not [b, d].
    Example:
      >>> free_bits(jnp.array([[0.1, 2.0], [0.3, 4.0]]), minimum=0.5)
      Array([2.5, 4.5], dtype=float32)

    References: Kingma et al. 2016, eq. 15.
    """
    kl_per_latent = jnp.asarray(kl_per_latent)
    if kl_per_latent.ndim != 2:
        raise ValueError(
            f"free_bits: kl_per_latent has shape {kl_per_latent.shape}, expected [b, d]; keep the latent axis"
        )
    over = jnp.mean(kl_per_latent, axis=0) > minimum
    return jnp.sum(jnp.where(over, kl_per_latent, jnp.asarray(minimum, kl_per_latent.dtype)), axis=-1)


def capacity_penalty(kl: jax.Array, *, capacity: ArrayLike, gamma: ArrayLike) -> jax.Array:
    r"""Penalty that pulls the KL towards a target: :math:`\gamma\,|\mathrm{KL} - C|`, in nats.

    Args:
      kl: [...], summed over latent dimensions. Give the batch mean to constrain the average, as the paper does.
      capacity: C, in nats.
      gamma: weight.
    Returns: [...].
    Example:
      >>> capacity_penalty(jnp.array(3.0), capacity=5.0, gamma=10.0)
      Array(20., dtype=float32, weak_type=True)

    References: Burgess et al. 2018, eq. 8.
    """
    return jnp.asarray(gamma * jnp.abs(kl - capacity))
