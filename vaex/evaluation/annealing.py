"""Log-likelihood of decoders from both sides: annealed importance sampling from the prior, and back from simulated codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.bounds import (
    adapted_step_sizes,
    annealed_log_weights,
    annealing_schedule,
    effective_sample_size,
    importance_bound,
)
from vaex.core import PyTree
from vaex.distributions import Distribution, MultivariateNormal

Decode = Callable[[jax.Array], Distribution]  # codes [k, d] -> p(x|z) of batch shape [k]


CHAINS_TOGETHER = 256  # chains that are run at once
Tell = Callable[[str], None]


class AnnealedBounds(NamedTuple):
    """Bounds of log p(x), nats, and the effective sample size of the chains' weights, each [n]."""

    bound: jax.Array
    effective_sample_size: jax.Array


class Sandwich(NamedTuple):
    """Bounds of log p(x) of simulated examples, nats: ``lower`` and ``upper``, each [n]."""

    lower: jax.Array
    upper: jax.Array


def _silent(text: str) -> None:
    """Print nothing."""


def annealed_log_likelihood(
    key: jax.Array,
    decode: Decode,
    x: ArrayLike,
    latent_dim: int,
    *,
    temperatures: int = 500,
    chains: int = 16,
    leapfrog_steps: int = 10,
) -> jax.Array:
    """Stochastic lower bounds of log p(x) under a standard normal prior, by annealed importance sampling, some examples at a time.

    Step sizes are found by a pilot run of as many chains. Time grows as n times chains, temperatures and leapfrog steps: one
    gradient of the decoder for each.

    Args:
      key: of all draws; example i draws with ``fold_in(key, i)``.
      decode: codes [k, d] to p(x|z); pure.
      x: model inputs, [n, ...].
      latent_dim: d.
      temperatures: intervals between prior and posterior.
      chains: whose weights are averaged.
      leapfrog_steps: of each transition.
    Returns: [n], nats.
    Raises: ValueError for fewer than one chain, temperature or leapfrog step.
    Example:
      >>> from vaex.distributions import Normal
      >>> decode, exact = lambda z: Normal(z, 0.5), Normal(jnp.zeros(1), 1.25**0.5)
      >>> bound = annealed_log_likelihood(jax.random.key(0), decode, jnp.ones((1, 1)), 1, temperatures=100, chains=100)
      >>> bool(abs(bound[0] - exact.log_prob(jnp.ones(1))) < 0.1)
      True

    References: Neal 2001; Wu et al. 2017.
    """
    return annealed_bounds(
        key, decode, x, latent_dim, temperatures=temperatures, chains=chains, leapfrog_steps=leapfrog_steps
    ).bound


def annealed_bounds(
    key: jax.Array,
    decode: Decode,
    x: ArrayLike,
    latent_dim: int,
    *,
    temperatures: int = 500,
    chains: int = 16,
    leapfrog_steps: int = 10,
    tell: Tell = _silent,
) -> AnnealedBounds:
    """Return the bounds of ``annealed_log_likelihood`` with the effective sample size of each example's chains.

    Args:
      key, decode, x, latent_dim, temperatures, chains, leapfrog_steps: as for ``annealed_log_likelihood``.
      tell: hears how many examples are done.
    Raises: as ``annealed_log_likelihood``.
    """
    _check("annealed_log_likelihood", temperatures, chains, leapfrog_steps)
    betas = annealing_schedule(temperatures)

    def bounds(index: jax.Array, example: jax.Array) -> AnnealedBounds:
        keys = jax.random.split(jax.random.fold_in(key, index), 4)
        pilot, start = (jax.random.normal(k, (chains, latent_dim)) for k in (keys[0], keys[2]))
        weights = _log_weights(keys[1], keys[3], decode, example, pilot, start, betas, leapfrog_steps)
        return AnnealedBounds(importance_bound(weights), effective_sample_size(weights))

    return _by_blocks(bounds, (jnp.asarray(x),), CHAINS_TOGETHER // chains, "annealed lower bounds", tell)


def simulated_sandwich(
    key: jax.Array,
    decode: Decode,
    n: int,
    latent_dim: int,
    *,
    temperatures: int = 500,
    chains: int = 16,
    leapfrog_steps: int = 10,
    tell: Tell = _silent,
) -> Sandwich:
    """Lower and upper bounds of log p(x) of examples that are simulated from the model, whose codes are exact posterior samples.

    Where their difference is small, annealed bounds of real examples at the same setting may be trusted, as far as real examples
    are like simulated ones (bidirectional Monte Carlo).

    Args:
      key: of all draws.
      decode, latent_dim, temperatures, chains, leapfrog_steps: as for ``annealed_log_likelihood``.
      n: number of examples.
      tell: hears how many examples are done.
    Returns: ``Sandwich``; the upper bound is of one reverse chain, all a simulated example allows, which starts at its code.
    Raises: as ``annealed_log_likelihood``.

    References: Grosse et al. 2015; Wu et al. 2017, section 3.
    """
    _check("simulated_sandwich", temperatures, chains, leapfrog_steps)
    code_key, x_key, lower_key, upper_key = jax.random.split(key, 4)
    codes = jax.random.normal(code_key, (n, latent_dim))
    x = decode(codes).sample(x_key)
    betas = annealing_schedule(temperatures)
    options = {"temperatures": temperatures, "chains": chains, "leapfrog_steps": leapfrog_steps}
    lower = annealed_bounds(lower_key, decode, x, latent_dim, **options, tell=tell).bound

    def bound(index: jax.Array, example: jax.Array, code: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.fold_in(upper_key, index), 3)
        pilot = jax.random.normal(keys[0], (chains, latent_dim))
        weights = _log_weights(
            keys[1], keys[2], decode, example, pilot, code[None], betas, leapfrog_steps, reverse=True
        )
        return weights[0]

    return Sandwich(lower, _by_blocks(bound, (x, codes), CHAINS_TOGETHER // chains, "annealed upper bounds", tell))


def density_fit_log_likelihood(
    key: jax.Array,
    decode: Decode,
    x: ArrayLike,
    latent_dim: int,
    *,
    chains: int = 200,
    temperatures: int = 200,
    transitions: int = 50,
    leapfrog_steps: int = 10,
    tell: Tell = _silent,
) -> jax.Array:
    r"""Estimate log p(x) by Hamiltonian chains in the posterior and a Gaussian that is fitted to them (the AEVB paper's estimator).

    Chains are annealed from the prior and then stay at the posterior; half of their transitions there end in the codes to which the
    Gaussian q is fitted, with full covariance, the other half in new codes, of which
    :math:`-\log\frac1k\sum_i q(z_i) / p(x, z_i)` is taken. For few latents: the paper says fewer than 5. It is no bound, and has an
    error where chains have not converged.

    Args:
      key, decode, x, latent_dim, temperatures, leapfrog_steps, tell: as for ``annealed_bounds``.
      chains: k, at least latent_dim + 2.
      transitions: in the posterior, at least 2.
    Returns: [n], nats.
    Raises: ValueError for too few chains, transitions, temperatures or leapfrog steps.

    References: Kingma & Welling 2014, appendix D.
    """
    _check("density_fit_log_likelihood", temperatures, chains, leapfrog_steps)
    if chains < latent_dim + 2 or transitions < 2:
        raise ValueError(
            f"density_fit_log_likelihood: chains={chains}, transitions={transitions}; expected at least {latent_dim + 2} and 2"
        )
    annealing, staying = annealing_schedule(temperatures), jnp.ones(transitions // 2 + 1)

    def estimate(index: jax.Array, example: jax.Array) -> jax.Array:
        keys = jax.random.split(jax.random.fold_in(key, index), 6)
        pilot, z = (jax.random.normal(k, (chains, latent_dim)) for k in keys[:2])

        def log_px(z: jax.Array) -> jax.Array:
            return decode(z).log_prob(example)

        options = {"betas": annealing, "leapfrog_steps": leapfrog_steps}
        sizes = adapted_step_sizes(keys[2], pilot, _log_prior, log_px, **options)
        z = annealed_log_weights(keys[3], z, _log_prior, log_px, **options, step_sizes=sizes).z
        options = {"betas": staying, "leapfrog_steps": leapfrog_steps, "step_sizes": sizes[-1]}
        fitted = annealed_log_weights(keys[4], z, _log_prior, log_px, **options).z
        z = annealed_log_weights(keys[5], fitted, _log_prior, log_px, **options).z
        mean, covariance = jnp.mean(fitted, axis=0), jnp.atleast_2d(jnp.cov(fitted, rowvar=False))
        q = MultivariateNormal(mean, scale_tril=jnp.linalg.cholesky(covariance))
        return -importance_bound(q.log_prob(z) - _log_prior(z) - log_px(z))

    return _by_blocks(estimate, (jnp.asarray(x),), CHAINS_TOGETHER // chains, "density fits", tell)


def _by_blocks(
    function: Callable[..., PyTree], arrays: tuple[jax.Array, ...], size: int, name: str, tell: Tell
) -> PyTree:
    """Apply a function of an example's number and its rows to all examples, ``size`` at a time."""
    n, size = len(arrays[0]), max(1, min(size, len(arrays[0])))
    compiled, parts = jax.jit(jax.vmap(function)), []
    tell(f"{name}: 0 of {n} examples, {size} at a time")
    for start in range(0, n, size):
        rows = jnp.minimum(jnp.arange(start, start + size), n - 1)  # one shape for all blocks, so one compilation
        parts.append(jax.block_until_ready(compiled(rows, *(array[rows] for array in arrays))))
        tell(f"{name}: {min(start + size, n)} of {n} examples")
    return jax.tree.map(lambda *values: jnp.concatenate(values)[:n], *parts)


def _log_weights(
    pilot_key: jax.Array,
    key: jax.Array,
    decode: Decode,
    x: jax.Array,
    pilot: jax.Array,
    start: jax.Array,
    betas: jax.Array,
    leapfrog_steps: int,
    *,
    reverse: bool = False,
) -> jax.Array:
    """Log weights [k] of chains from ``start`` [k, d], with the step sizes of other chains, which go from ``pilot`` [m, d]."""

    def log_px(z: jax.Array) -> jax.Array:
        return decode(z).log_prob(x)

    steps = adapted_step_sizes(pilot_key, pilot, _log_prior, log_px, betas=betas, leapfrog_steps=leapfrog_steps)
    chains = annealed_log_weights(
        key,
        start,
        _log_prior,
        log_px,
        betas=betas,
        step_sizes=steps,
        leapfrog_steps=leapfrog_steps,
        reverse=reverse,
    )
    return chains.log_weights


def _log_prior(z: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum(jnp.square(z) + jnp.log(2 * jnp.pi), axis=-1)


def _check(name: str, temperatures: int, chains: int, leapfrog_steps: int) -> None:
    if min(temperatures, chains, leapfrog_steps) < 1:
        raise ValueError(
            f"{name}: temperatures={temperatures}, chains={chains}, leapfrog_steps={leapfrog_steps}; expected at least 1 of each"
        )
