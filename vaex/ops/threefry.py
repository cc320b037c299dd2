"""Keys whose random numbers are computed in straight-line code, for compiled steps on CPU.

There jax computes its threefry numbers in a loop of five turns, each a dozen kernels, at every draw and every fold: of the step of
a tiny network that binarises its batch a quarter. Straight-line code, which jax itself uses on accelerators, is one kernel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend import random as extend

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)
STOCK = "threefry2x32"


def unrolled(key: jax.Array) -> jax.Array:
    """A key from which every ``jax.random`` function draws the same numbers as from ``key``, without loops.

    For draws in compiled code that are elementwise (normal, uniform, bits, ...) and for splits. ``jax.random.poisson`` and
    ``gamma`` want jax's own keys. Not for keys that are kept: a checkpoint would name this implementation.

    Args:
      key: keys of jax's default implementation; others, and old keys of two integers, come back as they are.
    Raises: TypeError for what is no key.
    Source: Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3 (threefry with 20 rounds).
    Example:
      >>> key = jax.random.key(3)
      >>> bool(jnp.all(jax.random.normal(unrolled(key), (4,)) == jax.random.normal(key, (4,))))
      True
    """
    if not _is_stock("unrolled", key):
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_UNROLLED)


def fold_in(key: jax.Array, data: jax.Array | int) -> jax.Array:
    """``jax.random.fold_in(key, data)``, the same key, computed without loops.

    Example:
      >>> key = jax.random.key(3)
      >>> bool(fold_in(key, 7) == jax.random.fold_in(key, 7))
      True
    """
    if not _is_stock("fold_in", key):
        return jax.random.fold_in(key, data)
    folded = jax.random.fold_in(unrolled(key), data)
    return jax.random.wrap_key_data(jax.random.key_data(folded), impl=STOCK)


def _is_stock(name: str, key: jax.Array) -> bool:
    """Whether its numbers are those that ``_counted`` makes; TypeError, which names the function, for what is no key."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32):
        raise TypeError(f"{name}: got {key!r}, expected a key; make one with jax.random.key(seed)")
    # without "partitionable" jax spreads its counters over an array in another way
    partitionable = bool(jax.config.jax_threefry_partitionable)  # type: ignore[attr-defined]
    return dtype != jnp.uint32 and str(jax.random.key_impl(key)) == STOCK and partitionable


def _hash(key: jax.Array, high: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry's two words for every counter; ``key`` [2], the counter's halves of any shape."""
    words = (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    a, b = high + words[0], low + words[1]
    for turn in range(5):
        for rotation in ROTATIONS[turn % 2]:
            a = a + b
            b = a ^ (b << np.uint32(rotation) | b >> np.uint32(32 - rotation))
        a = a + words[(turn + 1) % 3]
        b = b + words[(turn + 2) % 3] + np.uint32(turn + 1)
    return a, b


def _counted(key: jax.Array, shape: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """The words of the counters 0, 1, ... in an array of this shape, each element's made of its place alone."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    places = [lax.broadcasted_iota(np.uint32, shape, axis) * np.uint32(stride) for axis, stride in enumerate(strides)]
    low = sum(places, jnp.zeros(shape, np.uint32))
    return _hash(key, jnp.zeros_like(low), low)


def _seed(seed: jax.Array) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed, impl=STOCK))


def _split(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    return jnp.stack(_counted(key, tuple(shape)), axis=-1)


def _fold_in(key: jax.Array, data: jax.Array | int) -> jax.Array:
    low = jnp.asarray(data).astype(np.uint32)
    return jnp.stack(_hash(key, jnp.zeros_like(low), low))


def _random_bits(key: jax.Array, bit_width: int, shape: Sequence[int]) -> jax.Array:
    shape = tuple(shape)
    if math.prod(shape) >= 1 << 32:
        return jax.random.bits(jax.random.wrap_key_data(key, impl=STOCK), shape, f"uint{bit_width}")
    draw = functools.partial(_bits, bit_width=bit_width, shape=shape)
    return lax.platform_dependent(key, cpu=functools.partial(_apart, draw), default=draw)


@functools.partial(jax.jit, static_argnames=("bit_width", "shape"))
def _bits(key: jax.Array, *, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    high, low = _counted(key, shape)
    if bit_width == 64:
        return high.astype(jnp.uint64) << np.uint64(32) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{bit_width}")


def _apart(draw: Callable[[jax.Array], jax.Array], key: jax.Array) -> jax.Array:
    """In a function of its own, that XLA does not inline: else every kernel that reads the numbers draws them again."""
    with set_xla_metadata(inlineable="false"):
        return draw(key)


_UNROLLED = extend.define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_unrolled",
    tag="fru",
)
