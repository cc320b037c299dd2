"""Densities of codes, fitted after training, from which a model's samples are decoded in place of its prior.

``fit("gmm:10", codes)`` gives a ``Sampler``, a record of arrays, and ``draw(sampler, key, n)`` codes of it. Codes are an array
[n, d] of any model: draws from the posteriors of the training examples, whose distribution is the aggregate posterior.
"""

from vaex.samplers.gaussians import fit_mixture
from vaex.samplers.sampler import KINDS, Sampler, check_kind, draw, fit

__all__ = ["KINDS", "Sampler", "check_kind", "draw", "fit", "fit_mixture"]
