"""The evidence of a log-density from both sides, by one fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaex import bounds
from vaex.errors import UserError
from vaex.inference.families import Family, Params
from vaex.inference.fitting import LogDensity, log_target


class EvidenceBound(NamedTuple):
    """``value`` and its standard error; nats."""

    value: jax.Array
    error: jax.Array


class Evidence(NamedTuple):
    """Bounds of the log normaliser of a density, nats, from loose to tight on either side; for ``bound_evidence``.

    Lower in expectation: ``elbo``, ``thermodynamic_lower``, ``importance``, ``annealed``. Upper: ``chi`` (CUBO),
    ``evidence_upper`` (EUBO), ``thermodynamic_upper``, ``annealed_upper``. From finitely many samples of q, ``chi`` and the
    thermodynamic sums are consistent, not bounds in expectation. ``annealed_upper`` is None without draws of the target.
    """

    elbo: EvidenceBound
    thermodynamic_lower: EvidenceBound
    importance: EvidenceBound
    annealed: EvidenceBound
    annealed_upper: EvidenceBound | None
    thermodynamic_upper: EvidenceBound
    evidence_upper: EvidenceBound
    chi: EvidenceBound


def bound_evidence(
    key: jax.Array,
    log_density: LogDensity,
    family: Family,
    params: Params,
    *,
    num_samples: int = 2000,
    num_chains: int = 100,
    temperatures: int = 100,
    posterior: jax.Array | None = None,
) -> Evidence:
    """EvidenceBound the evidence from both sides by a fitted distribution q.

    Chains of annealed importance sampling go from q to the target, and back from draws of the target where these are given: exact
    ones for simulated data, or those of ``sample_chains``.

    Args:
      key: a key that the fit did not use.
      log_density: as given to ``fit``; the evidence is the log of its integral.
      family: the family; not a ``PointMass``, which has no density.
      params: as from ``fit``.
      num_samples: of q, at least 20.
      num_chains: of annealed importance sampling, at least 2; one for each draw of the target on the way back.
      temperatures: of the chains, and of the thermodynamic sums.
      posterior: unconstrained draws of the target [m, d], m at least 2. ``evidence_upper`` is then their mean, otherwise it is
        reweighted from q.
    Returns: the bounds. Errors take draws as independent; they do not cover the bias of a bound.
    Raises: UserError for too few samples, or draws of another shape; TypeError for a point mass.
    References: Grosse, Ghahramani & Adams 2015 (both directions); Masrani, Le & Wood 2019; Dieng et al. 2017; Ji & Shen 2019.
    """
    if num_samples < 20 or num_chains < 2 or temperatures < 1:
        raise UserError(
            f"bound_evidence: num_samples is {num_samples}, num_chains {num_chains}, temperatures {temperatures}; expected at "
            "least 20, 2 and 1"
        )
    size = family.space.size
    if posterior is not None and (posterior.ndim != 2 or posterior.shape[0] < 2 or posterior.shape[1] != size):
        raise UserError(f"bound_evidence: posterior has shape {posterior.shape}, expected [m, {size}], m at least 2")
    q, target = family.distribution(params), log_target(log_density, family)
    draw_key, pilot_key, start_key, chain_key, back_key = jax.random.split(key, 5)

    def log_ratio(z: jax.Array) -> jax.Array:
        return target(z) - q.log_prob(z)

    log_weights = log_ratio(q.sample(draw_key, (num_samples,)))
    grid = jnp.linspace(0.0, 1.0, temperatures + 1)
    betas = bounds.annealing_schedule(temperatures)
    start = q.sample(start_key, (num_chains,))
    pilot = q.sample(jax.random.fold_in(start_key, 1), (num_chains,))
    step_sizes = bounds.adapted_step_sizes(pilot_key, pilot, q.log_prob, log_ratio, betas=betas)

    def annealed(key: jax.Array, z: jax.Array, reverse: bool) -> jax.Array:
        chains = bounds.annealed_log_weights(
            key, z, q.log_prob, log_ratio, betas=betas, step_sizes=step_sizes, reverse=reverse
        )
        return chains.log_weights

    upper = None
    at_posterior = None if posterior is None else log_ratio(posterior)
    if posterior is not None:
        back = _log_mean(-annealed(back_key, posterior, True))
        upper = EvidenceBound(-back.value, back.error)
    eubo = (
        _jackknife(bounds.evidence_upper_bound, log_weights)
        if at_posterior is None
        else EvidenceBound(jnp.mean(at_posterior), jnp.std(at_posterior, ddof=1) / math.sqrt(at_posterior.shape[0]))
    )
    return Evidence(
        EvidenceBound(jnp.mean(log_weights), jnp.std(log_weights, ddof=1) / math.sqrt(num_samples)),
        _jackknife(lambda w: bounds.thermodynamic_bound(w, temperatures=grid), log_weights),
        _log_mean(log_weights),
        _log_mean(annealed(chain_key, start, False)),
        upper,
        _jackknife(lambda w: bounds.thermodynamic_bound(w, temperatures=grid, side="upper"), log_weights),
        eubo,
        _jackknife(bounds.chi_upper_bound, log_weights),
    )


def _log_mean(log_weights: jax.Array) -> EvidenceBound:
    """Log of the mean weight, and its error to first order."""
    value = bounds.importance_bound(log_weights)
    return EvidenceBound(value, jnp.std(jnp.exp(log_weights - value), ddof=1) / math.sqrt(log_weights.shape[0]))


BLOCKS = 20


def _jackknife(bound: Callable[[jax.Array], jax.Array], log_weights: jax.Array) -> EvidenceBound:
    """A bound of all weights, and its error by leaving out each of 20 blocks."""
    length = log_weights.shape[0] // BLOCKS
    blocks = log_weights[: BLOCKS * length].reshape(BLOCKS, length)
    kept = [[block for block in range(BLOCKS) if block != left_out] for left_out in range(BLOCKS)]
    values = bound(blocks[jnp.asarray(kept)].reshape(BLOCKS, -1).T)
    return EvidenceBound(
        bound(log_weights), jnp.sqrt((BLOCKS - 1) / BLOCKS * jnp.sum(jnp.square(values - jnp.mean(values))))
    )
