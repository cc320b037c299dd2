"""Probability distributions as pytree records.

Every family has ``sample(key, sample_shape=())``, ``log_prob(value)`` (nats, summed over the event axes),
``batch_shape`` and ``event_shape``, and where they exist ``mean``, ``mode``, ``variance`` and ``entropy()``. Parameters
are leaves, so a distribution passes through jit, vmap, grad and scan; ``event_ndims`` and the like are static.

Log-probabilities and entropies come out in float32 or wider: bfloat16 keeps eight bits, too few for hundreds of nats.
Samples, means and modes keep the parameters' dtype. Values outside a support are not looked for.
"""

from vaex.distributions.bernoulli import Bernoulli, ContinuousBernoulli, bernoulli_log_prob
from vaex.distributions.categorical import Categorical, LevelCategorical
from vaex.distributions.discretized_logistic import DiscretizedLogistic
from vaex.distributions.discretized_mixture import DiscretizedLogisticMixture
from vaex.distributions.gaussian import Normal, reparameterize
from vaex.distributions.laplace import Delta, Laplace
from vaex.distributions.low_rank import LowRankNormal
from vaex.distributions.mixture import Independent, Mixture
from vaex.distributions.multivariate import MultivariateNormal
from vaex.distributions.poincare import PoincareNormal, to_poincare_ball
from vaex.distributions.relaxed import LogitRelaxedBernoulli, LogRelaxedOneHot, RelaxedBernoulli, RelaxedOneHot
from vaex.distributions.sphere import UniformSphere, VonMisesFisher, sphere_log_area
from vaex.distributions.transformed import Transformed

__all__ = [
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "Delta",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Independent",
    "Laplace",
    "LevelCategorical",
    "LogRelaxedOneHot",
    "LogitRelaxedBernoulli",
    "LowRankNormal",
    "Mixture",
    "MultivariateNormal",
    "Normal",
    "PoincareNormal",
    "RelaxedBernoulli",
    "RelaxedOneHot",
    "Transformed",
    "UniformSphere",
    "VonMisesFisher",
    "bernoulli_log_prob",
    "reparameterize",
    "sphere_log_area",
    "to_poincare_ball",
]
