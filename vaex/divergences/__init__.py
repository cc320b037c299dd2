"""Divergences between distributions: closed forms, Monte Carlo estimates, and penalties on a batch of latents.

Everything is in nats and summed over event axes; nothing averages over the batch unless its name or docstring says so.
"""

from vaex.divergences.closed_form import bernoulli_kl, gaussian_kl
from vaex.divergences.monte_carlo import monte_carlo_kl
from vaex.divergences.registry import kl, register_kl

__all__ = [
    "bernoulli_kl",
    "gaussian_kl",
    "kl",
    "monte_carlo_kl",
    "register_kl",
]
