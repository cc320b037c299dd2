"""Codes drawn from an encoder's logits, relaxed so that gradients reach them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.ops.arrays import lift, narrow
from vaex.quantizers._common import EXACT, Quantized, check_codebook, check_vectors


def gumbel_quantize(
    key: jax.Array, codebook: jax.Array, logits: jax.Array, *, temperature: ArrayLike = 1.0, hard: bool = False
) -> Quantized:
    r"""Draw from a categorical over codes, relaxed.

    :math:`\sum_i w_i c_i` with :math:`w = \mathrm{softmax}((l + g)/\tau)`, g Gumbel noise.

    Args:
      key: a key.
      codebook: [k, d].
      logits: [..., k], unnormalised, from the encoder.
      temperature: tau > 0; may be traced, so that a schedule can lower it. The mixture tends to one code as it goes to 0.
      hard: return exactly the code of largest weight, with the gradient of the mixture (straight-through).
    Returns: ``Quantized`` with codes [..., d] in the dtype of the logits, gradients to logits, codebook and temperature (to the
      codebook through the weights in the value), and indices [...] of the largest weight, which are exact draws from
      softmax(logits) at any temperature. Both losses are zero; the KL to the uniform prior is that of two categoricals.
    Raises: ValueError if the shapes disagree or temperature is not a scalar.
    Example:
      >>> logits = jnp.array([[0.0, 99.0], [99.0, 0.0]])
      >>> print(gumbel_quantize(jax.random.key(0), jnp.array([[1.0], [2.0]]), logits, hard=True).codes)
      [[2.]
       [1.]]

    References: Jang, Gu & Poole 2017, eq. 2 and section 2.2; Ramesh et al. 2021, section 2.1.
    """
    logits, codebook = jnp.asarray(logits), jnp.asarray(codebook)
    check_vectors("gumbel_quantize", logits, "logits")
    check_codebook("gumbel_quantize", codebook)
    if codebook.shape[0] != logits.shape[-1]:
        raise ValueError(
            f"gumbel_quantize: codebook has shape {codebook.shape}, expected [{logits.shape[-1]}, d] for logits of shape "
            f"{logits.shape}; one code per logit"
        )
    if jnp.ndim(temperature):
        raise ValueError(f"gumbel_quantize: temperature has shape {jnp.shape(temperature)}, expected a scalar")
    scores, codes = lift(logits, codebook)
    scores = scores + jax.random.gumbel(key, scores.shape, scores.dtype)
    indices = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    # the largest is taken off first: divided by a small temperature it would overflow
    scores = scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jax.nn.softmax(scores / jnp.asarray(temperature, scores.dtype), axis=-1)
    if hard:
        chosen = jax.nn.one_hot(indices, codes.shape[0], dtype=weights.dtype)
        weights = chosen + (weights - jax.lax.stop_gradient(weights))
    zeros = jnp.zeros(indices.shape, scores.dtype)
    return Quantized(narrow(jnp.matmul(weights, codes, precision=EXACT), logits), indices, zeros, zeros)
