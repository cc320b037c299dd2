"""Supports: where a parameter lives, and a map onto it from an unconstrained vector, with its log-determinant.

A support is a frozen, hashable record with the shape of its parameter. A pytree of them declares the parameters of a
log-density; ``Space`` maps one vector of real numbers onto all of them. Densities on the simplex and of Cholesky factors are
with respect to their free entries: all but the last, and those below the diagonal.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp

from vaex.errors import UserError

Parameters: TypeAlias = Any  # a pytree of arrays


@runtime_checkable
class Support(Protocol):
    """Set that a parameter lives in; hashable, as it is static under jit."""

    @property
    def size(self) -> int:
        """Length of the unconstrained vector."""
        ...

    def constrain(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map z [size] to the parameter; also return the log-determinant, a scalar."""
        ...

    def unconstrain(self, value: jax.Array) -> jax.Array:
        """Map a parameter back to z [size]."""
        ...


@dataclasses.dataclass(frozen=True)
class _Elementwise:
    shape: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Real(_Elementwise):
    """All real numbers; the map is the identity. Made by ``real``."""

    def constrain(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Reshape z."""
        return z.reshape(self.shape), jnp.zeros((), z.dtype)

    def unconstrain(self, value: jax.Array) -> jax.Array:
        """Flatten the value."""
        return jnp.reshape(value, -1)


class Positive(_Elementwise):
    """Positive numbers, by the exponential. Made by ``positive``."""

    def constrain(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """exp(z)."""
        return jnp.exp(z).reshape(self.shape), jnp.sum(z)

    def unconstrain(self, value: jax.Array) -> jax.Array:
        """log(value)."""
        return jnp.log(value).reshape(-1)


@dataclasses.dataclass(frozen=True)
class Interval(_Elementwise):
    """Numbers between two bounds, by the logistic function. Made by ``interval``."""

    low: float = 0.0
    high: float = 1.0

    def constrain(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return low + (high - low) sigmoid(z), kept off the bounds by a rounding error."""
        limits = jnp.finfo(z.dtype)
        share = jnp.clip(jax.nn.sigmoid(z), limits.tiny, 1.0 - limits.eps)
        log_det = jnp.sum(jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z)) + self.size * math.log(self.high - self.low)
        return (self.low + (self.high - self.low) * share).reshape(self.shape), log_det

    def unconstrain(self, value: jax.Array) -> jax.Array:
        """Log of the ratio of the distances to the bounds."""
        return (jnp.log(value - self.low) - jnp.log(self.high - value)).reshape(-1)


@dataclasses.dataclass(frozen=True)
class Simplex:
    """Vectors of positive numbers that sum to 1, by breaking a stick; z = 0 is the centre. Made by ``simplex``."""

    length: int

    @property
    def size(self) -> int:
        """length - 1."""
        return self.length - 1

    def _offsets(self) -> jax.Array:
        return jnp.log(jnp.arange(self.length - 1, 0, -1.0))

    def constrain(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Break a share sigmoid(z_k) off what is left, for each k."""
        logits = z - self._offsets().astype(z.dtype)
        log_share, log_kept = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
        log_left = jnp.concatenate([jnp.zeros(1, z.dtype), jnp.cumsum(log_kept)])
        value = jnp.exp(jnp.append(log_share + log_left[:-1], log_left[-1]))
        return value, jnp.sum(log_share + log_kept + log_left[:-1])

    def unconstrain(self, value: jax.Array) -> jax.Array:
        """Log odds of each share."""
        left = jnp.cumsum(value[::-1])[::-1][1:]  # after each piece was broken off
        return jnp.log(value[:-1]) - jnp.log(left) + self._offsets().astype(value.dtype)


@dataclasses.dataclass(frozen=True)
class Ordered:
    """Vectors whose entries rise. Made by ``ordered``."""

    length: int

    @property
    def size(self) -> int:
        """The length."""
        return self.length

    def constrain(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """z_1, then exponentials added one by one."""
        return jnp.cumsum(jnp.append(z[:1], jnp.exp(z[1:]))), jnp.sum(z[1:])

    def unconstrain(self, value: jax.Array) -> jax.Array:
        """First entry, and logs of the differences."""
        return jnp.append(value[:1], jnp.log(jnp.diff(value)))


@dataclasses.dataclass(frozen=True)
class CorrelationCholesky:
    """Lower Cholesky factors [d, d] of correlation matrices, by partial correlations. Made by ``correlation_cholesky``.

    References: Lewandowski, Kurowicka & Joe 2009, section 2; Stan reference manual, Cholesky factors of correlation matrices.
    """

    dimension: int

    @property
    def size(self) -> int:
        """d (d - 1) / 2."""
        return self.dimension * (self.dimension - 1) // 2

    def constrain(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """tanh(z) as partial correlations, row by row."""
        d, rows = self.dimension, jnp.tril_indices(self.dimension, -1)
        partial = jnp.zeros((d, d), z.dtype).at[rows].set(jnp.tanh(z))
        log_kept = jnp.zeros((d, d), z.dtype).at[rows].set(2.0 * (math.log(2.0) - z - jax.nn.softplus(-2.0 * z)))
        log_left = jnp.cumsum(log_kept, axis=1) - log_kept  # log of 1 - sum of squares before the entry
        tril = jnp.tril((partial + jnp.eye(d, dtype=z.dtype)) * jnp.exp(0.5 * log_left))
        return tril, jnp.sum(log_kept) + 0.5 * jnp.sum(jnp.tril(log_left, -1))

    def unconstrain(self, value: jax.Array) -> jax.Array:
        """Inverse hyperbolic tangents of the partial correlations."""
        squares = jnp.square(value)
        left = jnp.cumsum(squares[:, ::-1], axis=1)[:, ::-1]  # 1 - sum of squares before the entry
        partial = value / jnp.sqrt(jnp.where(left > 0, left, 1.0))
        return jnp.arctanh(partial[jnp.tril_indices(self.dimension, -1)])


def real(*shape: int) -> Real:
    """Support of unbounded parameters of a shape; ``real()`` is a scalar."""
    return Real(_checked("real", shape))


def positive(*shape: int) -> Positive:
    """Support of positive parameters of a shape."""
    return Positive(_checked("positive", shape))


def interval(low: float, high: float, *shape: int) -> Interval:
    """Support of parameters between two finite bounds.

    Raises: UserError unless low < high, both finite.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(
            f"interval: bounds are {low} and {high}, expected two finite numbers that rise; use positive or real"
        )
    return Interval(_checked("interval", shape), float(low), float(high))


def simplex(length: int) -> Simplex:
    """Support of probability vectors [length].

    Raises: UserError for a length below 2.
    """
    return Simplex(*_checked("simplex", (length,), at_least=2))


def ordered(length: int) -> Ordered:
    """Support of rising vectors [length]."""
    return Ordered(*_checked("ordered", (length,)))


def correlation_cholesky(dimension: int) -> CorrelationCholesky:
    """Support of Cholesky factors [d, d] of correlation matrices.

    Raises: UserError for a dimension below 2.
    """
    return CorrelationCholesky(*_checked("correlation_cholesky", (dimension,), at_least=2))


def _checked(name: str, shape: tuple[int, ...], at_least: int = 1) -> tuple[int, ...]:
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= at_least for n in shape):
        raise UserError(
            f"{name}: sizes are {shape}, expected ints of at least {at_least}; write real(8) for a vector of 8"
        )
    return shape


@dataclasses.dataclass(frozen=True)
class Space:
    """Parameters of a log-density as one unconstrained vector [size]; made by ``space``."""

    supports: tuple[Support, ...]
    structure: Any  # a PyTreeDef

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(support.size for support in self.supports)

    def constrain(self, z: jax.Array) -> tuple[Parameters, jax.Array]:
        """Map z [size] to the pytree of parameters; also return the log-determinant, a scalar."""
        ends = [sum(support.size for support in self.supports[:n]) for n in range(1, len(self.supports))]
        pairs = [support.constrain(part) for support, part in zip(self.supports, jnp.split(z, ends), strict=True)]
        return self.structure.unflatten([value for value, _ in pairs]), sum(
            (log_det for _, log_det in pairs), jnp.zeros((), z.dtype)
        )

    def unconstrain(self, parameters: Parameters) -> jax.Array:
        """Map a pytree of parameters back to z [size].

        Raises: ValueError if its structure is another.
        """
        leaves = self.structure.flatten_up_to(parameters)
        parts = [support.unconstrain(jnp.asarray(leaf)) for support, leaf in zip(self.supports, leaves, strict=True)]
        return jnp.concatenate(parts)


def space(supports: object) -> Space:
    """Collect a pytree of supports; an int d stands for ``real(d)``.

    Args:
      supports: a support, or a dictionary, tuple, list ... of supports; or an int; or a ``Space``.
    Raises: UserError if a leaf is no support, or there is none.
    Example:
      >>> parameters = space({"scale": positive(), "weights": simplex(3)})
      >>> values, log_det = parameters.constrain(jnp.zeros(parameters.size))
      >>> print(values["scale"], jnp.round(values["weights"], 3))
      1.0 [0.333 0.333 0.333]
    """
    if isinstance(supports, Space):
        return supports
    if isinstance(supports, int) and not isinstance(supports, bool):
        supports = real(supports)
    leaves, structure = jax.tree.flatten(supports, is_leaf=lambda leaf: isinstance(leaf, Support))
    wrong = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Support)]
    if wrong or not leaves:
        raise UserError(
            f"space: got {', '.join(wrong) or 'an empty tree'}, expected a pytree of supports, such as "
            '{"mean": real(3), "scale": positive()}'
        )
    return Space(tuple(leaves), structure)
