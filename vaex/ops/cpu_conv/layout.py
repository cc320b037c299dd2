"""What the convolutions on CPU are made of: matrix products over all pixels of a batch, and the layout that suits them.

Inside, channels come first and the batch last: [channels, *image, b]. Outside, the batch comes first and channels last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

FEW = 4  # channels of what is more an image than features


def batch_is_divided() -> bool:
    """Whether XLA is to divide arrays over the devices of the mesh that ``jax.set_mesh`` has set.

    Pixels and a divided batch can't be one axis: every device would collect all of both. Where they can, products are faster
    that way: of several axes that a product sums over XLA first makes one itself, by copying.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = zip(mesh.shape.values(), mesh.axis_types, strict=True)
    return any(size > 1 and kind == jax.sharding.AxisType.Auto for size, kind in axes)


def few(channels: int) -> bool:
    """Whether arrays of so many channels are images, which lie batch first outside; those of features lie as they do inside."""
    return channels <= FEW and not batch_is_divided()


def inward(x: jax.Array) -> jax.Array:
    """[b, *image, c] -> [c, *image, b]."""
    if not few(x.shape[-1]):
        return jnp.swapaxes(x, 0, -1)
    rows = apart(_as_is, jnp.moveaxis(x, 0, -3))
    return apart(_as_is, jnp.moveaxis(rows, (-1, -3), (0, -1)))


def outward(x: jax.Array) -> jax.Array:
    """[c, *image, b] -> [b, *image, c].

    Images of few channels are made there and then, as in ``inward``: several elementwise operations use those, and XLA would make
    every pixel anew in each of them. In two steps, by way of [*image without its last axis, b, last axis, c]: one step would
    walk through memory with a stride of all pixels.
    """
    if not few(x.shape[0]):
        return jnp.swapaxes(x, 0, -1)
    rows = apart(_as_is, jnp.moveaxis(apart(_as_is, x), (0, -1), (-1, -3)))
    return apart(_as_is, jnp.moveaxis(rows, -3, 0))


def pad(x: jax.Array, pads: Sequence[tuple[int, int, int]]) -> jax.Array:
    """Zeros around the spatial axes; negative numbers crop."""
    if not any(itertools.chain(*pads)):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])


def dot(left: jax.Array, right: jax.Array, precision: Any, *, over_columns: bool = False) -> jax.Array:
    """[n, k] times [k, *columns], or the sum over the columns of [m, *columns] and [n, *columns]."""
    if batch_is_divided():
        over = tuple(range(1, left.ndim))
        numbers = ((over, over), ((), ())) if over_columns else (((1,), (0,)), ((), ()))
        wide = _accumulator(right.dtype)
        return lax.dot_general(left, right, numbers, precision=precision, preferred_element_type=wide)
    if over_columns:
        return apart(_column_product, left, right, precision)
    return apart(_row_product, left, right, precision).reshape(left.shape[0], *right.shape[1:])


def apart(product: Callable[..., jax.Array], *operands: Any) -> jax.Array:
    """The product in a function of its own, that XLA does not inline: else it merges the operands' making with their being
    one axis of columns, and finds every number's pixel by division, which makes spreading blocks six times slower.
    """
    with set_xla_metadata(inlineable="false"):
        return product(*operands)


def _accumulator(dtype: jnp.dtype) -> jnp.dtype | None:
    """Shifted results of low precision are added in float32."""
    return jnp.dtype(jnp.float32) if dtype in (jnp.bfloat16, jnp.float16) else None


@jax.jit
def _as_is(x: jax.Array) -> jax.Array:
    return x


def _as_matrix(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


@partial(jax.jit, static_argnums=2)
def _row_product(left: jax.Array, right: jax.Array, precision: Any) -> jax.Array:
    """[n, k], [k, *columns] -> [n, all columns]."""
    right, numbers = _as_matrix(right), (((1,), (0,)), ((), ()))
    return lax.dot_general(left, right, numbers, precision=precision, preferred_element_type=_accumulator(right.dtype))


@partial(jax.jit, static_argnums=2)
def _column_product(left: jax.Array, right: jax.Array, precision: Any) -> jax.Array:
    """[m, *columns], [n, *columns] -> [m, n]."""
    left, right = _as_matrix(left), _as_matrix(right)
    numbers, wide = (((1,), (1,)), ((), ())), _accumulator(right.dtype)
    return lax.dot_general(left, right, numbers, precision=precision, preferred_element_type=wide)
