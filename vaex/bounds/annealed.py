"""Annealed importance sampling: log weights of chains from an initial density to a posterior, or back for an upper bound."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

TARGET_ACCEPTANCE = 0.65
GROWTH = 1.02  # of a step size after a step that was accepted more often than that, and its shrinkage otherwise


class LogDensity(Protocol):
    """Log-density of codes: z [k, ..., d] -> [k, ...], nats; a pure function."""

    def __call__(self, z: jax.Array, /) -> jax.Array: ...


class AnnealedWeights(NamedTuple):
    """``log_weights`` [k, ...], nats; ``z`` [k, ..., d], where the chains ended; ``acceptance`` [t], mean over chains."""

    log_weights: jax.Array
    z: jax.Array
    acceptance: jax.Array


def annealing_schedule(num: int, *, steepness: float = 4.0) -> jax.Array:
    r"""Inverse temperatures from 0 to 1, dense at both ends: a logistic curve, rescaled.

    Args:
      num: number of intervals, t.
      steepness: of the curve; near 0, temperatures are equally spaced.
    Returns: [t + 1].
    Raises: ValueError for fewer than one interval or a steepness of 0 or less.
    Example:
      >>> annealing_schedule(2)
      Array([0. , 0.5, 1. ], dtype=float32)

    References: Wu et al. 2017, section 4.
    """
    if num < 1 or not steepness > 0:
        raise ValueError(
            f"annealing_schedule: num={num}, steepness={steepness}; expected at least 1, and a number above 0"
        )
    curve = jax.nn.sigmoid(steepness * jnp.linspace(-1.0, 1.0, num + 1))
    return (curve - curve[0]) / (curve[-1] - curve[0])


def annealed_log_weights(
    key: jax.Array,
    z: jax.Array,
    log_initial: LogDensity,
    log_ratio: LogDensity,
    *,
    betas: jax.Array,
    step_sizes: ArrayLike,
    leapfrog_steps: int = 10,
    reverse: bool = False,
) -> AnnealedWeights:
    r"""Log weights of chains through the densities proportional to :math:`q(z)\,r(z)^{\beta}`, with :math:`q r = p(x, z)`.

    Each temperature is followed by one Hamiltonian transition that leaves its density invariant. Forward, from ``z`` ~ q, weights
    are unbiased: :math:`E[w] = p(x)`, so that ``importance_bound`` of their logs, and their mean, are lower bounds of log p(x)
    in expectation. In reverse, from ``z`` exactly of the posterior (known for x that were simulated from p),
    :math:`E[1/w] = 1/p(x)`: the mean of the logs, and ``-importance_bound(-log_weights)``, are upper bounds in expectation.

    Args:
      key: of the transitions.
      z: where the chains start, [k, ..., d]: of q, or in reverse of the posterior.
      log_initial: log q(z), normalised.
      log_ratio: log r(z) = log p(x, z) - log q(z): where q is the prior, log p(x|z).
      betas: [t + 1], rising from 0 to 1, as ``annealing_schedule`` returns them.
      step_sizes: of the leapfrog, [t] or one, from ``adapted_step_sizes``: they must not depend on these chains.
      leapfrog_steps: of one transition.
      reverse: whether chains go from the posterior to q.
    Returns: ``AnnealedWeights``.
    Example:
      >>> from vaex.distributions import Normal
      >>> prior, likelihood = Normal(jnp.zeros(1), 1.0), lambda z: Normal(z, 0.5).log_prob(jnp.ones(1))
      >>> chains = annealed_log_weights(jax.random.key(0), prior.sample(jax.random.key(1), (500,)), prior.log_prob, likelihood,
      ...                               betas=annealing_schedule(50), step_sizes=0.2)
      >>> exact = Normal(jnp.zeros(1), 1.25**0.5).log_prob(jnp.ones(1))
      >>> bool(jnp.abs(jnp.mean(jnp.exp(chains.log_weights - exact)) - 1) < 0.05)
      True

    References: Neal 2001; reverse chains: Grosse et al. 2015, section 4.
    """
    steps = jnp.broadcast_to(jnp.asarray(step_sizes, z.dtype), (len(betas) - 1,))

    def anneal(carry: tuple[jax.Array, jax.Array], index: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        z, total = carry
        total = total + (betas[index + 1] - betas[index]) * log_ratio(z)
        beta = betas[index] if reverse else betas[index + 1]
        z, acceptance = _transition(
            jax.random.fold_in(key, index), z, log_initial, log_ratio, beta, steps[index], leapfrog_steps
        )
        return (z, total), jnp.mean(acceptance)

    order = jnp.arange(len(betas) - 1)
    start = jnp.zeros(z.shape[:-1], z.dtype)
    (end, total), acceptance = jax.lax.scan(anneal, (z, start), order[::-1] if reverse else order)
    return AnnealedWeights(total, end, acceptance[::-1] if reverse else acceptance)


def adapted_step_sizes(
    key: jax.Array,
    z: jax.Array,
    log_initial: LogDensity,
    log_ratio: LogDensity,
    *,
    betas: jax.Array,
    initial: float = 0.1,
    leapfrog_steps: int = 10,
    target: float = TARGET_ACCEPTANCE,
) -> jax.Array:
    """Step size for each temperature, from a forward pilot run: 2% longer after a transition that was accepted more often than
    ``target`` over all its chains, 2% shorter otherwise.

    Weights stay unbiased where they are of other chains, with these step sizes fixed.

    Args:
      key, z, log_initial, log_ratio, betas, leapfrog_steps: as for ``annealed_log_weights``, z of q.
      initial: the first step size.
      target: share of accepted proposals.
    Returns: [t].
    Example:
      >>> from vaex.distributions import Normal
      >>> prior = Normal(jnp.zeros(1), 1.0)
      >>> adapted_step_sizes(jax.random.key(0), jnp.zeros((9, 1)), prior.log_prob, lambda z: -z[..., 0] ** 2,
      ...                    betas=annealing_schedule(30)).shape
      (30,)
    """

    def anneal(carry: tuple[jax.Array, jax.Array], index: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        z, step = carry
        beta = betas[index + 1]
        z, acceptance = _transition(
            jax.random.fold_in(key, index), z, log_initial, log_ratio, beta, step, leapfrog_steps
        )
        longer = jnp.where(jnp.mean(acceptance) > target, GROWTH, 1.0 / GROWTH)
        return (z, step * longer), step

    _, steps = jax.lax.scan(anneal, (z, jnp.asarray(initial, z.dtype)), jnp.arange(len(betas) - 1))
    return steps


def _transition(
    key: jax.Array,
    z: jax.Array,
    log_initial: LogDensity,
    log_ratio: LogDensity,
    beta: jax.Array,
    step: jax.Array,
    leapfrog_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """Return z [k, ..., d] after a Metropolis-adjusted leapfrog trajectory, and the probabilities of acceptance [k, ...]."""

    def potential(z: jax.Array) -> jax.Array:
        return -(log_initial(z) + beta * log_ratio(z))

    gradient = jax.grad(lambda z: jnp.sum(potential(z)))
    momentum_key, accept_key = jax.random.split(key)
    momentum = jax.random.normal(momentum_key, z.shape, z.dtype)

    def leap(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        position, moving = state
        position = position + step * moving
        return position, moving - step * gradient(position)

    moving = momentum - 0.5 * step * gradient(z)
    position, moving = jax.lax.fori_loop(0, leapfrog_steps, leap, (z, moving))
    moving = moving + 0.5 * step * gradient(position)

    def energy(position: jax.Array, moving: jax.Array) -> jax.Array:
        return potential(position) + 0.5 * jnp.sum(jnp.square(moving), axis=-1)

    change = energy(z, momentum) - energy(position, moving)
    acceptance = jnp.where(jnp.isfinite(change), jnp.minimum(jnp.exp(jnp.minimum(change, 0.0)), 1.0), 0.0)
    accepted = jax.random.uniform(accept_key, acceptance.shape, z.dtype) < acceptance
    return jnp.where(accepted[..., None], position, z), acceptance
