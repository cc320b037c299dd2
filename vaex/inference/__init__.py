"""Variational inference for any log-density: supports, families, objectives, and fits that run inside one jit.

``fit(key, log_density, family)`` fits a family over the parameters that a pytree of supports declares; ``init``, ``step`` and
``sample`` are its parts, ``minibatches`` makes a log-density of many examples. ``diagnose`` measures a fit and corrects its
expectations. Where updates are exact there is coordinate ascent: ``fit_gaussian``, ``fit_linear``, ``fit_mixture``,
``fit_logistic``, ``fit_ising``. Other ways to a posterior: ``fit_natural``, ``fit_stein``, ``laplace``, and by blackjax (extra
``mcmc``) ``sample_chains`` and ``pathfinder``. ``bound_evidence`` bounds the log normaliser from both sides. Needs jax, numpy and
optax.
"""

from vaex.inference.chains import Chains, PathfinderFit, pathfinder, sample_chains
from vaex.inference.conjugate import (
    GaussianFit,
    LinearFit,
    LinearPosterior,
    NormalGamma,
    fit_gaussian,
    fit_linear,
    linear_posterior,
)
from vaex.inference.diagnostics import Diagnosis, corrected_expectation, diagnose, smooth_weights
from vaex.inference.evidence import Evidence, EvidenceBound, bound_evidence
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
from vaex.inference.ising import IsingFit, fit_ising, ising_couplings
from vaex.inference.laplace_approximation import LaplaceFit, laplace
from vaex.inference.logistic import LogisticFit, bohning, fit_logistic, jaakkola_jordan
from vaex.inference.mixtures import MixtureFit, MixturePrior, fit_mixture
from vaex.inference.natural_gradient import fit_natural, natural_step
from vaex.inference.objectives import VariationalObjective, chi, forward_kl, importance, renyi, reverse_kl
from vaex.inference.stein import SteinFit, fit_stein, stein_direction
from vaex.inference.subsampling import Minibatches, minibatches
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
    "Chains",
    "Diagnosis",
    "Evidence",
    "EvidenceBound",
    "Family",
    "FullRank",
    "GaussianFit",
    "GaussianMixture",
    "History",
    "IsingFit",
    "LaplaceFit",
    "LinearFit",
    "LinearPosterior",
    "LogisticFit",
    "LowRank",
    "MeanField",
    "Minibatches",
    "MixtureFit",
    "MixturePrior",
    "NormalGamma",
    "NormalizingFlow",
    "PathfinderFit",
    "PointMass",
    "RelativeChange",
    "Space",
    "State",
    "SteinFit",
    "Support",
    "VariationalObjective",
    "bohning",
    "bound_evidence",
    "chi",
    "corrected_expectation",
    "correlation_cholesky",
    "diagnose",
    "fit",
    "fit_gaussian",
    "fit_ising",
    "fit_linear",
    "fit_logistic",
    "fit_mixture",
    "fit_natural",
    "fit_stein",
    "forward_kl",
    "from_distribution",
    "importance",
    "init",
    "interval",
    "ising_couplings",
    "jaakkola_jordan",
    "laplace",
    "linear_posterior",
    "log_target",
    "minibatches",
    "natural_step",
    "ordered",
    "pathfinder",
    "positive",
    "real",
    "renyi",
    "reverse_kl",
    "sample",
    "sample_chains",
    "simplex",
    "smooth_weights",
    "space",
    "stein_direction",
    "step",
]
