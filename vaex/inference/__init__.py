"""Variational inference for any log-density: supports, families, objectives, and fits that run inside one jit.

``fit(key, log_density, family)`` fits a family over the parameters that a pytree of supports declares; ``init``, ``step`` and
``sample`` are its parts. ``diagnose`` measures a fit and corrects its expectations. Needs jax, numpy and optax.
"""

from vaex.inference.diagnostics import Diagnosis, corrected_expectation, diagnose, smooth_weights
from vaex.inference.families import (
    Family,
    FullRank,
    GaussianMixture,
    LowRank,
    MeanField,
    NormalizingFlow,
    PointMass,
    from_distribution,
)
from vaex.inference.fitting import History, RelativeChange, State, fit, init, log_target, sample, step
from vaex.inference.laplace_approximation import LaplaceFit, laplace
from vaex.inference.objectives import VariationalObjective, chi, forward_kl, importance, renyi, reverse_kl
from vaex.inference.supports import (
    Space,
    Support,
    correlation_cholesky,
    interval,
    ordered,
    positive,
    real,
    simplex,
    space,
)

__all__ = [
    "Diagnosis",
    "Family",
    "FullRank",
    "GaussianMixture",
    "History",
    "LaplaceFit",
    "LowRank",
    "MeanField",
    "NormalizingFlow",
    "PointMass",
    "RelativeChange",
    "Space",
    "State",
    "Support",
    "VariationalObjective",
    "chi",
    "corrected_expectation",
    "correlation_cholesky",
    "diagnose",
    "fit",
    "forward_kl",
    "from_distribution",
    "importance",
    "init",
    "interval",
    "laplace",
    "log_target",
    "ordered",
    "positive",
    "real",
    "renyi",
    "reverse_kl",
    "sample",
    "simplex",
    "smooth_weights",
    "space",
    "step",
]
