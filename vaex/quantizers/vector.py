"""Vector quantization with one codebook, with several in a row, and with one per group of channels."""

from __future__ import annotations

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from vaex.ops.arrays import lift, narrow
from vaex.quantizers._common import (
    Quantized,
    check_choice,
    check_codebook,
    check_codebooks,
    check_indices,
    check_last_axis,
    check_vectors,
)
from vaex.quantizers.gradients import codebook_loss, commitment_loss, rotation_trick, straight_through
from vaex.quantizers.nearest import lookup, nearest_code

Distance = Literal["euclidean", "cosine"]
Gradient = Literal["straight_through", "rotation"]
_GRADIENTS = {"straight_through": straight_through, "rotation": rotation_trick}


def vector_quantize(
    codebook: jax.Array, z: jax.Array, *, distance: Distance = "euclidean", gradient: Gradient = "straight_through"
) -> Quantized:
    r"""Replace each vector by its nearest code.

    Args:
      codebook: [k, d].
      z: [..., d].
      distance: as in ``nearest_code``. ``cosine`` changes the choice alone, not codes and losses: put both arguments through
        ``unit_norm`` first for the quantizer of Yu et al. 2022.
      gradient: how it passes from the codes to z: ``straight_through`` or by the ``rotation_trick``.
    Returns: ``Quantized`` with indices [...]. The codes pass no gradient to the codebook: ``codebook_loss`` does, or
      ``update_codebook`` moves it.
    Raises: ValueError if the shapes disagree or an option is unknown.
    Example:
      >>> quantized = vector_quantize(jnp.eye(2), jnp.array([[1.0, 0.5], [0.0, 3.0]]))
      >>> print(quantized.indices, quantized.commitment_loss)
      [0 1] [0.25 4.  ]

    References: van den Oord, Vinyals & Kavukcuoglu 2017, eqs. 1-3; Fifty et al. 2025 (rotation).
    """
    check_choice("vector_quantize", "gradient", gradient, tuple(_GRADIENTS))
    z, codebook = jnp.asarray(z), jnp.asarray(codebook)
    check_vectors("vector_quantize", z)
    check_codebook("vector_quantize", codebook, z.shape[-1])
    indices = nearest_code(codebook, z, distance=distance)
    codes = lookup(codebook, indices)
    return Quantized(_GRADIENTS[gradient](z, codes), indices, commitment_loss(z, codes), codebook_loss(z, codes))


def residual_quantize(
    codebooks: jax.Array,
    z: jax.Array,
    *,
    distance: Distance = "euclidean",
    gradient: Gradient = "straight_through",
    stages: jax.Array | None = None,
) -> Quantized:
    r"""Quantize by several codebooks in a row, each for the remainder of the codebooks before.

    :math:`r_1 = z,\; r_{s+1} = r_s - c_s`, where :math:`c_s` is the code of the s-th codebook nearest to :math:`r_s`; the result is
    :math:`\sum_s c_s`.

    Args:
      codebooks: [q, k, d].
      z: [..., d].
      distance: as in ``nearest_code``.
      gradient: from the sum of the codes to z, as in ``vector_quantize``.
      stages: [...], integers from 0 to q: how many of the first codebooks each vector has, for quantizer dropout; None is all.
    Returns: ``Quantized`` with indices [..., q], -1 where a codebook is left out; the losses are summed over the stages, each
      between the stage's remainder and its code. The commitment loss treats earlier codes as constants.
    Raises: ValueError if the shapes disagree or an option is unknown.
    Example:
      >>> quantized = residual_quantize(jnp.array([[[1.0], [5.0]], [[0.0], [0.25]]]), jnp.array([1.2]))
      >>> print(quantized.codes, quantized.indices)
      [1.25] [0 1]

    References: Zeghidour et al. 2021, algorithm 1 and section III.C (dropout); Lee et al. 2022.
    """
    check_choice("residual_quantize", "gradient", gradient, tuple(_GRADIENTS))
    z, codebooks = jnp.asarray(z), jnp.asarray(codebooks)
    check_vectors("residual_quantize", z)
    check_codebooks("residual_quantize", codebooks, "stage", z.shape[-1])
    if stages is not None:
        return _residual_of_first(codebooks, z, jnp.asarray(stages), distance, gradient)

    def stage(remainder: jax.Array, codebook: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        indices = nearest_code(codebook, remainder, distance=distance)
        codes = lookup(codebook, indices)
        losses = commitment_loss(remainder, codes), codebook_loss(remainder, codes)
        return remainder - jax.lax.stop_gradient(codes), (indices, *losses)

    lifted, books = lift(z, codebooks)
    _, (indices, commitment, book) = jax.lax.scan(stage, lifted, books)
    indices = jnp.moveaxis(indices, 0, -1)
    codes = _GRADIENTS[gradient](z, residual_lookup(books, indices))
    return Quantized(codes, indices, jnp.sum(commitment, axis=0), jnp.sum(book, axis=0))


def _residual_of_first(
    codebooks: jax.Array, z: jax.Array, stages: jax.Array, distance: Distance, gradient: Gradient
) -> Quantized:
    """``residual_quantize`` by the first ``stages`` of the codebooks, a number for each vector."""
    check_indices("residual_quantize", stages, z.shape[:-1])

    def stage(
        carry: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, ...]]:
        (remainder, total), (codebook, place) = carry, inputs
        used = place < stages
        indices = nearest_code(codebook, remainder, distance=distance)
        codes = lookup(codebook, indices)
        losses = (jnp.where(used, loss(remainder, codes), 0) for loss in (commitment_loss, codebook_loss))
        added = jnp.where(used[..., None], jax.lax.stop_gradient(codes), 0)
        return (remainder - added, total + added), (jnp.where(used, indices, -1), *losses)

    lifted, books = lift(z, codebooks)
    begun = lifted, jnp.zeros_like(lifted)
    (_, total), (indices, commitment, book) = jax.lax.scan(stage, begun, (books, jnp.arange(codebooks.shape[0])))
    codes = _GRADIENTS[gradient](z, narrow(total, z))
    return Quantized(codes, jnp.moveaxis(indices, 0, -1), jnp.sum(commitment, axis=0), jnp.sum(book, axis=0))


def residual_lookup(codebooks: jax.Array, indices: jax.Array) -> jax.Array:
    """Return the sum of the stages' codes.

    Args:
      codebooks: [q, k, d]; the first few of a row of codebooks, with as many indices, give a coarser result.
      indices: [..., q], integers.
    Returns: [..., d], in the codebooks' dtype.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> residual_lookup(jnp.array([[[1.0], [5.0]], [[0.0], [0.25]]]), jnp.array([0, 1]))
      Array([1.25], dtype=float32)
    """
    codebooks, indices = jnp.asarray(codebooks), jnp.asarray(indices)
    check_codebooks("residual_lookup", codebooks, "stage")
    check_last_axis("residual_lookup", indices, codebooks.shape[0], "stage")
    codes = jax.vmap(lookup, in_axes=(0, -1))(lift(codebooks)[0], indices)
    return narrow(jnp.sum(codes, axis=0), codebooks)


def residual_inputs(codebooks: jax.Array, z: jax.Array, indices: jax.Array) -> jax.Array:
    """Return the remainder that each stage of ``residual_quantize`` quantized, to update its codebook by ``update_codebook``.

    Args:
      codebooks: [q, k, d].
      z: [..., d].
      indices: [..., q], those that ``residual_quantize`` gave; where one is -1 nothing is subtracted.
    Returns: [q, ..., d], stages first, so that ``jax.vmap(update_codebook)`` updates a stack of states; float32 or wider,
      without a gradient.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> codebooks = jnp.array([[[1.0], [5.0]], [[0.0], [0.25]]])
      >>> print(residual_inputs(codebooks, jnp.array([1.125]), jnp.array([0, 1])))
      [[1.125]
       [0.125]]
    """
    z, codebooks, indices = jax.lax.stop_gradient((jnp.asarray(z), jnp.asarray(codebooks), jnp.asarray(indices)))
    check_vectors("residual_inputs", z)
    check_codebooks("residual_inputs", codebooks, "stage", z.shape[-1])
    check_indices("residual_inputs", indices, (*z.shape[:-1], codebooks.shape[0]))

    def stage(remainder: jax.Array, book: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        codebook, chosen = book
        return remainder - jnp.where(chosen[..., None] == -1, 0, lookup(codebook, chosen)), remainder

    lifted, books = lift(z, codebooks)
    return jax.lax.scan(stage, lifted, (books, jnp.moveaxis(indices, -1, 0)))[1]


def grouped_quantize(
    codebooks: jax.Array, z: jax.Array, *, distance: Distance = "euclidean", gradient: Gradient = "straight_through"
) -> Quantized:
    """Split channels into groups of neighbours, each quantized by a codebook of its own.

    Args:
      codebooks: [q, k, d / q].
      z: [..., d].
      distance: as in ``nearest_code``, within a group.
      gradient: as in ``vector_quantize``, within a group.
    Returns: ``Quantized`` with indices [..., q]; the losses are summed over the groups.
    Raises: ValueError if the shapes disagree or an option is unknown.
    Example:
      >>> codebooks = jnp.array([[[0.0], [1.0]], [[0.0], [10.0]]])
      >>> print(*grouped_quantize(codebooks, jnp.array([0.75, 8.0])))
      [ 1. 10.] [1 1] 4.0625 4.0625

    References: Jegou, Douze & Schmid 2011 (product quantization); Baevski, Schneider & Auli 2020, section 3.3.
    """
    z, codebooks = jnp.asarray(z), jnp.asarray(codebooks)
    check_vectors("grouped_quantize", z)
    check_codebooks("grouped_quantize", codebooks, "group")
    groups, _, width = codebooks.shape
    if z.shape[-1] != groups * width:
        raise ValueError(
            f"grouped_quantize: z has shape {z.shape}, expected [..., {groups * width}]: codebooks of shape {codebooks.shape} "
            f"serve {groups} groups of {width} channels; give codebooks [q, k, d / q]"
        )
    split = jnp.reshape(z, (*z.shape[:-1], groups, width))
    each = jax.vmap(
        partial(vector_quantize, distance=distance, gradient=gradient),
        in_axes=(0, -2),
        out_axes=Quantized(codes=-2, indices=-1, commitment_loss=-1, codebook_loss=-1),  # type: ignore[arg-type]
    )(codebooks, split)
    losses = jnp.sum(each.commitment_loss, axis=-1), jnp.sum(each.codebook_loss, axis=-1)
    return Quantized(jnp.reshape(each.codes, z.shape), each.indices, *losses)


def grouped_lookup(codebooks: jax.Array, indices: jax.Array) -> jax.Array:
    """Concatenate the groups' codes.

    Args:
      codebooks: [q, k, d / q].
      indices: [..., q], integers.
    Returns: [..., d], in the codebooks' dtype.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> grouped_lookup(jnp.array([[[0.0], [1.0]], [[0.0], [10.0]]]), jnp.array([0, 1]))
      Array([ 0., 10.], dtype=float32)
    """
    codebooks, indices = jnp.asarray(codebooks), jnp.asarray(indices)
    check_codebooks("grouped_lookup", codebooks, "group")
    check_last_axis("grouped_lookup", indices, codebooks.shape[0], "group")
    codes = jax.vmap(lookup, in_axes=(0, -1), out_axes=-2)(codebooks, indices)
    return jnp.reshape(codes, (*indices.shape[:-1], -1))
