"""Vector quantization: vectors [..., d] to codes [..., d] and indices [...] int32, as pure functions over small records.

Every function that quantizes returns a ``Quantized``: codes that pass gradients on, indices, and losses per vector, summed over d
and never averaged. ``vector_quantize`` has one codebook [k, d], ``residual_quantize`` several in a row, ``grouped_quantize`` one
per group of channels, ``gumbel_quantize`` draws from logits; ``finite_scalar_quantize`` and ``lookup_free_quantize`` have none.
Each has its lookup, from indices to codes. The Protocol ``Quantizer`` says what models ask of a quantizer.

A codebook is learned by the gradient of its loss, or without one: ``kmeans_codebook``, ``init_codebook``, then in each step
``update_codebook`` and from time to time ``replace_dead_codes``. ``code_perplexity`` and ``code_usage`` measure how much of it is
used.
"""

from vaex.quantizers._common import Quantized
from vaex.quantizers.codebook import CodebookState, init_codebook, replace_dead_codes, update_codebook
from vaex.quantizers.finite_scalar import finite_scalar_indices, finite_scalar_lookup, finite_scalar_quantize
from vaex.quantizers.gradients import codebook_loss, commitment_loss, rotation_trick, straight_through
from vaex.quantizers.gumbel import gumbel_quantize
from vaex.quantizers.kmeans import kmeans_codebook
from vaex.quantizers.lookup_free import (
    LookupFreeEntropy,
    lookup_free_entropy,
    lookup_free_indices,
    lookup_free_lookup,
    lookup_free_quantize,
)
from vaex.quantizers.nearest import lookup, nearest_code, squared_distances, unit_norm
from vaex.quantizers.protocol import Quantizer
from vaex.quantizers.usage import code_perplexity, code_usage, entropy, perplexity
from vaex.quantizers.vector import (
    grouped_lookup,
    grouped_quantize,
    residual_inputs,
    residual_lookup,
    residual_quantize,
    vector_quantize,
)

__all__ = [
    "CodebookState",
    "LookupFreeEntropy",
    "Quantized",
    "Quantizer",
    "code_perplexity",
    "code_usage",
    "codebook_loss",
    "commitment_loss",
    "entropy",
    "finite_scalar_indices",
    "finite_scalar_lookup",
    "finite_scalar_quantize",
    "grouped_lookup",
    "grouped_quantize",
    "gumbel_quantize",
    "init_codebook",
    "kmeans_codebook",
    "lookup",
    "lookup_free_entropy",
    "lookup_free_indices",
    "lookup_free_lookup",
    "lookup_free_quantize",
    "nearest_code",
    "perplexity",
    "replace_dead_codes",
    "residual_inputs",
    "residual_lookup",
    "residual_quantize",
    "rotation_trick",
    "squared_distances",
    "straight_through",
    "unit_norm",
    "update_codebook",
    "vector_quantize",
]
