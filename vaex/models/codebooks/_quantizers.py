"""Quantizers by flags: from maps of vectors to integer codes, with codebooks that gradients or moving averages move.

A quantizer gives ``slots`` codes per vector, each from 0 to ``codes`` - 1: one, or one per codebook. Its state is a dictionary:
"use" [slots, codes], the share of each code over the last hundred batches, and "codebooks" where moving averages move them.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from vaex import quantizers
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import PyTree
from vaex.errors import UserError
from vaex.models import latent
from vaex.models.networks import BaseConfig
from vaex.quantizers import CodebookState, Quantized, Quantizer, protocol
from vaex.schedules import Scalar

MEMORY = 0.99  # decay of the tracked shares per step
SCALAR = ("finite_scalar", "lookup_free")  # quantizers without a codebook


@options
class Config(BaseConfig):
    """Static choices of every model with a quantizer."""

    quantizer: Literal["vector", "residual", "grouped", "finite_scalar", "lookup_free"] = option(
        "vector",
        doc="Kind of quantizer: vector (one codebook), residual or grouped (several), finite_scalar (FSQ) or "
        "lookup_free (LFQ).",
    )
    codes: int = option(
        128,
        low=2,
        doc="Number of codes in each codebook; a power of two for lookup_free; finite_scalar has the product of levels.",
        needs={"quantizer": ("vector", "residual", "grouped", "lookup_free")},
    )
    code_dim: int = option(
        16, low=1, doc="Length of a code of a codebook.", needs={"quantizer": ("vector", "residual", "grouped")}
    )
    codebooks: int = option(
        2,
        low=1,
        doc="Number of codebooks of the quantizers residual and grouped.",
        needs={"quantizer": ("residual", "grouped")},
    )
    levels: tuple[int, ...] = option(
        (8, 4, 4),
        low=1,
        doc="Number of levels of each dimension of the quantizer finite_scalar, such as 8x4x4.",
        needs={"quantizer": ("finite_scalar",)},
    )
    codebook: Literal["ema", "gradient"] = option(
        "ema",
        doc="Learning of codebooks: by moving averages (ema), or by the gradient of their loss (gradient).",
        needs={"quantizer": ("vector", "residual", "grouped")},
    )
    codebook_init: Literal["kmeans", "normal"] = option(
        "kmeans",
        doc="Initial codes: means of the first batch's vectors (kmeans), or normal numbers (normal).",
        needs={"quantizer": ("vector", "residual", "grouped")},
    )
    gradient: Literal["straight_through", "rotation"] = option(
        "straight_through",
        doc="Gradient through the choice of a code: straight_through, or rotation where there are codebooks.",
    )

    def check(self) -> None:
        super().check()
        if self.quantizer == "grouped" and self.code_dim % self.codebooks:
            raise UserError(
                f"--code_dim={self.code_dim}: expected a multiple of --codebooks={self.codebooks}, as each group has its share"
            )
        if self.quantizer == "lookup_free" and self.codes & (self.codes - 1):
            raise UserError(f"--codes={self.codes}: expected a power of two, since lookup_free codes are made of bits")
        if not self.levels or min(self.levels) < 2 or math.prod(self.levels) > 2**20:
            text = "x".join(map(str, self.levels))
            raise UserError(
                f"--levels={text}: expected at least two for each dimension, such as 8x4x4, 2^20 codes at most"
            )
        if self.quantizer in SCALAR and self.gradient == "rotation":
            raise UserError(
                f"--gradient=rotation: --quantizer={self.quantizer} has no codebook to rotate to; use straight_through"
            )


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of ``quantizers``."""

    commitment: Scalar = hparam(0.25, low=0.0, doc="Weight of the squared distances of vectors to their codes.")
    ema_decay: Scalar = hparam(
        0.99,
        low=0.0,
        high=1.0,
        doc="Decay per step of the moving averages that move ema codebooks.",
        needs={"quantizer": ("vector", "residual", "grouped"), "codebook": ("ema",)},
    )
    dead_share: Scalar = hparam(
        0.1,
        low=0.0,
        high=1.0,
        doc="Codes of ema codebooks chosen less often than this share of what is even are put on random vectors of "
        "the batch; 0 is off.",
        needs={"quantizer": ("vector", "residual", "grouped"), "codebook": ("ema",)},
    )
    entropy: Scalar = hparam(
        0.1,
        low=0.0,
        doc="Weight of the entropy loss of lookup_free, in nats, which rewards sure choices and the use of all codes.",
        needs={"quantizer": ("lookup_free",)},
    )
    quantizer_dropout: Scalar | None = hparam(
        None,
        low=0.0,
        high=1.0,
        off=0.0,
        doc="Probability with which an example is coded in training by a random number, 1 to all, of its first residual codebooks "
        "alone, so that these decode well by themselves; 1 in Zeghidour et al. 2021; 0 is off.",
        needs={"quantizer": ("residual",)},
    )


class _Functions(NamedTuple):
    """A ``Quantizer`` as a record of functions."""

    dim: int
    slots: int
    codes: int
    init: protocol.Init
    quantize: protocol.Quantize
    lookup: protocol.Lookup
    loss: protocol.Loss
    update: protocol.Update


def quantizer(config: Config) -> Quantizer:
    """Return the quantizer that the configuration describes."""
    return _without_codebook(config) if config.quantizer in SCALAR else _with_codebooks(config)


def _without_codebook(config: Config) -> Quantizer:
    """FSQ and LFQ, each vector one code."""
    finite, levels = config.quantizer == "finite_scalar", config.levels
    dim = len(levels) if finite else config.codes.bit_length() - 1
    codes = math.prod(levels) if finite else config.codes

    def init(key: jax.Array, z: jax.Array) -> tuple[PyTree, PyTree]:
        return (), {"use": _even(1, codes)}

    def quantize(params: PyTree, state: PyTree, z: jax.Array, first: jax.Array | None = None) -> Quantized:
        quantized = (
            quantizers.finite_scalar_quantize(z, levels=levels) if finite else quantizers.lookup_free_quantize(z)
        )
        return quantized._replace(indices=quantized.indices[..., None])

    def lookup(params: PyTree, state: PyTree, indices: jax.Array) -> jax.Array:
        flat = indices[..., 0]
        return (
            quantizers.finite_scalar_lookup(flat, levels=levels)
            if finite
            else quantizers.lookup_free_lookup(flat, num_bits=dim)
        )

    def loss(hparams: PyTree, quantized: Quantized, z: jax.Array, mask: jax.Array | None) -> jax.Array:
        if finite:
            return quantized.commitment_loss
        entropy = quantizers.lookup_free_entropy(z, mask=mask)
        return hparams.commitment * quantized.commitment_loss + hparams.entropy * (entropy.sample - entropy.batch)

    def update(
        key: jax.Array, hparams: PyTree, state: PyTree, z: jax.Array, indices: jax.Array, mask: jax.Array | None
    ) -> PyTree:
        return {"use": _used(state["use"], indices, mask)}

    return _Functions(dim, 1, codes, init, quantize, lookup, loss, update)


def _with_codebooks(config: Config) -> Quantizer:
    """One codebook [q, codes, width], or several in a row or side by side; one is a row of one."""
    ema, grouped = config.codebook == "ema", config.quantizer == "grouped"
    slots, dim, codes = 1 if config.quantizer == "vector" else config.codebooks, config.code_dim, config.codes

    def parted(z: jax.Array) -> jax.Array:
        """The groups' vectors [q, ..., dim / q]."""
        return jnp.moveaxis(z.reshape(*z.shape[:-1], slots, -1), -2, 0)

    def books(params: PyTree, state: PyTree) -> jax.Array:
        return state["codebooks"].codebook if ema else params

    def init(key: jax.Array, z: jax.Array) -> tuple[PyTree, PyTree]:
        start, left = [], parted(z) if grouped else jnp.broadcast_to(z, (slots, *z.shape))
        for slot in range(slots):
            slot_key = jax.random.fold_in(key, slot)
            if config.codebook_init == "normal":
                start.append(jax.random.normal(slot_key, (codes, left.shape[-1])))
                continue
            start.append(quantizers.kmeans_codebook(slot_key, left[slot], num_codes=codes, num_iterations=5))
            if not grouped:  # the next one begins with what this one leaves
                left = left - quantizers.lookup(start[-1], quantizers.nearest_code(start[-1], left[slot]))
        stack, use = jnp.stack(start), {"use": _even(slots, codes)}
        if not ema:
            return stack, use
        state = jax.vmap(quantizers.init_codebook)(stack)
        even = math.prod(z.shape[:-1]) / codes  # as if each had been chosen evenly
        return (), use | {"codebooks": CodebookState(stack, state.counts * even, state.sums * even)}

    def quantize(params: PyTree, state: PyTree, z: jax.Array, first: jax.Array | None = None) -> Quantized:
        if grouped:
            return quantizers.grouped_quantize(books(params, state), z, gradient=config.gradient)
        return quantizers.residual_quantize(books(params, state), z, gradient=config.gradient, stages=first)

    def lookup(params: PyTree, state: PyTree, indices: jax.Array) -> jax.Array:
        return (quantizers.grouped_lookup if grouped else _partial_lookup)(books(params, state), indices)

    def loss(hparams: PyTree, quantized: Quantized, z: jax.Array, mask: jax.Array | None) -> jax.Array:
        commitment = hparams.commitment * quantized.commitment_loss
        return commitment if ema else quantized.codebook_loss + commitment

    def update(
        key: jax.Array, hparams: PyTree, state: PyTree, z: jax.Array, indices: jax.Array, mask: jax.Array | None
    ) -> PyTree:
        some = hparams.quantizer_dropout is not None  # vectors have some of the codes alone
        use = {"use": (_used_of_some if some else _used)(state["use"], indices, mask)}
        if not ema:
            return use
        old: CodebookState = state["codebooks"]
        inputs = parted(z) if grouped else quantizers.residual_inputs(old.codebook, z, indices)

        def update_slot(key: jax.Array, old: CodebookState, z: jax.Array, indices: jax.Array) -> CodebookState:
            return (_updated_by_some if some else _updated)(key, hparams, old, z, indices, mask)

        return {
            **use,
            "codebooks": jax.vmap(update_slot)(jax.random.split(key, slots), old, inputs, jnp.moveaxis(indices, -1, 0)),
        }

    return _Functions(dim, slots, codes, init, quantize, lookup, loss, update)


def _updated(
    key: jax.Array, hparams: PyTree, old: CodebookState, z: jax.Array, indices: jax.Array, mask: jax.Array | None
) -> CodebookState:
    """A codebook moved by its averages, its dead codes replaced."""
    new = quantizers.update_codebook(old, z, indices, decay=hparams.ema_decay, mask=mask)
    threshold = hparams.dead_share * jnp.mean(new.counts)
    return quantizers.replace_dead_codes(key, new, z, threshold=threshold, mask=mask)


def _updated_by_some(
    key: jax.Array, hparams: PyTree, old: CodebookState, z: jax.Array, indices: jax.Array, mask: jax.Array | None
) -> CodebookState:
    """The same by those vectors that have a code of it; one that none has stays as it is."""
    counted = (indices >= 0).astype(jnp.float32) * (1.0 if mask is None else mask.astype(jnp.float32))
    new = _updated(key, hparams, old, z, indices, counted)
    return jax.tree.map(lambda after, before: jnp.where(jnp.sum(counted) > 0, after, before), new, old)


def _partial_lookup(codebooks: jax.Array, indices: jax.Array) -> jax.Array:
    """Sums of residual codes; -1, a codebook that is left out, is a row of zeros."""
    codes = codebooks.shape[1]
    extended = jnp.concatenate([codebooks, jnp.zeros_like(codebooks[:, :1])], axis=1)
    return quantizers.residual_lookup(
        extended, jnp.where(indices == -1, codes, jnp.where(indices == codes, -1, indices))
    )


def shares(indices: jax.Array, codes: int, mask: jax.Array | None) -> jax.Array:
    """How often each code is among indices [..., slots], as shares [slots, codes]; mask [...], 1 for those that count.

    Example:
      >>> shares(jnp.array([[0], [2], [2], [2]]), 3, None)
      Array([[0.25, 0.  , 0.75]], dtype=float32)
    """
    slots = indices.shape[-1]
    weights = jnp.ones(indices.shape[:-1], jnp.float32) if mask is None else mask.astype(jnp.float32)
    flat, weights = indices.reshape(-1, slots), weights.reshape(-1)
    flat = jnp.where(flat < 0, codes, flat)  # a negative index would count from the end
    # ones add exactly in any order; one-hot rows would take as much memory as there are codes, for each index
    counts = jnp.zeros((slots, codes), jnp.float32).at[jnp.arange(slots), flat].add(weights[:, None], mode="drop")
    return counts / jnp.maximum(jnp.sum(weights), 1.0)


def shares_of_some(indices: jax.Array, codes: int, mask: jax.Array | None) -> jax.Array:
    """``shares`` among the vectors that have a code of the slot, as the index -1 is none; zeros for a slot that none has.

    Example:
      >>> shares_of_some(jnp.array([[0, -1], [1, 1]]), 2, None)
      Array([[0.5, 0.5],
             [0. , 1. ]], dtype=float32)
    """
    of_all = shares(indices, codes, mask)
    total = jnp.sum(of_all, axis=1, keepdims=True)
    return of_all / jnp.where(total > 0, total, 1.0)


def _even(slots: int, codes: int) -> jax.Array:
    return jnp.full((slots, codes), 1.0 / codes, jnp.float32)


def _used(use: jax.Array, indices: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The tracked shares with this batch's in them."""
    return MEMORY * use + (1.0 - MEMORY) * shares(indices, use.shape[1], mask)


def _used_of_some(use: jax.Array, indices: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The same where vectors lack codes of some slots; a slot that no vector has a code of stays as it was."""
    share = shares_of_some(indices, use.shape[1], mask)
    return jnp.where(jnp.sum(share, axis=1, keepdims=True) > 0, MEMORY * use + (1.0 - MEMORY) * share, use)
