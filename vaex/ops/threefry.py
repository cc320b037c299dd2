"""Keys whose random numbers are computed in straight-line code, for compiled steps on CPU.

Use: unroll the key of a compiled step once, ``key = unrolled(fold_in(key, step))``. Whatever is split off, folded in or drawn
from it inherits the implementation, so distributions, estimators and models draw from the key that they are given;
``vaex.training`` unrolls it. Keys that are stored stay plain keys of JAX.

What it buys: on CPU JAX computes threefry in a loop of five turns, each a dozen kernels, at every draw and every fold: a quarter of
the step of a tiny network that binarises its batch. Straight-line code, which JAX itself uses on accelerators, is one kernel.

Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3 (threefry with 20 rounds).
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

from vaex.ops.platforms import on_cpu

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)
IMPLEMENTATION = "threefry2x32"  # the default of JAX


def unrolled(key: jax.Array) -> jax.Array:
    """Return a key from which ``jax.random`` draws the same numbers as from ``key``, without loops.

    For draws in compiled code that are elementwise (normal, uniform, bits, ...) and for splits. ``jax.random.poisson`` and
    ``gamma`` take only JAX's own keys. Do not store the result: a checkpoint would name this implementation.

    Args:
      key: keys of JAX's default implementation; others, and old keys of two integers, come back as they are.
    Raises: TypeError for what is not a key.
    Example:
      >>> key = jax.random.key(3)
      >>> bool(jnp.all(jax.random.normal(unrolled(key), (4,)) == jax.random.normal(key, (4,))))
      True
    """
    if not _is_default("unrolled", key):
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_UNROLLED)


def fold_in(key: jax.Array, data: jax.Array | int) -> jax.Array:
    """Return ``jax.random.fold_in(key, data)``, a plain key, computed without loops.

    Raises: TypeError for what is not a key.
    Example:
      >>> key = jax.random.key(3)
      >>> bool(fold_in(key, 7) == jax.random.fold_in(key, 7))
      True
    """
    if not _is_default("fold_in", key):
        return jax.random.fold_in(key, data)
    folded = jax.random.fold_in(unrolled(key), data)
    return jax.random.wrap_key_data(jax.random.key_data(folded), impl=IMPLEMENTATION)


def _is_default(function: str, key: jax.Array) -> bool:
    """Return whether ``_threefry_of_counters`` computes the numbers of this key; raise TypeError for what is not a key."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32):
        raise TypeError(f"{function}: got {key!r}, expected a key; make one with jax.random.key(seed)")
    # JAX assigns counters to the entries of an array in another order where threefry is not "partitionable".
    partitionable = bool(jax.config.jax_threefry_partitionable)  # type: ignore[attr-defined]
    return dtype != jnp.uint32 and str(jax.random.key_impl(key)) == IMPLEMENTATION and partitionable


def _threefry_2x32(key: jax.Array, high: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two random words for every counter; ``key`` [2], the halves of the counter of any shape."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    a, b = high + schedule[0], low + schedule[1]
    for turn in range(5):
        for rotation in ROTATIONS[turn % 2]:
            a = a + b
            b = a ^ (b << np.uint32(rotation) | b >> np.uint32(32 - rotation))
        a = a + schedule[(turn + 1) % 3]
        b = b + schedule[(turn + 2) % 3] + np.uint32(turn + 1)
    return a, b


def _threefry_of_counters(key: jax.Array, shape: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """The words of the counters 0, 1, ... in an array of this shape; the counter of an entry is its row-major position."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    positions = [
        lax.broadcasted_iota(np.uint32, shape, axis) * np.uint32(stride) for axis, stride in enumerate(strides)
    ]
    low = sum(positions, jnp.zeros(shape, np.uint32))
    return _threefry_2x32(key, jnp.zeros_like(low), low)


def _seed(seed: jax.Array) -> jax.Array:
    return jax.random.key_data(jax.random.key(seed, impl=IMPLEMENTATION))


def _split(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    return jnp.stack(_threefry_of_counters(key, tuple(shape)), axis=-1)


def _fold_in(key: jax.Array, data: jax.Array | int) -> jax.Array:
    low = jnp.asarray(data).astype(np.uint32)
    return jnp.stack(_threefry_2x32(key, jnp.zeros_like(low), low))


def _random_bits(key: jax.Array, bit_width: int, shape: Sequence[int]) -> jax.Array:
    shape = tuple(shape)
    if math.prod(shape) >= 1 << 32:  # the counters need both words
        return jax.random.bits(jax.random.wrap_key_data(key, impl=IMPLEMENTATION), shape, f"uint{bit_width}")
    draw = functools.partial(_bits, bit_width=bit_width, shape=shape)
    return on_cpu(key, cpu=functools.partial(_call_outlined, draw), default=draw)


@functools.partial(jax.jit, static_argnames=("bit_width", "shape"))
def _bits(key: jax.Array, *, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    high, low = _threefry_of_counters(key, shape)
    if bit_width == 64:
        return high.astype(jnp.uint64) << np.uint64(32) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{bit_width}")


def _call_outlined(draw: Callable[[jax.Array], jax.Array], key: jax.Array) -> jax.Array:
    """Call as a computation of its own, which XLA does not inline: else every kernel that reads the numbers draws them again."""
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
