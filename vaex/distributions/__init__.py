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
from vaex.distributions.gaussian import LowRankNormal, MultivariateNormal, Normal, reparameterize
from vaex.distributions.laplace import Delta, Laplace

__all__ = [
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "Delta",
    "DiscretizedLogistic",
    "Laplace",
    "LevelCategorical",
    "LowRankNormal",
    "MultivariateNormal",
    "Normal",
    "bernoulli_log_prob",
    "reparameterize",
]
