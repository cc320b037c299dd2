"""Normalizing flows: invertible maps (params, z) -> (value, log_det) for posteriors and priors.

The Protocol ``Flow`` says what a flow offers: a static record of sizes, whose parameters lie in a pytree from ``init(key)``.
``forward`` and ``inverse`` each give the log-determinant of the map that they perform, summed over the last axis. Put one into
``vaex.distributions.Transformed(base, flow, params)``. ``BaseFlow`` adds checks of shapes and dtypes to a flow of your own.

One map per example, for amortised posteriors: leaves of the parameters may carry leading axes that broadcast to the batch
axes of z (``params_from_vector`` makes them from an encoder's output), or a network flow with ``context_dim`` takes the
encoder's features by ``flow.with_context(params, features)``.

All have an inverse. It is one pass except for ``InverseAutoregressive``, where ``MaskedAutoregressive`` needs d passes forward
and the other d back, and ``Planar`` and ``Sylvester``, which solve scalar equations to rounding.

``leapfrog`` and ``generalized_leapfrog`` follow a Hamiltonian, of any log-density and without parameters of their own.
"""

from vaex.flows._base import BaseFlow, params_from_vector, params_size
from vaex.flows.autoregressive import InverseAutoregressive, MaskedAutoregressive
from vaex.flows.compose import Chain, Permutation, chain, reverse
from vaex.flows.coupling import AffineCoupling, SplineCoupling
from vaex.flows.hamiltonian import PhasePoint, generalized_leapfrog, leapfrog, quadratic_tempering
from vaex.flows.householder import Householder
from vaex.flows.planar import Planar
from vaex.flows.protocol import Flow
from vaex.flows.radial import Radial
from vaex.flows.spline import rational_quadratic_spline
from vaex.flows.sylvester import Sylvester

__all__ = [
    "AffineCoupling",
    "BaseFlow",
    "Chain",
    "Flow",
    "Householder",
    "InverseAutoregressive",
    "MaskedAutoregressive",
    "Permutation",
    "PhasePoint",
    "Planar",
    "Radial",
    "SplineCoupling",
    "Sylvester",
    "chain",
    "generalized_leapfrog",
    "leapfrog",
    "params_from_vector",
    "params_size",
    "quadratic_tempering",
    "rational_quadratic_spline",
    "reverse",
]
