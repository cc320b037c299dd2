"""Upper bounds on the log-likelihood, and the thermodynamic bounds on both sides of it."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from vaex.bounds.importance import constant_where, normalized_weights, power_mean, samples_first, weighted_mean


def chi_upper_bound(log_weights: jax.Array, *, power: ArrayLike = 2.0) -> jax.Array:
    r"""Chi upper bound :math:`\frac1n \log \frac1k\sum_i w_i^n`, in nats.

    With infinitely many samples an upper bound on log p(x) for n >= 1, tight where q is the posterior. From k samples the
    logarithm makes it come out too low on average; :math:`e^{n B}` is unbiased. It is the Renyi bound of order 1 - n.

    Args:
      log_weights: [k, ...], samples of q first.
      power: n, at least 1; may be traced.
    Returns: [...]; -inf where all weights are zero.
    Raises: ValueError if there is no sample axis or it is empty, or ``power`` is a number below 1.
    Example:
      >>> print(f"{chi_upper_bound(jnp.log(jnp.array([1.0, 3.0]))):.4f}")
      0.8047

    References: Dieng et al. 2017, eq. 3.
    """
    log_weights = samples_first("chi_upper_bound", log_weights)
    if not isinstance(power, Tracer) and not np.all(np.asarray(power) >= 1):
        raise ValueError(
            f"chi_upper_bound: power is {power}, expected at least 1; below 1 renyi_bound with alpha = 1 - power is a lower bound"
        )
    return power_mean(log_weights, jnp.asarray(power, log_weights.dtype))


def evidence_upper_bound(log_weights: jax.Array, *, samples: Literal["q", "posterior"] = "q") -> jax.Array:
    r"""Evidence upper bound :math:`E_{p(z|x)}[\log p(x, z) - \log q(z|x)] = \log p(x) + \mathrm{KL}(p(z|x)\,\|\,q)`, in nats.

    Args:
      log_weights: [k, ...], samples first.
      samples: the distribution they are drawn from. "posterior": exact draws of p(z|x), say of simulated data or by MCMC;
        the plain mean, unbiased. "q": draws of q, reweighted by their normalised weights; consistent, but too low on average
        from few samples (with one sample it is the ELBO).
    Returns: [...]; -inf where all weights are zero, and for samples of the posterior where one is.
    Raises: ValueError if there is no sample axis or it is empty, or for an unknown ``samples``.
    Example:
      >>> weights = jnp.log(jnp.array([1.0, 3.0]))
      >>> print(f"{evidence_upper_bound(weights):.4f} {evidence_upper_bound(weights, samples='posterior'):.4f}")
      0.8240 0.5493

    References: Ji & Shen 2019, eq. 4.
    """
    if samples not in ("q", "posterior"):
        raise ValueError(f"evidence_upper_bound: samples is {samples!r}, expected q or posterior")
    log_weights = samples_first("evidence_upper_bound", log_weights)
    if samples == "posterior":
        return jnp.mean(log_weights, axis=0)
    return weighted_mean(normalized_weights(log_weights), log_weights)


def thermodynamic_bound(
    log_weights: jax.Array, *, temperatures: ArrayLike, side: Literal["lower", "upper"] = "lower"
) -> jax.Array:
    r"""Riemann sum of thermodynamic integration (TVO), in nats.

    :math:`\log p(x) = \int_0^1 E_{\pi_\beta}[\log w]\,d\beta` with :math:`\pi_\beta \propto q^{1-\beta} p^\beta`; the
    integrand rises, so left sums are lower bounds and right sums upper ones. Each expectation is taken by the weights
    :math:`w^\beta`, normalised over the k samples of q, which is consistent but biased from few samples. The lower sum on
    (0, 1) is the ELBO, the upper one ``evidence_upper_bound``.

    Args:
      log_weights: [k, ...], samples of q first.
      temperatures: [t + 1], rising from 0 to 1.
      side: the lower or the upper sum.
    Returns: [...]; -inf where all weights are zero, and for the lower sum, which has the ELBO in it, where one is.
    Raises: ValueError if there is no sample axis or it is empty, the temperatures do not rise from 0 to 1, or side is unknown.
    Example:
      >>> weights, grid = jnp.log(jnp.array([1.0, 3.0])), np.linspace(0, 1, 101)
      >>> print(*(f"{thermodynamic_bound(weights, temperatures=grid, side=side):.3f}" for side in ("lower", "upper")))
      0.692 0.695

    References: Masrani, Le & Wood 2019, eqs. 5-7.
    """
    log_weights = samples_first("thermodynamic_bound", log_weights)
    if side not in ("lower", "upper"):
        raise ValueError(f"thermodynamic_bound: side is {side!r}, expected lower or upper")
    grid = jnp.asarray(temperatures, log_weights.dtype)
    if grid.ndim != 1 or grid.shape[0] < 2:
        raise ValueError(
            f"thermodynamic_bound: temperatures has shape {grid.shape}, expected [t + 1] with at least 0 and 1; "
            "such as jnp.linspace(0, 1, 11)"
        )
    if not isinstance(temperatures, Tracer):
        known = np.asarray(temperatures, np.float64)
        if known[0] != 0 or known[-1] != 1 or np.any(np.diff(known) <= 0):
            raise ValueError(f"thermodynamic_bound: temperatures are {known}, expected a list rising from 0 to 1")
    at = grid[:-1] if side == "lower" else grid[1:]

    def integrand(beta: jax.Array) -> jax.Array:
        # where beta is 0 an impossible sample counts like any other, and 0 * -inf would be NaN; so would beta's gradient
        infinite = jnp.isinf(log_weights)
        tempered = beta * jnp.where(infinite, 0.0, log_weights)
        tempered = jnp.where(infinite & (beta > 0), log_weights, tempered)
        return weighted_mean(normalized_weights(tempered), log_weights)

    values = jax.vmap(integrand)(at)
    widths = jnp.diff(grid).reshape(-1, *(1,) * (values.ndim - 1))
    return jnp.sum(constant_where(~jnp.isfinite(values), widths) * values, axis=0)
