"""Probability distributions as pytree records.

Every family offers what the Protocol ``Distribution`` says, and ``mode`` and ``entropy()`` where closed forms exist.
Parameters are leaves, so a distribution passes through jit, vmap, grad and scan; ``event_ndims`` and the like are static.

Locations are called ``loc`` and scales ``scale``, as in NumPyro and distrax. Families that store the logarithm of a scale
are built from either: ``Normal(loc, scale)`` or ``Normal(loc, log_scale=...)``.

Log-probabilities and entropies come out in float32 or wider: bfloat16 keeps eight bits, too few for hundreds of nats.
Samples, means and modes keep the parameters' dtype. Values outside a support are not looked for.

``family``, ``BaseDistribution`` and ``Elementwise`` are for a family of your own.
"""

from vaex.distributions.bernoulli import Bernoulli, ContinuousBernoulli, bernoulli_log_prob
from vaex.distributions.categorical import Categorical, LevelCategorical
from vaex.distributions.counts import NegativeBinomial, Poisson
from vaex.distributions.discretized_logistic import DiscretizedLogistic
from vaex.distributions.discretized_mixture import DiscretizedLogisticMixture
from vaex.distributions.family import BaseDistribution, Elementwise, family, static
from vaex.distributions.gaussian import Normal, reparameterize
from vaex.distributions.independent import Independent, Observed
from vaex.distributions.laplace import Delta, Laplace
from vaex.distributions.low_rank import LowRankNormal
from vaex.distributions.mixture import Mixture
from vaex.distributions.multivariate import MultivariateNormal
from vaex.distributions.poincare import PoincareNormal, to_poincare_ball
from vaex.distributions.protocol import Distribution
from vaex.distributions.relaxed import LogitRelaxedBernoulli, LogRelaxedOneHot, RelaxedBernoulli, RelaxedOneHot
from vaex.distributions.sphere import UniformSphere, VonMisesFisher, sphere_log_area
from vaex.distributions.tables.codes import CategoricalCodes, ordinal_logits
from vaex.distributions.tables.rows import Rows
from vaex.distributions.tables.student import LogNormal, StudentT
from vaex.distributions.tables.zero_inflated import ZeroInflated
from vaex.distributions.transformed import Transformed

__all__ = [
    "BaseDistribution",
    "Bernoulli",
    "Categorical",
    "CategoricalCodes",
    "ContinuousBernoulli",
    "Delta",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Distribution",
    "Elementwise",
    "Independent",
    "Laplace",
    "LevelCategorical",
    "LogNormal",
    "LogRelaxedOneHot",
    "LogitRelaxedBernoulli",
    "LowRankNormal",
    "Mixture",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "Observed",
    "PoincareNormal",
    "Poisson",
    "RelaxedBernoulli",
    "RelaxedOneHot",
    "Rows",
    "StudentT",
    "Transformed",
    "UniformSphere",
    "VonMisesFisher",
    "ZeroInflated",
    "bernoulli_log_prob",
    "family",
    "ordinal_logits",
    "reparameterize",
    "sphere_log_area",
    "static",
    "to_poincare_ball",
]
