"""Location-scale families: built from a scale or from its logarithm, stored with the logarithm.

A scale that is an exponential is positive wherever a network or an optimizer puts its logarithm, and densities need only
the logarithm and its negative's exponential.
"""

from __future__ import annotations

import enum
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.distributions._shapes import match
from vaex.distributions.family import BaseDistribution, Elementwise


class Unset(enum.Enum):
    """Type of ``UNSET``, the default of an argument that was not given."""

    UNSET = enum.auto()

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset.UNSET


def resolve_log_scale(
    family: str, scale: ArrayLike | Unset, log_scale: ArrayLike | Unset, arguments: str = "loc, scale"
) -> ArrayLike:
    """Return the log scale, from whichever of the two a constructor was given.

    Args:
      family: name of the class, for the error.
      scale: as given, or ``UNSET``.
      log_scale: as given, or ``UNSET``.
      arguments: what a call looks like, for the error.
    Raises: ValueError if both or neither are given, or if ``scale`` is a number that is not positive.
    """
    if (scale is UNSET) == (log_scale is UNSET):
        got = "neither" if scale is UNSET else "both"
        raise ValueError(
            f"{family}: got {got} of scale and log_scale, expected exactly one; write {family}({arguments}), or log_scale=... "
            "for a logarithm"
        )
    if not isinstance(log_scale, Unset):
        return log_scale
    if isinstance(scale, int | float):
        if scale <= 0:
            raise ValueError(
                f"{family}: scale is {scale}, expected a positive number; give a logarithm as log_scale=..."
            )
        return math.log(scale)
    return jnp.log(scale)  # type: ignore[arg-type]


def set_fields(distribution: BaseDistribution, **fields: object) -> None:
    """Set the fields of a frozen record, in its constructor."""
    for name, value in fields.items():
        object.__setattr__(distribution, name, value)


def set_location_scale(
    distribution: BaseDistribution,
    loc: ArrayLike,
    scale: ArrayLike | Unset,
    log_scale: ArrayLike | Unset,
    **fields: object,
) -> None:
    """Set ``loc`` and ``log_scale`` of one shape, and further fields, in the constructor of a location-scale family.

    Raises: ValueError if the shapes disagree, or unless exactly one of ``scale`` and ``log_scale`` is given.
    """
    log_scale = resolve_log_scale(type(distribution).__name__, scale, log_scale)
    set_fields(distribution, loc=loc, log_scale=log_scale, **fields)
    match(distribution, "loc", "log_scale")


class LocationScale(Elementwise):
    """Symmetric distributions of independent elements with fields ``loc`` and ``log_scale``."""

    loc: jax.Array
    log_scale: jax.Array

    @property
    def scale(self) -> jax.Array:
        """exp(log_scale), elementwise."""
        return jnp.exp(jnp.asarray(self.log_scale))

    @property
    def mean(self) -> jax.Array:
        """The location."""
        return self.loc

    @property
    def mode(self) -> jax.Array:
        """The location."""
        return self.loc
