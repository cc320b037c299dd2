"""Divergences between distributions: closed forms, Monte Carlo estimates, and penalties on a batch of latents.

Nats, unless a docstring says otherwise, and sums over event axes. One value per batch element, except for statistics of a
whole batch (``mmd``, ``sliced_wasserstein``, the DIP penalties), which are scalars and say so.
"""

from vaex.divergences import sphere as _sphere  # registers its closed forms  # noqa: F401
from vaex.divergences.aggregate_posterior import (
    AggregateDensities,
    KLDecomposition,
    aggregate_densities,
    decompose_kl,
    density_ratio_loss,
    density_ratio_total_correlation,
    permute_latents,
    total_correlation,
)
from vaex.divergences.discrete import bernoulli_kl
from vaex.divergences.gaussian import gaussian_kl
from vaex.divergences.kernel_discrepancy import imq_kernel, mmd, rbf_kernel
from vaex.divergences.moments import dip_i_penalty, dip_ii_penalty
from vaex.divergences.monte_carlo import monte_carlo_kl
from vaex.divergences.other_divergences import chi_square, jeffreys, renyi
from vaex.divergences.registry import kl, register_kl
from vaex.divergences.sampled import (
    importance_forward_kl,
    monte_carlo_chi_square,
    monte_carlo_forward_kl,
    monte_carlo_jeffreys,
    monte_carlo_jensen_shannon,
    monte_carlo_renyi,
)
from vaex.divergences.wasserstein import sliced_wasserstein, squared_wasserstein

__all__ = [
    "AggregateDensities",
    "KLDecomposition",
    "aggregate_densities",
    "bernoulli_kl",
    "chi_square",
    "decompose_kl",
    "density_ratio_loss",
    "density_ratio_total_correlation",
    "dip_i_penalty",
    "dip_ii_penalty",
    "gaussian_kl",
    "importance_forward_kl",
    "imq_kernel",
    "jeffreys",
    "kl",
    "mmd",
    "monte_carlo_chi_square",
    "monte_carlo_forward_kl",
    "monte_carlo_jeffreys",
    "monte_carlo_jensen_shannon",
    "monte_carlo_kl",
    "monte_carlo_renyi",
    "permute_latents",
    "rbf_kernel",
    "register_kl",
    "renyi",
    "sliced_wasserstein",
    "squared_wasserstein",
    "total_correlation",
]
