"""Bounds on the log-likelihood. Lower bounds go up; everything is in nats and per example, nothing is averaged over a batch.

From raw terms: ``elbo``, ``free_bits``, ``capacity_penalty``. From an encoder and a decoder in one call: ``estimate_elbo``,
``estimate_log_weights``. From log weights with samples first: ``importance_bound`` and its relatives, ``renyi_bound``, the upper
bounds ``cubo`` and ``eubo``, ``thermodynamic_bound``.
"""

from vaex.bounds.evidence import ElboTerms, capacity_penalty, elbo, elbo_terms, estimate_elbo, free_bits
from vaex.bounds.importance import (
    PiwaeBounds,
    ciwae_bound,
    effective_sample_size,
    estimate_log_weights,
    importance_bound,
    miwae_bound,
    normalized_weights,
    piwae_bounds,
    renyi_bound,
)
from vaex.bounds.upper import cubo, eubo, thermodynamic_bound

__all__ = [
    "ElboTerms",
    "PiwaeBounds",
    "capacity_penalty",
    "ciwae_bound",
    "cubo",
    "effective_sample_size",
    "elbo",
    "elbo_terms",
    "estimate_elbo",
    "estimate_log_weights",
    "eubo",
    "free_bits",
    "importance_bound",
    "miwae_bound",
    "normalized_weights",
    "piwae_bounds",
    "renyi_bound",
    "thermodynamic_bound",
]
