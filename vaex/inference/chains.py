"""Markov chains and Pathfinder, by blackjax (extra ``mcmc``), of the same log-densities and supports as fits."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from vaex.errors import MissingPackageError, UserError
from vaex.inference.families import FullRank
from vaex.inference.fitting import LogDensity, log_target
from vaex.inference.supports import Parameters

Kernel = Literal["nuts", "hmc"]


class Chains(NamedTuple):
    """Draws of c chains, n each.

    ``samples``: the pytree of parameters, leaves [c, n, ...]; ``z`` [c, n, d], unconstrained. ``r_hat`` and
    ``effective_sample_size``: the same pytree, of every element; R-hat is near 1 where chains agree. ``acceptance`` [c]: mean
    probability of acceptance; ``divergences`` [c]: transitions that left the region where the step size holds.
    """

    samples: Parameters
    z: jax.Array
    r_hat: Parameters
    effective_sample_size: Parameters
    acceptance: jax.Array
    divergences: jax.Array


def sample_chains(
    key: jax.Array,
    log_density: LogDensity,
    supports: Any,
    *,
    kernel: Kernel = "nuts",
    num_samples: int = 1000,
    warmup: int = 500,
    num_chains: int = 4,
    leapfrog_steps: int = 10,
    target_acceptance: float = 0.8,
    start: jax.Array | None = None,
) -> Chains:
    """Draw from a density by the No-U-Turn sampler or by Hamiltonian Monte Carlo.

    Step size and diagonal mass matrix of each chain are adapted in the warm-up, as in Stan. Put the call under ``jit``.

    Args:
      key: a key.
      log_density: one pytree of parameters -> scalar, nats, up to a constant.
      supports: a pytree of supports, or an int.
      kernel: "nuts" or "hmc".
      num_samples: of each chain, n, at least 4.
      warmup: transitions before them, discarded.
      num_chains: c, at least 2, for R-hat.
      leapfrog_steps: of a transition of "hmc".
      target_acceptance: of the adapted step size; more makes smaller steps, for densities that curve.
      start: unconstrained [c, d]; by default uniform in (-2, 2).
    Returns: the draws and their diagnostics.
    Raises: MissingPackageError without blackjax; UserError for another kernel, or too few samples or chains.
    References: Hoffman & Gelman 2014; Vehtari et al. 2021 (diagnostics).
    """
    _require_blackjax("sample_chains")
    import blackjax
    from blackjax import diagnostics

    if kernel not in get_args(Kernel) or num_samples < 4 or num_chains < 2 or warmup < 1:
        raise UserError(
            f"sample_chains: kernel is {kernel!r}, num_samples {num_samples}, warmup {warmup}, num_chains {num_chains}; "
            f"expected one of {', '.join(get_args(Kernel))}, at least 4, 1 and 2"
        )
    family = FullRank(supports)
    target = log_target(log_density, family)
    shape = (num_chains, family.space.size)
    key, start_key = jax.random.split(key)
    first = jax.random.uniform(start_key, shape, minval=-2.0, maxval=2.0) if start is None else jnp.asarray(start)
    if first.shape != shape:
        raise UserError(f"sample_chains: start has shape {first.shape}, expected {shape}")
    algorithm: Any = {"nuts": blackjax.nuts, "hmc": blackjax.hmc}[kernel]
    extra: dict[str, Any] = {"num_integration_steps": leapfrog_steps} if kernel == "hmc" else {}
    extra["target_acceptance_rate"] = target_acceptance

    def chain(key: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        warm_key, draw_key = jax.random.split(key)
        adaptation: Any = blackjax.window_adaptation(algorithm, target, **extra)
        (state, parameters), _ = adaptation.run(warm_key, z, num_steps=warmup)
        transition = algorithm(target, **parameters).step

        def advance(state: Any, key: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array, jax.Array]]:
            state, info = transition(key, state)
            return state, (state.position, info.acceptance_rate, info.is_divergent)

        _, (path, acceptance, divergent) = jax.lax.scan(advance, state, jax.random.split(draw_key, num_samples))
        return path, jnp.mean(acceptance), jnp.sum(divergent)

    z, acceptance, divergences = jax.vmap(chain)(jax.random.split(key, num_chains), first)
    samples = jax.vmap(jax.vmap(lambda one: family.space.constrain(one)[0]))(z)
    return Chains(
        samples,
        z,
        jax.tree.map(lambda leaf: diagnostics.potential_scale_reduction(leaf).reshape(leaf.shape[2:]), samples),
        jax.tree.map(lambda leaf: diagnostics.effective_sample_size(leaf).reshape(leaf.shape[2:]), samples),
        acceptance,
        divergences,
    )


class PathfinderFit(NamedTuple):
    """Result of ``pathfinder``: ``params`` are those of ``family``, a ``FullRank``; ``elbo``, its estimate, nats."""

    family: FullRank
    params: dict[str, jax.Array]
    elbo: jax.Array


def pathfinder(
    key: jax.Array,
    log_density: LogDensity,
    supports: object,
    *,
    start: jax.Array | None = None,
    num_samples: int = 200,
    steps: int = 30,
) -> PathfinderFit:
    """Gaussian with the highest ELBO among those along a quasi-Newton path to the mode: a quick fit, or a start for ``fit``.

    Its covariance is the path's estimate of the inverse Hessian. It may be given to ``fit`` (``params=``) and to ``diagnose``.

    Args:
      key: a key.
      log_density: one pytree of parameters -> scalar, nats, up to a constant.
      supports: a pytree of supports, or an int.
      start: unconstrained [d]; by default uniform in (-2, 2).
      num_samples: of each ELBO.
      steps: of the path, at most.
    Returns: the fit.
    Raises: MissingPackageError without blackjax.
    References: Zhang, Carpenter, Gelman & Vehtari 2022.
    """
    _require_blackjax("pathfinder")
    import blackjax

    family = FullRank(supports)
    target = log_target(log_density, family)
    key, start_key = jax.random.split(key)
    size = family.space.size
    first = jax.random.uniform(start_key, (size,), minval=-2.0, maxval=2.0) if start is None else jnp.asarray(start)
    _, info = blackjax.vi.pathfinder.approximate(key, target, first, num_samples, maxiter=steps)
    path: Any = info.path

    def gaussian(position: jax.Array, slope: jax.Array, *factors: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        alpha, beta, gamma = factors
        covariance = jnp.diag(alpha) + beta @ gamma @ beta.T
        # blackjax 1.7 keeps the gradient of minus the log-density and adds it, away from the mode: means and ELBOs are our own
        params = family.params(position - covariance @ slope, covariance)
        q = family.distribution(params)
        z = q.sample(jax.random.fold_in(key, 1), (num_samples,))
        return params, jnp.mean(target(z) - q.log_prob(z))

    params, elbo = jax.vmap(gaussian)(path.position, path.grad_position, path.alpha, path.beta, path.gamma)
    taken = jnp.isfinite(elbo) & jnp.isfinite(path.elbo)  # of steps that the path did not take blackjax's is -inf
    best = jnp.argmax(jnp.where(taken, elbo, -jnp.inf))
    return PathfinderFit(family, jax.tree.map(lambda leaf: leaf[best], params), elbo[best])


def _require_blackjax(name: str) -> None:
    if importlib.util.find_spec("blackjax") is None:
        raise MissingPackageError(f'{name} needs blackjax, not installed here; run: pip install "vaex-jax[mcmc]"')
