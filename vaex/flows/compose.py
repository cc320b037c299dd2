"""Flows one after another, and permutations to put between them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vaex.flows._base import BaseFlow, check_int
from vaex.flows.protocol import Flow, Params


@dataclasses.dataclass(frozen=True)
class Permutation(BaseFlow):
    """Reorder the coordinates: ``f(z)[..., i] = z[..., order[i]]``. It has no parameters.

    Args:
      order: each of 0..d-1 once, as a tuple.
    Raises: ValueError if ``order`` is not a permutation.
    Example:
      >>> print(*Permutation((2, 0, 1)).forward((), jnp.array([10.0, 20.0, 30.0])))
      [30. 10. 20.] 0.0

    References: Papamakarios et al. 2021, section 3.1.
    """

    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.order, tuple) or not self.order or sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"Permutation: order is {self.order!r}, expected a tuple with each of 0..d-1 once")

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Length of ``order``."""
        return len(self.order)

    def init(self, key: jax.Array) -> tuple[()]:
        """No parameters."""
        return ()

    def _forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        return z[..., np.array(self.order)], jnp.zeros((), z.dtype)

    def _inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        return value[..., np.argsort(self.order)], jnp.zeros((), value.dtype)


def reverse(dimension: int) -> Permutation:
    """Return the permutation that reverses the coordinates, to put between autoregressive or coupling layers.

    Args:
      dimension: d.
    Returns: a flow without parameters.
    Raises: ValueError if ``dimension`` is not a positive int.
    Example:
      >>> print(*reverse(3).forward((), jnp.array([10.0, 20.0, 30.0])))
      [30. 20. 10.] 0.0

    References: Kingma et al. 2016, section 4.
    """
    check_int("reverse", "dimension", dimension, 1)
    return Permutation(tuple(range(dimension - 1, -1, -1)))


@dataclasses.dataclass(frozen=True)
class Chain(BaseFlow):
    """Flows one after another, the first applied first; made by ``chain``. Its parameters are a tuple of theirs.

    Args:
      flows: flows of one dimension.
    Raises: ValueError if there are none, or their dimensions or context widths differ.
    """

    flows: tuple[Flow, ...]

    def __post_init__(self) -> None:
        if (
            not isinstance(self.flows, tuple)
            or not self.flows
            or not all(isinstance(flow, Flow) for flow in self.flows)
        ):
            raise ValueError(
                f"chain: flows are {self.flows!r}, expected one or more flows; write chain(Planar(2), Radial(2))"
            )
        if len({flow.dimension for flow in self.flows}) > 1:
            raise ValueError(
                f"chain: dimensions are {[flow.dimension for flow in self.flows]}, expected the same for all; flows keep shapes"
            )
        if len({flow.context_dim for flow in self.flows} - {0}) > 1:
            raise ValueError(
                f"chain: context_dim is {[flow.context_dim for flow in self.flows]}, expected one width beside 0; "
                "the flows of a chain share one context"
            )

    @property
    def dimension(self) -> int:  # type: ignore[override]
        """Dimension that its flows share."""
        return self.flows[0].dimension

    @property
    def context_dim(self) -> int:  # type: ignore[override]
        """Width of the context that its flows share, or 0."""
        return max(flow.context_dim for flow in self.flows)

    def init(self, key: jax.Array) -> tuple[Params, ...]:
        """Parameters of each flow, from a key for each."""
        keys = jax.random.split(key, len(self.flows))
        return tuple(flow.init(k) for flow, k in zip(self.flows, keys, strict=True))

    def with_context(self, params: Params, context: jax.Array) -> tuple[Params, ...]:
        """Add the context [..., context_dim] to the parameters of each flow that takes one.

        Args:
          params: as from ``init``.
          context: [..., context_dim].
        Returns: parameters for ``forward`` and ``inverse``.
        Raises: ValueError if no flow takes a context, or not of this width.
        """
        self._check("Chain.with_context", params, ())
        if self.context_dim == 0:
            raise ValueError("Chain.with_context: no flow of the chain takes a context; construct one with context_dim")
        pairs = zip(self.flows, params, strict=True)
        return tuple(flow.with_context(p, context) if flow.context_dim else p for flow, p in pairs)

    def _forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = jnp.zeros((), z.dtype)
        for flow, p in zip(self.flows, params, strict=True):
            z, log_det = flow.forward(p, z)
            total = total + log_det
        return z, total

    def _inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = jnp.zeros((), value.dtype)
        for flow, p in zip(self.flows[::-1], params[::-1], strict=True):
            value, log_det = flow.inverse(p, value)
            total = total + log_det
        return value, total

    def _check(self, name: str, params: Params, batch: tuple[int, ...]) -> None:
        """Check the tuple alone: each flow checks its own parameters."""
        if not isinstance(params, tuple) or len(params) != len(self.flows):
            got = f"a tuple of {len(params)}" if isinstance(params, tuple) else type(params).__name__
            raise ValueError(
                f"{name}: params are {got}, expected a tuple of {len(self.flows)}, one for each flow, as from init"
            )


def chain(*flows: Flow) -> Chain:
    """Compose flows, the first applied first.

    Args:
      flows: flows of one dimension; those that take a context share it.
    Returns: a flow whose parameters are the tuple of theirs.
    Raises: ValueError if there are none, or their dimensions or context widths differ.
    Example:
      >>> from vaex.distributions import Normal, Transformed
      >>> from vaex.flows import InverseAutoregressive
      >>> layer = InverseAutoregressive(2, hidden=(16,), context_dim=3)
      >>> flow = chain(layer, reverse(2), layer)  # the same layer twice, with parameters of their own
      >>> params = flow.with_context(flow.init(jax.random.key(0)), jnp.ones((5, 3)))
      >>> posterior = Transformed(Normal(jnp.zeros((5, 2)), 1.0), flow, params)
      >>> z, log_q = posterior.sample_and_log_prob(jax.random.key(1), (4,))
      >>> z.shape, log_q.shape
      ((4, 5, 2), (4, 5))

    References: Rezende & Mohamed 2015, eqs. 6 and 7.
    """
    return Chain(flows)
