"""What the quantizers share: the record of results, checks of arguments, flat batches, sums over devices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

AxisName = str | tuple[str, ...]
BLOCK = 2**14  # codes that vectors are compared with at a time
EXACT = jax.lax.Precision.HIGHEST  # the default of accelerators, TF32 or bfloat16, confuses codes that are close


class Quantized(NamedTuple):
    """Result of quantizing vectors [..., d].

    ``codes``: [..., d], the decoder's input, in the dtype of the vectors; gradients pass to the vectors.
    ``indices``: [...] int32, or [..., q] where several codebooks take part.
    ``commitment_loss``: [...], pulls vectors to their codes: squared distance summed over d, float32 or wider. Its
    gradient reaches the vectors only.
    ``codebook_loss``: [...], pulls codes to their vectors: the same value, with the gradient to the codebook only.
    Quantizers that lack one of the two give zeros.
    """

    codes: jax.Array
    indices: jax.Array
    commitment_loss: jax.Array
    codebook_loss: jax.Array


def check_vectors(name: str, z: jax.Array, argument: str = "z") -> None:
    """Raise ValueError unless there is at least one axis, the last of which holds the dimensions of a vector."""
    if z.ndim < 1 or z.shape[-1] == 0:
        raise ValueError(
            f"{name}: {argument} has shape {z.shape}, expected [..., d] with d >= 1; the last axis holds a vector's dimensions"
        )


def check_same_shape(name: str, z: jax.Array, codes: jax.Array) -> None:
    """Raise ValueError unless there is one code per vector: broadcasting would hide invalid input."""
    check_vectors(name, z)
    if z.shape != codes.shape:
        raise ValueError(f"{name}: codes has shape {codes.shape}, expected {z.shape} like z; give one code per vector")


def check_codebook(name: str, codebook: jax.Array, dimensions: int | None = None) -> None:
    """Raise ValueError unless the codebook is [k, d], with the d of the vectors."""
    width = "d" if dimensions is None else str(dimensions)
    if codebook.ndim != 2 or 0 in codebook.shape or dimensions not in (None, codebook.shape[1]):
        raise ValueError(
            f"{name}: codebook has shape {codebook.shape}, expected [k, {width}]; one code per row, as long as a vector"
        )


def check_codebooks(name: str, codebooks: jax.Array, what: str, dimensions: int | None = None) -> None:
    """Raise ValueError unless codebooks are [q, k, d], with the d of the vectors that each codebook quantizes."""
    width = "d" if dimensions is None else str(dimensions)
    if codebooks.ndim != 3 or 0 in codebooks.shape or dimensions not in (None, codebooks.shape[2]):
        raise ValueError(
            f"{name}: codebooks has shape {codebooks.shape}, expected [{what}, k, {width}]; stack one codebook per {what}"
        )


def check_indices(name: str, indices: jax.Array, shape: tuple[int, ...] | None = None) -> None:
    """Raise ValueError unless indices are integers, of the given shape where it is known."""
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise ValueError(f"{name}: indices has dtype {indices.dtype}, expected integers; cast with astype('int32')")
    if shape is not None and indices.shape != shape:
        raise ValueError(f"{name}: indices has shape {indices.shape}, expected {shape}; one index per vector")


def check_last_axis(name: str, indices: jax.Array, length: int, what: str) -> None:
    """Raise ValueError unless indices are integers [..., length]."""
    check_indices(name, indices)
    if indices.ndim < 1 or indices.shape[-1] != length:
        raise ValueError(
            f"{name}: indices has shape {indices.shape}, expected [..., {length}]; one index per {what} on the last axis"
        )


def check_choice(name: str, argument: str, value: object, known: Sequence[str]) -> None:
    """Raise ValueError unless the value is one of those known."""
    if value not in known:
        raise ValueError(f"{name}: {argument} is {value!r}, expected one of these: {', '.join(known)}")


def check_count(name: str, argument: str, value: object, least: int = 1) -> None:
    """Raise ValueError unless a number that fixes a shape is an int of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: {argument} is {value!r}, expected an int, at least {least}; it is static under jit")


def weights_of(name: str, mask: ArrayLike | None, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Return the mask as flat weights [n]; ones without a mask."""
    if mask is None:
        return jnp.ones(math.prod(shape), dtype)
    mask = jnp.asarray(mask)
    if mask.shape != shape:
        raise ValueError(
            f"{name}: mask has shape {mask.shape}, expected {shape}; 1 for each vector that counts, else 0"
        )
    return jnp.reshape(mask, -1).astype(dtype)


def flat_batch(name: str, z: jax.Array, mask: ArrayLike | None) -> tuple[jax.Array, jax.Array]:
    """Return vectors [n, d] without a gradient, and weights [n]. Masked vectors are zero: padding may hold NaN."""
    check_vectors(name, z)
    weights = weights_of(name, mask, z.shape[:-1], z.dtype)
    flat = jax.lax.stop_gradient(jnp.reshape(z, (weights.shape[0], z.shape[-1])))
    return (flat if mask is None else jnp.where(weights[:, None] > 0, flat, 0)), weights


def code_sums(
    flat: jax.Array, indices: jax.Array, weights: jax.Array, num_codes: int, axis_name: AxisName | None = None
) -> tuple[jax.Array, jax.Array]:
    """Return how many vectors chose each code, [k], and their sum, [k, d], over all devices.

    A product with one-hot rows: a sharded batch is summed where it lies, and accelerators add in a fixed order, which
    scattered additions do not. Rows are of ``BLOCK`` codes at most.
    """

    def of_block(start: ArrayLike, size: int) -> tuple[jax.Array, jax.Array]:
        chosen = jax.nn.one_hot(indices - start, size, dtype=flat.dtype) * weights[:, None]
        return jnp.sum(chosen, axis=0), jnp.matmul(chosen.T, flat, precision=EXACT)

    if num_codes <= BLOCK:
        counts, sums = of_block(0, num_codes)
    else:
        counts, sums = jax.lax.map(lambda start: of_block(start, BLOCK), jnp.arange(0, num_codes, BLOCK))
        counts, sums = jnp.reshape(counts, -1)[:num_codes], jnp.reshape(sums, (-1, flat.shape[-1]))[:num_codes]
    return total(counts, axis_name), total(sums, axis_name)


def total(x: jax.Array, axis_name: AxisName | None) -> jax.Array:
    """Sum over the named axis of devices, if there is one."""
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def unit(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return x / |x| and |x| with the axis kept; a zero vector stays zero. Neither the squares nor the gradient overflow."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    nonzero = largest > jnp.finfo(x.dtype).tiny
    scaled = x / jnp.where(nonzero, largest, 1)
    length = jnp.sqrt(jnp.where(nonzero, jnp.sum(jnp.square(scaled), axis=-1, keepdims=True), 1))
    return jnp.where(nonzero, scaled / length, 0), jnp.where(nonzero, largest * length, 0)
