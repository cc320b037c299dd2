"""Log-likelihood of decoders from both sides: annealed importance sampling from the prior, and back from simulated codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.bounds import adapted_step_sizes, annealed_log_weights, annealing_schedule, importance_bound
from vaex.distributions import Distribution

Decode = Callable[[jax.Array], Distribution]  # codes [k, d] -> p(x|z) of batch shape [k]


class Sandwich(NamedTuple):
    """Bounds of log p(x) of simulated examples, nats: ``lower`` and ``upper``, each [n]."""

    lower: jax.Array
    upper: jax.Array


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
    """Stochastic lower bounds of log p(x) under a standard normal prior, by annealed importance sampling, an example at a time.

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
    _check("annealed_log_likelihood", temperatures, chains, leapfrog_steps)
    betas = annealing_schedule(temperatures)

    def bound(arguments: tuple[jax.Array, jax.Array]) -> jax.Array:
        index, example = arguments
        keys = jax.random.split(jax.random.fold_in(key, index), 4)
        pilot, start = (jax.random.normal(k, (chains, latent_dim)) for k in (keys[0], keys[2]))
        return importance_bound(_log_weights(keys[1], keys[3], decode, example, pilot, start, betas, leapfrog_steps))

    examples = jnp.asarray(x)
    return jax.jit(lambda rows: jax.lax.map(bound, (jnp.arange(len(rows)), rows)))(examples)


def simulated_sandwich(
    key: jax.Array,
    decode: Decode,
    n: int,
    latent_dim: int,
    *,
    temperatures: int = 500,
    chains: int = 16,
    leapfrog_steps: int = 10,
) -> Sandwich:
    """Lower and upper bounds of log p(x) of examples that are simulated from the model, whose codes are exact posterior samples.

    Where their difference is small, annealed bounds of real examples at the same setting may be trusted, as far as real examples
    are like simulated ones (bidirectional Monte Carlo).

    Args:
      key: of all draws.
      decode, latent_dim, temperatures, chains, leapfrog_steps: as for ``annealed_log_likelihood``.
      n: number of examples.
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
    lower = annealed_log_likelihood(lower_key, decode, x, latent_dim, **options)

    def bound(arguments: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        index, example, code = arguments
        keys = jax.random.split(jax.random.fold_in(upper_key, index), 3)
        pilot = jax.random.normal(keys[0], (chains, latent_dim))
        weights = _log_weights(
            keys[1], keys[2], decode, example, pilot, code[None], betas, leapfrog_steps, reverse=True
        )
        return weights[0]

    upper = jax.jit(lambda *rows: jax.lax.map(bound, (jnp.arange(n), *rows)))(x, codes)
    return Sandwich(lower, upper)


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
