"""Closed-form Kullback-Leibler divergences on the sphere, and those of independent copies."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex.distributions import Independent, UniformSphere, VonMisesFisher
from vaex.distributions.sphere import kl_to_uniform
from vaex.divergences.registry import kl, register_kl
from vaex.ops.arrays import sum_trailing
from vaex.ops.bessel import log_scaled_bessel, mean_length


@register_kl(VonMisesFisher, UniformSphere)
def _to_uniform(q: VonMisesFisher, p: UniformSphere) -> jax.Array:
    """Davidson et al. 2018, eq. 14: no gradient reaches the direction."""
    _, concentration, nu = q.lifted()
    return kl_to_uniform(nu, concentration)


@register_kl(UniformSphere, VonMisesFisher)
def _from_uniform(q: UniformSphere, p: VonMisesFisher) -> jax.Array:
    _, concentration, nu = p.lifted()
    return log_scaled_bessel(nu, concentration) + concentration


@register_kl(UniformSphere, UniformSphere)
def _uniform(q: UniformSphere, p: UniformSphere) -> jax.Array:
    return jnp.zeros(())


@register_kl(VonMisesFisher, VonMisesFisher)
def _von_mises_fisher(q: VonMisesFisher, p: VonMisesFisher) -> jax.Array:
    """KL by 1 - A c = (1 - A) + A (1 - c), c the cosine between the directions, so that nothing cancels."""
    q_loc, q_concentration, nu = q.lifted()
    p_loc, p_concentration, _ = p.lifted()
    length, complement = mean_length(nu, q_concentration)
    gap = 0.5 * jnp.sum(jnp.square(q_loc - p_loc), axis=-1)
    normalisers = log_scaled_bessel(nu, p_concentration) - log_scaled_bessel(nu, q_concentration)
    return p_concentration * (complement + length * gap) - q_concentration * complement + normalisers


@register_kl(Independent, Independent)
def _independent(q: Independent, p: Independent) -> jax.Array:
    if q.ndims != p.ndims:
        raise ValueError(f"kl: Independent has ndims {q.ndims} and {p.ndims}, expected equal ones; take the same axes")
    return sum_trailing(kl(q.base, p.base), q.ndims)
