"""Variational families: static records that make a distribution over the unconstrained vector from a pytree of parameters.

The Protocol ``Family`` says what one offers; ``from_distribution`` makes one of a distribution record of your own. ``scale`` is
the standard deviation with which a family begins, around zero.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from vaex.distributions import Delta, Distribution, LowRankNormal, Mixture, MultivariateNormal, Normal, Transformed
from vaex.errors import UserError
from vaex.flows import Flow as InvertibleFlow
from vaex.inference.supports import Space, space

Params = Any  # a pytree of arrays


class Family(Protocol):
    """Distributions q over the unconstrained vector of a space; hashable, as it is static under jit."""

    @property
    def space(self) -> Space:
        """Space of the parameters of the log-density."""
        ...

    def init(self, key: jax.Array) -> Params:
        """Parameters to begin from, a pytree of floating arrays."""
        ...

    def distribution(self, params: Params) -> Distribution:
        """Distribution of batch shape () and event shape (space.size,), a pytree."""
        ...


@dataclasses.dataclass(frozen=True, init=False)
class _Sized:
    """What the families share: the space and the first scale."""

    space: Space
    scale: float

    def __init__(self, supports: object, *, scale: float = 1.0) -> None:
        self._set(space=space(supports), scale=_positive(type(self).__name__, scale))

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _normal(self) -> dict[str, jax.Array]:
        return {"loc": jnp.zeros(self.space.size), "log_scale": jnp.full(self.space.size, math.log(self.scale))}


class PointMass(_Sized):
    """All mass at one point: with ``reverse_kl`` the fit is the posterior's mode in the declared parameters (MAP).

    With a log-likelihood for ``log_density`` it is the maximum likelihood. The mode is that of the density of the constrained
    parameters, without the map's log-determinant.

    Args:
      supports: a pytree of supports, or an int.
    Raises: UserError if the supports are none.
    """

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Zeros."""
        return {"loc": jnp.zeros(self.space.size)}

    def distribution(self, params: Params) -> Delta:
        """Point mass at loc."""
        return Delta(params["loc"])


class MeanField(_Sized):
    """Gaussian with independent elements.

    On a Gaussian target the reverse KL's optimum has variances 1 / diag(precision), too small by the correlations.

    Args:
      supports: a pytree of supports, or an int.
      scale: standard deviation at the start.
    Raises: UserError if the supports are none or the scale is not positive.
    References: Bishop 2006, section 10.1.2.
    """

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Zero mean, the first scale."""
        return self._normal()

    def distribution(self, params: Params) -> Normal:
        """Normal of loc and log_scale."""
        return Normal(params["loc"], log_scale=params["log_scale"])


class FullRank(_Sized):
    """Gaussian with a full covariance, by its Cholesky factor, whose diagonal is an exponential.

    Args:
      supports: a pytree of supports, or an int.
      scale: standard deviation at the start.
    Raises: UserError if the supports are none or the scale is not positive.
    References: Kucukelbir et al. 2017, section 2.4.
    """

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Zero mean, the first scale, no correlation."""
        return {**self._normal(), "lower": jnp.zeros((self.space.size, self.space.size))}

    def distribution(self, params: Params) -> MultivariateNormal:
        """Normal of loc and the Cholesky factor."""
        tril = jnp.tril(params["lower"], -1) + jnp.diag(jnp.exp(params["log_scale"]))
        return MultivariateNormal(params["loc"], scale_tril=tril)

    def params(self, loc: jax.Array, covariance: jax.Array) -> dict[str, jax.Array]:
        """Return the parameters of a given Gaussian: loc [d], covariance [d, d]."""
        tril = jnp.linalg.cholesky(covariance)
        return {"loc": loc, "log_scale": jnp.log(jnp.diagonal(tril)), "lower": jnp.tril(tril, -1)}


@dataclasses.dataclass(frozen=True, init=False)
class LowRank(_Sized):
    """Gaussian with covariance diag + F F', F of ``rank`` columns.

    Args:
      supports: a pytree of supports, or an int.
      rank: columns of F.
      scale: standard deviation at the start.
    Raises: UserError if the supports are none, or rank or scale are not positive.
    References: Ong, Nott & Smith 2018, section 3.
    """

    rank: int

    def __init__(self, supports: object, rank: int, *, scale: float = 1.0) -> None:
        super().__init__(supports, scale=scale)
        self._set(rank=int(_positive("LowRank", rank)))

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Zero mean, the first scale, and small random columns."""
        return {**self._normal(), "factor": 0.1 * self.scale * jax.random.normal(key, (self.space.size, self.rank))}

    def distribution(self, params: Params) -> LowRankNormal:
        """Normal of loc, log_scale and factor."""
        return LowRankNormal(params["loc"], params["factor"], log_scale=params["log_scale"])


@dataclasses.dataclass(frozen=True, init=False)
class GaussianMixture(_Sized):
    """Mixture of Gaussians with independent elements.

    ``reverse_kl`` and ``importance`` draw from every component and weight by its probability (stratified samples), so that
    the weights have exact gradients; each sample of theirs is one for every component.

    Args:
      supports: a pytree of supports, or an int.
      components: their number.
      scale: standard deviation at the start, of the components and of their means around zero.
    Raises: UserError if the supports are none, or components or scale are not positive.
    References: Morningstar et al. 2021, section 3.
    """

    components: int

    def __init__(self, supports: object, components: int, *, scale: float = 1.0) -> None:
        super().__init__(supports, scale=scale)
        self._set(components=int(_positive("GaussianMixture", components)))

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """Random means, one scale, equal weights."""
        shape = (self.components, self.space.size)
        return {
            "logits": jnp.zeros(self.components),
            "loc": self.scale * jax.random.normal(key, shape),
            "log_scale": jnp.full(shape, math.log(self.scale)),
        }

    def distribution(self, params: Params) -> Mixture:
        """Mixture of normals."""
        return Mixture(params["logits"], Normal(params["loc"], log_scale=params["log_scale"]))


@dataclasses.dataclass(frozen=True, init=False)
class NormalizingFlow(_Sized):
    """Gaussian with independent elements, pushed through an invertible map of ``vaex.flows``.

    Args:
      supports: a pytree of supports, or an int.
      flow: a flow of the dimension of the unconstrained vector, such as ``chain(AffineCoupling(2), reverse(2))``.
      scale: standard deviation of the base at the start.
    Raises: UserError if the supports are none, the scale is not positive, or the flow has another dimension.
    References: Rezende & Mohamed 2015, section 4.
    """

    flow: InvertibleFlow

    def __init__(self, supports: object, flow: InvertibleFlow, *, scale: float = 1.0) -> None:
        super().__init__(supports, scale=scale)
        if flow.dimension != self.space.size:
            raise UserError(
                f"NormalizingFlow: the flow has dimension {flow.dimension}, expected {self.space.size}, the size of the "
                "unconstrained vector"
            )
        self._set(flow=flow)

    def init(self, key: jax.Array) -> dict[str, Any]:
        """A base of the first scale, and the flow near the identity."""
        return {**self._normal(), "flow": self.flow.init(key)}

    def distribution(self, params: Params) -> Transformed:
        """The base, transformed."""
        return Transformed(Normal(params["loc"], log_scale=params["log_scale"]), self.flow, params["flow"])


@dataclasses.dataclass(frozen=True)
class UserFamily:
    """Family of two functions; made by ``from_distribution``."""

    space: Space
    init: Callable[[jax.Array], Params]
    distribution: Callable[[Params], Distribution]


def from_distribution(
    supports: object, init: Callable[[jax.Array], Params], distribution: Callable[[Params], Distribution]
) -> UserFamily:
    """Make a family of your own distribution record.

    Args:
      supports: a pytree of supports, or an int.
      init: a key -> params, a pytree of floating arrays.
      distribution: params -> distribution of batch shape () and event shape (d,), a pytree, d the size of the space.
    Raises: UserError if the supports are none.
    Example:
      >>> from vaex.distributions import Laplace
      >>> family = from_distribution(2, lambda key: jnp.zeros((2, 2)), lambda p: Laplace(p[0], log_scale=p[1]))
      >>> family.distribution(family.init(jax.random.key(0))).event_shape
      (2,)
    """
    return UserFamily(space(supports), init, distribution)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise UserError(f"{name}: got {value}, expected a positive number for its scale, rank or components")
    return value
