"""Bounds on the log-likelihood. Lower bounds go up; everything is in nats and per example, nothing is averaged over a batch.

From raw terms: ``elbo``, ``free_bits``, ``capacity_penalty``. From an encoder and a decoder in one call: ``estimate_elbo``,
``estimate_log_weights``. From log weights, samples first:

| function | known as | side of log p(x) |
|---|---|---|
| ``importance_bound`` | IWAE | lower |
| ``mean_importance_bound`` | MIWAE | lower |
| ``combined_importance_bound`` | CIWAE | lower |
| ``partial_importance_bounds`` | PIWAE | lower |
| ``renyi_bound`` | VR bound | lower for alpha >= 0, upper for alpha < 0 |
| ``thermodynamic_bound`` | TVO | either |
| ``chi_upper_bound`` | CUBO | upper |
| ``evidence_upper_bound`` | EUBO | upper |

``annealed_log_weights`` draws log weights by annealed importance sampling: their ``importance_bound`` is tighter, and chains in
reverse give an upper bound.

``mixture_log_weights`` weighs samples of several posteriors by their mixture: the multi-encoder bound.

Where the weight of every sample is zero, a bound is -inf and its gradient zero: see ``vaex.bounds.importance``.
"""

from vaex.bounds.annealed import (
    AnnealedWeights,
    adapted_step_sizes,
    annealed_log_weights,
    annealing_schedule,
)
from vaex.bounds.evidence import ElboTerms, capacity_penalty, elbo, elbo_terms, estimate_elbo, free_bits
from vaex.bounds.importance import (
    PartialImportanceBounds,
    combined_importance_bound,
    effective_sample_size,
    estimate_log_weights,
    importance_bound,
    mean_importance_bound,
    normalized_weights,
    partial_importance_bounds,
    renyi_bound,
)
from vaex.bounds.multiple import mixture_log_weights
from vaex.bounds.upper import chi_upper_bound, evidence_upper_bound, thermodynamic_bound

__all__ = [
    "AnnealedWeights",
    "ElboTerms",
    "PartialImportanceBounds",
    "adapted_step_sizes",
    "annealed_log_weights",
    "annealing_schedule",
    "capacity_penalty",
    "chi_upper_bound",
    "combined_importance_bound",
    "effective_sample_size",
    "elbo",
    "elbo_terms",
    "estimate_elbo",
    "estimate_log_weights",
    "evidence_upper_bound",
    "free_bits",
    "importance_bound",
    "mean_importance_bound",
    "mixture_log_weights",
    "normalized_weights",
    "partial_importance_bounds",
    "renyi_bound",
    "thermodynamic_bound",
]
