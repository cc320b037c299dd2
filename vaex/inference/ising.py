"""Mean field of the Ising model, from which the method has its name."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr
from jax.typing import ArrayLike

from vaex.errors import UserError
from vaex.ops.arrays import lift


class IsingFit(NamedTuple):
    """Result of ``fit_ising``: ``mean`` [d] of every spin, ``elbo`` [steps]: a lower bound on log Z after each sweep, nats."""

    mean: jax.Array
    elbo: jax.Array


def ising_couplings(height: int, width: int, *, strength: ArrayLike = 1.0, periodic: bool = False) -> jax.Array:
    """Couplings between neighbours of a lattice.

    Args:
      height, width: of the lattice.
      strength: of each coupling; may be traced.
      periodic: whether opposite edges are neighbours; two neighbours on both sides count twice.
    Returns: symmetric [d, d], d = height width, in the order of rows.
    Raises: UserError for a lattice without spins.
    Example:
      >>> print(jnp.sum(ising_couplings(2, 3), axis=1))
      [2. 3. 2. 2. 3. 2.]
    """
    if height < 1 or width < 1:
        raise UserError(f"ising_couplings: lattice is {height} x {width}, expected at least one spin")
    index = np.arange(height * width).reshape(height, width)
    pairs = [(index[:-1], index[1:]), (index[:, :-1], index[:, 1:])]
    if periodic:
        pairs += [(index[-1:], index[:1]), (index[:, -1:], index[:, :1])]
    adjacency = np.zeros((index.size, index.size), np.float32)
    for first, second in pairs:
        np.add.at(adjacency, (first.ravel(), second.ravel()), 1.0)
    np.fill_diagonal(adjacency, 0.0)
    return jnp.asarray(strength) * jnp.asarray(adjacency + adjacency.T)


def fit_ising(
    couplings: jax.Array, field: ArrayLike = 0.0, *, start: jax.Array | None = None, steps: int = 100
) -> IsingFit:
    r"""Mean field of :math:`\log p(s) = \frac12 s^\top J s + h^\top s - \log Z`, spins -1 and 1, one spin after the other.

    :math:`m_i = \tanh(h_i + \sum_j J_{ij} m_j)`. No update lowers the bound. Above the critical coupling there are several
    optima; which is reached depends on ``start``.

    Args:
      couplings: J [d, d], symmetric with zero diagonal; see ``ising_couplings``.
      field: h, one or [d].
      start: mean [d] to begin from, in (-1, 1); by default tanh(h), which is zero without a field.
      steps: sweeps.
    Returns: the fit.
    Raises: UserError if the shapes disagree or steps is below 1.
    References: MacKay 2003, section 33.2; Wainwright & Jordan 2008, section 5.3.
    """
    (couplings,) = lift(couplings)
    size = couplings.shape[0]
    if couplings.shape != (size, size) or steps < 1:
        raise UserError(
            f"fit_ising: couplings have shape {couplings.shape}, steps is {steps}; expected [d, d], at least 1"
        )
    field = jnp.broadcast_to(jnp.asarray(field, couplings.dtype), (size,))
    first = jnp.tanh(field) if start is None else jnp.asarray(start, couplings.dtype)
    if first.shape != (size,):
        raise UserError(f"fit_ising: start has shape {first.shape}, expected {(size,)}")

    def update(spin: int, mean: jax.Array) -> jax.Array:
        return mean.at[spin].set(jnp.tanh(field[spin] + couplings[spin] @ mean))

    def sweep(mean: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        mean = jax.lax.fori_loop(0, size, update, mean)
        entropy = jnp.sum(entr(0.5 * (1.0 + mean)) + entr(0.5 * (1.0 - mean)))
        return mean, 0.5 * mean @ couplings @ mean + field @ mean + entropy

    mean, elbo = jax.lax.scan(sweep, first, None, length=steps)
    return IsingFit(mean, elbo)
