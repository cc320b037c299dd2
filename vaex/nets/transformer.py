"""A causal transformer over sequences of codes: all positions at once in training, one by one with a cache when sampling."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree


class Dropout(NamedTuple):
    """Dropout of the transformer's branches at a rate that may be traced; ``key`` is for one pass."""

    key: jax.Array
    rate: jax.Array

    def factors(self, shape: tuple[int, ...]) -> jax.Array:
        """What features of this shape are multiplied by: 0, or 1 / (1 - rate); all of a pass at once.

        Example:
          >>> bool(jnp.all(Dropout(jax.random.key(0), jnp.array(0.0)).factors((3, 2)) == 1.0))
          True
        """
        drawn = jax.random.bits(self.key, shape, jnp.uint16)  # half the random numbers that floats would take
        return jnp.where(drawn.astype(jnp.float32) < self.rate * 2.0**16, 0.0, 1.0 / (1.0 - self.rate))


class Block(nn.Module):
    """Attention to this and earlier positions, then a hidden layer per position; each added to its input, normalised first.

    Attributes:
      width: of the features.
      heads: of the attention.
    """

    width: int
    heads: int

    def setup(self) -> None:
        """The layers; the two that end a branch start small."""
        plain: dict[str, Any] = {"use_bias": False, "use_scale": False}  # the layers that follow scale and shift
        self.attention_norm, self.norm = nn.LayerNorm(**plain), nn.LayerNorm(**plain)
        self.queries_keys_values = nn.Dense(3 * self.width, use_bias=False)  # of keys it would change rounding only
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        self.mixed = nn.Dense(self.width, use_bias=False, kernel_init=small)
        self.hidden, self.output = nn.Dense(4 * self.width), nn.Dense(self.width, kernel_init=small)

    def __call__(
        self, x: jax.Array, cache: Any = None, position: Any = None, factors: Any = (1.0, 1.0)
    ) -> tuple[jax.Array, Any]:
        """x [b, n, width] -> the same shape, and keys and values [b, n, heads, e].

        With a ``cache`` (keys and values of all positions), x [b, 1, width] is the ``position``-th, and the cache comes back
        with it filled in. The two branches are multiplied by ``factors``.
        """
        parts = self.queries_keys_values(self.attention_norm(x)).reshape(*x.shape[:-1], 3, self.heads, -1)
        queries, keys, values = (parts[..., index, :, :] for index in range(3))
        if cache is not None:
            keys, values = (
                jax.lax.dynamic_update_slice_in_dim(old, new, position, axis=1)
                for old, new in zip(cache, (keys, values), strict=True)
            )
        places = jnp.arange(keys.shape[1])
        seen = places <= (places[:, None] if position is None else position)  # [n, n], or [n] of one position
        scores = jnp.einsum("bqhe,bkhe->bhqk", queries, keys) / math.sqrt(queries.shape[-1])
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        mixed = self.mixed(jnp.einsum("bhqk,bkhe->bqhe", weights, values).reshape(x.shape))
        x = x + factors[0] * mixed
        return x + factors[1] * self.output(nn.gelu(self.hidden(self.norm(x)))), (keys, values)


class CausalTransformer(nn.Module):
    """Logits of each code of a sequence given the codes before it, and a condition.

    The input of a position is the code before it (a learned start for the first), its place, and the condition. Codes of
    different kinds, such as those of different codebooks, have embeddings and output layers of their own.

    Attributes:
      kinds: the kind of each position, counted from 0; as many as the sequence is long.
      codes: how many codes each kind has.
      width: of the features.
      layers: blocks.
      heads: of the attention; they divide the width.
    Example:
      >>> net = CausalTransformer(kinds=(0,) * 6, codes=5, width=8, layers=1, heads=2)
      >>> codes = jnp.zeros((2, 6), jnp.int32)
      >>> jax.eval_shape(net.init_with_output, jax.random.key(0), codes)[0].shape
      (2, 6, 5)

    References: Vaswani et al. 2017; Radford et al. 2019 (normalised first).
    """

    kinds: tuple[int, ...]
    codes: int
    width: int = 64
    layers: int = 3
    heads: int = 4

    def setup(self) -> None:
        """Embeddings, blocks, and an output layer for each kind."""
        kinds, start, small = max(self.kinds) + 1, nn.initializers.normal(0.5), nn.initializers.normal(0.02)
        embedding = self.param("embedding", start, (1 + kinds * self.codes, self.width))  # the start comes first
        places = self.param("places", start, (len(self.kinds), self.width))
        self.embedding, self.places = jnp.asarray(embedding), jnp.asarray(places)  # NumPy's refuse a traced index
        self.condition = nn.Dense(self.width, use_bias=False, kernel_init=start)
        self.blocks = [Block(self.width, self.heads) for _ in range(self.layers)]
        self.norm = nn.LayerNorm(use_bias=False, use_scale=False)
        self.output = jnp.asarray(self.param("output", small, (kinds, self.width, self.codes)))
        self.bias = jnp.asarray(self.param("bias", nn.initializers.zeros, (kinds, self.codes)))

    def __call__(
        self, codes: jax.Array, condition: jax.Array | None = None, dropout: Dropout | None = None
    ) -> jax.Array:
        """All positions at once.

        Args:
          codes: [b, n] integers; the last one is not looked at.
          condition: [b, m], such as a one-hot class, or None always.
          dropout: in training.
        Returns: logits [b, n, codes]; those of position i depend on codes before it alone.
        """
        kinds = np.asarray(self.kinds)
        before = jnp.pad(1 + codes[:, :-1] + self.codes * kinds[:-1], ((0, 0), (1, 0)))
        x = self.embedding[before] + self.places
        x = x if condition is None else x + self.condition(condition)[:, None]
        factors = None if dropout is None else dropout.factors((self.layers, 2, *x.shape))
        for index, block in enumerate(self.blocks):
            x, _ = block(x) if factors is None else block(x, factors=factors[index])
        x, logits = self.norm(x), jnp.zeros((*codes.shape, self.codes), x.dtype)
        for kind in range(max(kinds) + 1):
            [where] = np.nonzero(kinds == kind)
            found = x[:, where] @ self.output[kind] + self.bias[kind]
            logits = found if len(where) == len(kinds) else logits.at[:, where].set(found)
        return logits

    def cache(self, n: int) -> PyTree:
        """Empty keys and values of n sequences."""
        empty = jnp.zeros((n, len(self.kinds), self.heads, self.width // self.heads))
        return [(empty, empty) for _ in range(self.layers)]

    def step(
        self, before: jax.Array, position: jax.Array, cache: PyTree, condition: jax.Array | None = None
    ) -> tuple[jax.Array, PyTree]:
        """One position.

        Args:
          before: [b], the codes at ``position`` - 1; of no account at position 0.
          position: [], may be traced.
          cache: from ``cache``, or the step of the position before.
          condition: [b, m], or None.
        Returns: logits [b, codes], equal to those of all positions at once; and the next cache.
        """
        kinds = jnp.asarray(self.kinds)
        last = 1 + before + self.codes * kinds[jnp.maximum(position - 1, 0)]
        x = self.embedding[jnp.where(position == 0, 0, last)] + self.places[position]
        x = x if condition is None else x + self.condition(condition)
        x, filled = x[:, None], []
        for block, kept in zip(self.blocks, cache, strict=True):
            x, kept = block(x, kept, position)
            filled.append(kept)
        kind = kinds[position]
        return self.norm(x)[:, 0] @ self.output[kind] + self.bias[kind], filled


def sample_codes(
    net: CausalTransformer,
    params: PyTree,
    key: jax.Array,
    n: int,
    *,
    temperature: Any = 1.0,
    condition: jax.Array | None = None,
    prefix: jax.Array | None = None,
) -> jax.Array:
    """n sequences drawn code by code, in one scan over the positions.

    Args:
      net: the transformer; params: its parameters.
      key: a key.
      n: sequences.
      temperature: that logits are divided by, above 0: below 1 likelier codes are drawn more often.
      condition: [n, m], as in training.
      prefix: [n, t] integers, the first t codes of each sequence; they are kept.
    Returns: [n, length] int32.
    Example:
      >>> net = CausalTransformer(kinds=(0, 0, 0), codes=5, width=8, layers=1, heads=2)
      >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 3), jnp.int32))
      >>> drawn = sample_codes(net, variables["params"], jax.random.key(1), 4, prefix=jnp.full((4, 2), 3))
      >>> drawn.shape, drawn[:, :2].tolist()
      ((4, 3), [[3, 3], [3, 3], [3, 3], [3, 3]])
    """
    length = len(net.kinds)
    known = 0 if prefix is None else prefix.shape[1]
    fixed = jnp.zeros((n, length), jnp.int32)
    fixed = fixed if prefix is None else fixed.at[:, :known].set(prefix)

    def step(carry: tuple[jax.Array, PyTree], inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        (before, cache), (position, wanted) = carry, inputs
        logits, cache = net.apply({"params": params}, before, position, cache, condition, method="step")  # type: ignore[misc]
        drawn = jax.random.categorical(jax.random.fold_in(key, position), logits / temperature).astype(jnp.int32)
        code = jnp.where(position < known, wanted, drawn)
        return (code, cache), code

    first = jnp.zeros(n, jnp.int32), net.cache(n)
    _, codes = jax.lax.scan(step, first, (jnp.arange(length), fixed.T))
    return codes.T
