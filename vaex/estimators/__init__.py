"""Gradient estimators of bounds: one call gives a value whose ``jax.grad`` is the estimator.

All take ``(key, posterior, log_joint, num_samples)``. The posterior is a pytree of batch shape [b]; ``log_joint`` maps
z [k, b, *latent] to log p(x, z) [k, b] and closes over the generative network and the data. ``bound`` maps log weights [k, b] to
[b] (``vaex.bounds``): their mean is the ELBO, ``importance_bound`` the bound of the IWAE. The Protocols ``LogJoint`` and ``Bound``
say so in types.

Where a bound is -inf, as the importance bound is where every sample has the weight zero, so is the estimator's value. Its
gradient there is zero for an estimator with a score function, and for the first three that of the bound.

| function | samples must carry gradients | unbiased | note |
|---|---|---|---|
| ``reparameterized`` | yes | yes | |
| ``sticking_the_landing`` | yes | for the ELBO | no variance where the posterior is exact |
| ``doubly_reparameterized`` | yes | yes | encoder's signal does not fade with k |
| ``score_function`` | no | yes | high variance |
| ``leave_one_out`` | no | yes | k >= 2 |
| ``vimco`` | no | yes | k >= 2 |
| ``straight_through_gumbel`` | no (categorical) | no | lower variance, biased |

``path_log_weights`` gives the log weights under the first three, of given samples; ``gradient_statistics`` measures
what the table says, on a model of your own.
"""

from vaex.estimators._log_weights import Bound, LogJoint
from vaex.estimators.pathwise import (
    doubly_reparameterized,
    path_log_weights,
    reparameterized,
    sticking_the_landing,
    straight_through_gumbel,
)
from vaex.estimators.score import leave_one_out, score_function, vimco
from vaex.estimators.statistics import GradientStatistics, gradient_statistics

__all__ = [
    "Bound",
    "GradientStatistics",
    "LogJoint",
    "doubly_reparameterized",
    "gradient_statistics",
    "leave_one_out",
    "path_log_weights",
    "reparameterized",
    "score_function",
    "sticking_the_landing",
    "straight_through_gumbel",
    "vimco",
]
