"""What a flow must offer, whoever wrote it."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax

# A pytree of arrays, of the structure that a flow's ``init`` gives. Leaves may carry leading axes that broadcast to the
# batch axes of z: one map per example.
Params: TypeAlias = Any


@runtime_checkable
class Flow(Protocol):
    """Invertible map of the last axis of ``z [..., dimension]``, with parameters in a pytree.

    Static under jit: hashable, and equal to another flow of the same sizes. No base class is needed.
    """

    @property
    def dimension(self) -> int:
        """Length d of the axis that is mapped."""
        ...

    @property
    def context_dim(self) -> int:
        """Width of the features that the map also depends on; 0 for a map of z alone."""
        ...

    def init(self, key: jax.Array) -> Params:
        """Parameters near the identity."""
        ...

    def forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map z to a value.

        Args:
          params: as from ``init``.
          z: [..., dimension].
        Returns: value [..., dimension], in the common dtype of z and the parameters; log|det dvalue/dz| [...], float32 or
          wider.
        Raises: ValueError if the shapes disagree.
        """
        ...

    def inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map a value back to z.

        Args:
          params: as from ``init``.
          value: [..., dimension].
        Returns: z [..., dimension]; log|det dz/dvalue| [...], float32 or wider.
        Raises: ValueError if the shapes disagree.
        """
        ...

    def with_context(self, params: Params, context: jax.Array) -> Params:
        """Add ``context`` to the parameters, as an input of the networks beside z.

        Args:
          params: as from ``init``.
          context: [..., context_dim]; its leading axes broadcast to the batch axes of z.
        Returns: parameters for ``forward`` and ``inverse``.
        Raises: ValueError if the flow takes no context or the context has another width.
        """
        ...
