"""A codebook that follows its vectors by moving averages instead of gradients, and the replacement of unused codes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.ops.arrays import lift
from vaex.quantizers._common import (
    AxisName,
    check_codebook,
    check_indices,
    check_vectors,
    code_sums,
    flat_batch,
    total,
)


class CodebookState(NamedTuple):
    """A codebook and its moving averages.

    ``codebook``: [k, d], the argument of ``vector_quantize``.
    ``counts``: [k], average number of vectors per batch that chose each code.
    ``sums``: [k, d], average sum of those vectors.
    """

    codebook: jax.Array
    counts: jax.Array
    sums: jax.Array


def init_codebook(codebook: jax.Array) -> CodebookState:
    """Return a state whose codes count as chosen once each, so that the first batches move them without a jump.

    Args:
      codebook: [k, d], for instance from ``kmeans_codebook``.
    Returns: the state; averages are float32 or wider, since steps of 1% are lost in bfloat16.
    Raises: ValueError if the codebook is not [k, d].
    Example:
      >>> init_codebook(jnp.zeros((2, 1))).counts
      Array([1., 1.], dtype=float32)
    """
    codebook = jnp.asarray(codebook)
    check_codebook("init_codebook", codebook)
    (sums,) = lift(codebook)
    return CodebookState(codebook, jnp.ones(codebook.shape[0], sums.dtype), jnp.array(sums))


def update_codebook(
    state: CodebookState,
    z: jax.Array,
    indices: jax.Array,
    *,
    decay: ArrayLike = 0.99,
    smoothing: ArrayLike = 1e-5,
    mask: jax.Array | None = None,
    axis_name: AxisName | None = None,
) -> CodebookState:
    r"""Take one step of the moving averages, after which each code is the average of the vectors that chose it.

    :math:`N_i \leftarrow \gamma N_i + (1-\gamma) n_i` and :math:`m_i \leftarrow \gamma m_i + (1-\gamma)\sum_{j: a_j = i} z_j`, then
    :math:`c_i = m_i / \tilde N_i` with the counts smoothed by Laplace's rule,
    :math:`\tilde N_i = \frac{N_i + \epsilon}{N + k\epsilon} N` where :math:`N = \sum_i N_i`. A code that is no longer chosen stays
    where it is until its count comes down to epsilon, then shrinks to zero: ``replace_dead_codes`` before that.

    On global arrays the sums run over the whole batch however it is sharded; inside ``shard_map`` or ``pmap`` name the axis.

    Args:
      state: the averages so far.
      z: [..., d], vectors of the whole batch (of this device, with ``axis_name``); constants here.
      indices: [...], the code of each; one outside 0 to k - 1 counts for none.
      decay: gamma in [0, 1]; may be traced.
      smoothing: epsilon; may be traced. At 0 a code with count 0 stays.
      mask: [...], 1 for the vectors that count, 0 for padding.
      axis_name: the mapped axis (or axes) that the batch is split over; the state is the same on all its devices.
    Returns: the next state, of the same shapes and dtypes.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> state = init_codebook(jnp.zeros((2, 1)))
      >>> state = update_codebook(state, jnp.array([[2.0], [4.0]]), jnp.array([1, 1]), decay=0.5, smoothing=0.0)
      >>> print(state.counts, state.codebook[:, 0])
      [0.5 1.5] [0. 2.]

    References: van den Oord, Vinyals & Kavukcuoglu 2017, appendix A.1; Razavi et al. 2019.
    """
    vectors, decay, smoothing = _inputs("update_codebook", state, z, decay, smoothing)
    check_indices("update_codebook", jnp.asarray(indices), vectors.shape[:-1])
    flat, weights = flat_batch("update_codebook", vectors, mask)
    k = state.counts.shape[0]
    counts, sums = code_sums(flat, jnp.reshape(indices, -1), weights, k, axis_name)
    counts = decay * state.counts + (1 - decay) * counts
    sums = decay * state.sums + (1 - decay) * sums
    everything = jnp.sum(counts)
    smooth = (counts + smoothing) / jnp.maximum(everything + k * smoothing, jnp.finfo(counts.dtype).tiny) * everything
    used = smooth[:, None] > 0
    codebook = jnp.where(used, sums / jnp.where(used, smooth[:, None], 1), state.codebook)
    return CodebookState(codebook.astype(state.codebook.dtype), counts, sums)


def replace_dead_codes(
    key: jax.Array,
    state: CodebookState,
    z: jax.Array,
    *,
    threshold: ArrayLike,
    mask: jax.Array | None = None,
    axis_name: AxisName | None = None,
) -> CodebookState:
    r"""Move codes that are hardly used to random vectors of the batch.

    A code with :math:`N_i <` threshold is dead. They get vectors drawn without replacement while there are enough, and
    start again with the count of an average code (at least the threshold) and the sum to match. The other codes stay.

    Args:
      key: a key; the same on all devices, with ``axis_name``.
      state: the averages.
      z: [..., d], vectors of the batch; constants here.
      threshold: smallest count of a code in use, in vectors per batch; may be traced. 0 replaces none.
      mask: [...], 1 for the vectors to draw from. Where it leaves none, nothing is replaced.
      axis_name: as in ``update_codebook``: vectors are drawn from those of all devices, the same on each.
    Returns: the next state, of the same shapes and dtypes.
    Raises: ValueError if the shapes disagree.
    Example:
      >>> state = CodebookState(jnp.array([[5.0], [7.0]]), jnp.array([3.0, 0.1]), jnp.array([[15.0], [0.7]]))
      >>> state = replace_dead_codes(jax.random.key(0), state, jnp.full((4, 1), 2.0), threshold=0.5)
      >>> print(state.codebook[:, 0], state.counts)
      [5. 2.] [3.   1.55]

    References: Dhariwal et al. 2020; Zeghidour et al. 2021, section III.C.
    """
    vectors, threshold = _inputs("replace_dead_codes", state, z, threshold)
    flat, weights = flat_batch("replace_dead_codes", vectors, mask)
    candidates, num_valid = _random_vectors(key, flat, weights, state.counts.shape[0], axis_name)
    dead = (state.counts < threshold) & (num_valid > 0)
    rank = jnp.cumsum(dead) - 1  # the first dead code takes the first candidate
    chosen = candidates[rank % jnp.clip(num_valid, 1, candidates.shape[0])]
    count = jnp.maximum(threshold, jnp.mean(state.counts))
    codebook = jnp.where(dead[:, None], chosen.astype(state.codebook.dtype), state.codebook)
    sums = jnp.where(dead[:, None], count * codebook.astype(state.sums.dtype), state.sums)
    return CodebookState(codebook, jnp.where(dead, count, state.counts), sums)


def _random_vectors(
    key: jax.Array, flat: jax.Array, weights: jax.Array, num: int, axis_name: AxisName | None
) -> tuple[jax.Array, jax.Array]:
    """Draw at most ``num`` rows of the batch of all devices without replacement, valid ones first; also count the valid ones."""
    if axis_name is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))
    scores = jnp.where(weights > 0, jax.random.uniform(key, weights.shape, weights.dtype), -1)
    scores, rows = jax.lax.top_k(scores, min(num, weights.shape[0]))
    vectors = flat[rows]
    if axis_name is not None:  # the best of each device's best
        scores, vectors = _gather(scores, axis_name), _gather(vectors, axis_name)
        scores, rows = jax.lax.top_k(scores, min(num, scores.shape[0]))
        vectors = vectors[rows]
    return vectors, jnp.sum(scores >= 0)


def _gather(x: jax.Array, axis_name: AxisName) -> jax.Array:
    """Concatenate the rows of all devices, by a sum, whose result is known to be the same on each."""
    slots = jnp.zeros((jax.lax.axis_size(axis_name), *x.shape), x.dtype)
    slots = total(slots.at[jax.lax.axis_index(axis_name)].set(x), axis_name)
    return jnp.reshape(slots, (-1, *x.shape[1:]))


def _inputs(name: str, state: CodebookState, z: jax.Array, *scalars: ArrayLike) -> list[jax.Array]:
    """Check the arguments; return vectors and scalars in the dtype of the averages, which the update must keep."""
    codebook, counts, sums, z = (jnp.asarray(x) for x in (*state, z))
    check_vectors(name, z)
    check_codebook(name, codebook, z.shape[-1])
    if counts.shape != codebook.shape[:1] or sums.shape != codebook.shape:
        raise ValueError(
            f"{name}: state has counts {counts.shape} and sums {sums.shape}, expected {codebook.shape[:1]} and "
            f"{codebook.shape} like the codebook; make it with init_codebook, and vmap over a stack of states"
        )
    for scalar in scalars:
        if jnp.ndim(scalar):
            raise ValueError(
                f"{name}: a rate or threshold has shape {jnp.shape(scalar)}, expected a scalar; vmap over several"
            )
    return [jnp.asarray(x, counts.dtype) for x in (z, *scalars)]
