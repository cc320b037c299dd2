"""Initial parameters of a whole network in one draw.

Every kernel starts as an array that holds its standard deviation, and ``draw_parameters`` draws all of them at once. One draw
compiles in a fraction of the time that one draw per kernel takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree

if TYPE_CHECKING:
    from jax.nn.initializers import Initializer
    from jax.typing import DTypeLike

CUT = 2.0  # standard deviations at which the normal distribution is truncated
CUT_SCALE = 0.87962566  # standard deviation of the standard normal truncated there


def draw_parameters(key: jax.Array, deviations: PyTree) -> PyTree:
    """Draw arrays of the given standard deviations, entry by entry, from a normal distribution truncated at two of them.

    Example:
      >>> params = draw_parameters(jax.random.key(0), {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)})
      >>> bool(jnp.all(params["bias"] == 0)), params["kernel"].shape
      (True, (2, 3))
    """
    leaves, tree = jax.tree.flatten(deviations)
    stops = np.cumsum([leaf.size for leaf in leaves])
    noise = jax.random.truncated_normal(key, -CUT, CUT, (int(stops[-1]),)) / CUT_SCALE
    parts = [noise[stop - leaf.size : stop] for stop, leaf in zip(stops, leaves, strict=True)]
    return jax.tree.unflatten(tree, [leaf * part.reshape(leaf.shape) for leaf, part in zip(leaves, parts, strict=True)])


def fan_in_deviation(scale: float = 1.0) -> Initializer:
    """Initializer that fills a kernel [..., features] with the standard deviation sqrt(scale / fan-in) of its entries.

    Example:
      >>> fan_in_deviation()(jax.random.key(0), (4, 2))
      Array([[0.5, 0.5],
             [0.5, 0.5],
             [0.5, 0.5],
             [0.5, 0.5]], dtype=float32)
    """

    def init(
        key: jax.Array, shape: Sequence[int], dtype: DTypeLike | None = None, out_sharding: object = None
    ) -> jax.Array:
        fan_in = math.prod(shape[:-1])
        return jnp.full(shape, math.sqrt(scale / fan_in), jnp.float32 if dtype is None else dtype)

    return init
