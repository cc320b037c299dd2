"""Networks that compute in bfloat16, with parameters and outputs in float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vaex.core import PyTree
from vaex.nets.protocols import Network


@dataclasses.dataclass(frozen=True)
class InBfloat16:
    """``network`` with its products and activations in bfloat16, which has the range of float32 and 8 bits of precision.

    Parameters stay float32, so that small updates are not lost, and so do their gradients and what the network returns. It is
    meant for accelerators with matrix units for bfloat16.

    Example:
      >>> from vaex.nets.mlp import MLP
      >>> network = InBfloat16(MLP((8,), 3))
      >>> variables = network.init(jax.random.key(0), jnp.zeros((2, 5)))
      >>> network.apply(variables, jnp.zeros((2, 5))).dtype, variables["params"]["output"]["kernel"].dtype
      (dtype('float32'), dtype('float32'))
    """

    network: Network

    def init(self, rngs: jax.Array, /, *inputs: jax.Array | None) -> Mapping[str, PyTree]:
        """Return the first variables, float32."""
        return self.network.init(rngs, *inputs)

    def apply(self, variables: Mapping[str, PyTree], /, *inputs: jax.Array | None) -> Any:
        """Return the network's output, float32."""
        narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (dict(variables), inputs))
        return self.network.apply(narrow[0], *narrow[1]).astype(jnp.float32)
