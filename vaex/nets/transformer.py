"""A causal transformer over sequences of codes: all positions at once in training, one by one with a cache when sampling."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree
from vaex.ops import products
from vaex.ops.platforms import traced_for

KeysAndValues = tuple[jax.Array, jax.Array]  # of one block, [b, n, heads, e] each; in a cache as ``Block`` says
CACHE_POSITIONS = 64  # by which a cache grows: a position reads all of it, and each length is compiled
QUERY_POSITIONS = 64  # that attend together on CPU: fewer skip more pairs of positions, in smaller products


class Dropout(NamedTuple):
    """Dropout on the residual branches of a transformer.

    Attributes:
      key: for one pass.
      rate: share of the features that is dropped; may be traced.
    """

    key: jax.Array
    rate: jax.Array

    def factors(self, shape: tuple[int, ...]) -> jax.Array:
        """Return factors of features of this shape, 0 or 1 / (1 - rate); one call draws those of a whole pass.

        Example:
          >>> bool(jnp.all(Dropout(jax.random.key(0), jnp.array(0.0)).factors((3, 2)) == 1.0))
          True
        """
        bits = jax.random.bits(self.key, shape, jnp.uint16)  # half the random numbers that floats would take
        return jnp.where(bits.astype(jnp.float32) < self.rate * 2.0**16, 0.0, 1.0 / (1.0 - self.rate))


def _attend(query: jax.Array, keys: jax.Array, values: jax.Array, position: jax.Array) -> jax.Array:
    """Return what one position attends to, [b, heads, e], of those up to ``position``.

    Sums of products, with keys and values laid out so that neither sum runs over the last axis: on CPU, XLA copies other layouts at
    every step and computes products of a matrix and a vector in turn for each sequence and head.

    Args:
      query: [b, heads, e].
      keys: [b, heads, e, n].
      values: [b, heads, n, e].
      position: [], of the query.
    """
    scores = jnp.sum(query[..., None] * keys, axis=2) / math.sqrt(query.shape[-1])
    weights = jax.nn.softmax(jnp.where(jnp.arange(keys.shape[-1]) <= position, scores, -jnp.inf), axis=-1)
    return jnp.sum(weights[..., None] * values, axis=2)


def _attend_causally(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """Return what each position attends to, of those up to its own: [b, n, heads, e], as each operand.

    On CPU, blocks of queries attend to the positions up to their last one: half of the pairs of positions have weight 0, and most
    of those are not computed.
    """
    n = queries.shape[1]
    size = QUERY_POSITIONS if traced_for() == "cpu" else n
    blocks = [(first, min(first + size, n)) for first in range(0, n, size)]
    attended = [_attend_block(queries[:, i:j], keys[:, :j], values[:, :j]) for i, j in blocks]
    return attended[0] if len(attended) == 1 else jnp.concatenate(attended, axis=1)


def _attend_block(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """Return what the last positions attend to, of all: queries [b, m, heads, e] of those, keys and values [b, n, heads, e]."""
    n, m = keys.shape[1], queries.shape[1]
    visible = jnp.arange(n) <= jnp.arange(n - m, n)[:, None]
    scores = jnp.einsum("bqhe,bkhe->bhqk", queries, keys) / math.sqrt(queries.shape[-1])
    weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bhqk,bkhe->bqhe", weights, values)


class Block(nn.Module):
    """Pre-norm transformer block: causal attention, then a hidden layer per position, each added to its input.

    Attributes:
      width: of the features.
      heads: of the attention; they divide the width.
    """

    width: int
    heads: int

    def setup(self) -> None:
        """Create the layers; the last one of each branch starts small."""
        plain: dict[str, Any] = {"use_bias": False, "use_scale": False}  # the layers that follow scale and shift
        self.attention_norm, self.norm = nn.LayerNorm(**plain), nn.LayerNorm(**plain)
        # no bias: that of the keys cancels in the softmax, and would change rounding only
        dense = functools.partial(nn.Dense, dot_general=products.dot_general)
        self.queries_keys_values = dense(3 * self.width, use_bias=False)
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        self.mixed = dense(self.width, use_bias=False, kernel_init=small)
        self.hidden, self.output = dense(4 * self.width), dense(self.width, kernel_init=small)

    def __call__(
        self,
        x: jax.Array,
        cache: KeysAndValues | None = None,
        position: jax.Array | None = None,
        factors: jax.Array | tuple[float, float] = (1.0, 1.0),
    ) -> tuple[jax.Array, KeysAndValues]:
        """Return features of the shape of x, and keys and values [b, n, heads, e], or with a cache the next cache.

        Args:
          x: features [b, n, width]; with a cache those of one position, [b, 1, width].
          cache: keys [b, heads, e, n] and values [b, heads, n, e] of all positions; they come back with this position filled in.
          position: [], of x, with a cache.
          factors: of the two branches, for dropout; [2, b, n, width] or two numbers.
        """
        projected = self.queries_keys_values(self.attention_norm(x)).reshape(*x.shape[:-1], 3, self.heads, -1)
        queries, keys, values = (projected[..., index, :, :] for index in range(3))
        if cache is None:
            attended = _attend_causally(queries, keys, values)
        else:
            assert position is not None  # they come together
            keys = jax.lax.dynamic_update_slice_in_dim(cache[0], jnp.moveaxis(keys, 1, 3), position, axis=3)
            values = jax.lax.dynamic_update_slice_in_dim(cache[1], jnp.moveaxis(values, 1, 2), position, axis=2)
            attended = _attend(queries[:, 0], keys, values, position)
        attended = self.mixed(attended.reshape(x.shape))
        x = x + factors[0] * attended
        return x + factors[1] * self.output(nn.gelu(self.hidden(self.norm(x)))), (keys, values)


class CausalTransformer(nn.Module):
    """Logits of each code of a sequence given the codes before it, and a condition.

    The input of a position is the embedding of the code before it (a learned start for the first), a position embedding, and the
    condition. Codes of different kinds, such as those of different codebooks, have embeddings and output layers of their own.

    Attributes:
      kinds: kind of each position, counted from 0; as many as the sequence is long.
      codes: how many codes each kind has.
      width: of the features.
      layers: blocks.
      heads: of the attention; they divide the width.
    Example:
      >>> net = CausalTransformer(kinds=(0,) * 6, codes=5, width=8, layers=1, heads=2)
      >>> codes = jnp.zeros((2, 6), jnp.int32)
      >>> jax.eval_shape(net.init_with_output, jax.random.key(0), codes)[0].shape
      (2, 6, 5)

    References: Vaswani et al. 2017; Radford et al. 2019 (pre-norm).
    """

    kinds: tuple[int, ...]
    codes: int
    width: int = 64
    layers: int = 3
    heads: int = 4

    def setup(self) -> None:
        """Create embeddings, blocks, and an output layer for each kind."""
        kinds, start, small = max(self.kinds) + 1, nn.initializers.normal(0.5), nn.initializers.normal(0.02)
        embedding = self.param("embedding", start, (1 + kinds * self.codes, self.width))  # row 0 is the start
        places = self.param("places", start, (len(self.kinds), self.width))
        # arrays of JAX, because a NumPy array refuses a traced index
        self.embedding, self.position_embedding = jnp.asarray(embedding), jnp.asarray(places)
        self.condition = nn.Dense(self.width, use_bias=False, kernel_init=start)
        self.blocks = [Block(self.width, self.heads) for _ in range(self.layers)]
        self.norm = nn.LayerNorm(use_bias=False, use_scale=False)
        self.output = jnp.asarray(self.param("output", small, (kinds, self.width, self.codes)))
        self.bias = jnp.asarray(self.param("bias", nn.initializers.zeros, (kinds, self.codes)))

    def __call__(
        self, codes: jax.Array, condition: jax.Array | None = None, dropout: Dropout | None = None
    ) -> jax.Array:
        """Return the logits of all positions at once, [b, n, codes]; those of position i depend on codes before it alone.

        Args:
          codes: [b, n] integers; the last code of a sequence has no effect.
          condition: [b, m], such as a one-hot class, or None always.
          dropout: in training.
        """
        kinds = np.asarray(self.kinds)
        previous = jnp.pad(1 + codes[:, :-1] + self.codes * kinds[:-1], ((0, 0), (1, 0)))
        x = self.embedding[previous] + self.position_embedding
        x = x if condition is None else x + self.condition(condition)[:, None]
        factors = None if dropout is None else dropout.factors((self.layers, 2, *x.shape))
        for index, block in enumerate(self.blocks):
            x, _ = block(x) if factors is None else block(x, factors=factors[index])
        x, logits = self.norm(x), jnp.zeros((*codes.shape, self.codes), x.dtype)
        for kind in range(max(kinds) + 1):
            [positions] = np.nonzero(kinds == kind)
            kind_logits = products.matmul(x[:, positions], self.output[kind]) + self.bias[kind]
            logits = kind_logits if len(positions) == len(kinds) else logits.at[:, positions].set(kind_logits)
        return logits

    def cache(self, n: int, length: int | None = None) -> list[KeysAndValues]:
        """Return empty keys and values of n sequences, for every block; of the first ``length`` positions, or of all."""
        length, features = len(self.kinds) if length is None else length, self.width // self.heads
        keys, values = jnp.zeros((n, self.heads, features, length)), jnp.zeros((n, self.heads, length, features))
        return [(keys, values) for _ in range(self.layers)]

    def step(
        self,
        previous: jax.Array,
        position: jax.Array,
        cache: list[KeysAndValues],
        condition: jax.Array | None = None,
    ) -> tuple[jax.Array, list[KeysAndValues]]:
        """Return the logits of one position, [b, codes], equal to those of all positions at once; and the next cache.

        Args:
          previous: [b], the codes at ``position`` - 1; without effect at position 0.
          position: [], may be traced.
          cache: from ``cache``, or from the step of the position before.
          condition: [b, m], or None.
        """
        kinds = jnp.asarray(self.kinds)
        row = 1 + previous + self.codes * kinds[jnp.maximum(position - 1, 0)]
        x = self.embedding[jnp.where(position == 0, 0, row)] + self.position_embedding[position]
        x = x if condition is None else x + self.condition(condition)
        x, next_cache = x[:, None], []
        for block, keys_and_values in zip(self.blocks, cache, strict=True):
            x, keys_and_values = block(x, keys_and_values, position)
            next_cache.append(keys_and_values)
        kind = kinds[position]
        return self.norm(x)[:, 0] @ self.output[kind] + self.bias[kind], next_cache


def sample_codes(
    net: CausalTransformer,
    params: PyTree,
    key: jax.Array,
    n: int,
    *,
    temperature: jax.Array | float = 1.0,
    condition: jax.Array | None = None,
    prefix: jax.Array | None = None,
) -> jax.Array:
    """Draw n sequences code by code, in scans over the positions whose caches grow by ``CACHE_POSITIONS``.

    Args:
      net: the transformer.
      params: its parameters.
      key: PRNG key.
      n: number of sequences.
      temperature: divides the logits, above 0: below 1 likelier codes are drawn more often.
      condition: [n, m], as in training.
      prefix: [n, t] integers, the first t codes of each sequence; they are kept.
    Returns: [n, length] int32.
    Example:
      >>> net = CausalTransformer(kinds=(0, 0, 0), codes=5, width=8, layers=1, heads=2)
      >>> variables = net.init(jax.random.key(0), jnp.zeros((1, 3), jnp.int32))
      >>> codes = sample_codes(net, variables["params"], jax.random.key(1), 4, prefix=jnp.full((4, 2), 3))
      >>> codes.shape, codes[:, :2].tolist()
      ((4, 3), [[3, 3], [3, 3], [3, 3], [3, 3]])
    """
    length = len(net.kinds)
    prefix_length = 0 if prefix is None else prefix.shape[1]
    fixed = jnp.zeros((n, length), jnp.int32)
    fixed = fixed if prefix is None else fixed.at[:, :prefix_length].set(prefix)

    def step(
        carry: tuple[jax.Array, list[KeysAndValues]], inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, list[KeysAndValues]], jax.Array]:
        (previous, cache), (position, fixed_code) = carry, inputs
        result: Any = net.apply({"params": params}, previous, position, cache, condition, method="step")
        logits, cache = result
        drawn = jax.random.categorical(jax.random.fold_in(key, position), logits / temperature).astype(jnp.int32)
        code = jnp.where(position < prefix_length, fixed_code, drawn)
        return (code, cache), code

    carry, drawn = (jnp.zeros(n, jnp.int32), net.cache(n, 0)), []
    for first in range(0, length, CACHE_POSITIONS):
        stop = min(first + CACHE_POSITIONS, length)
        previous, cache = carry
        longer = jax.tree.map(lambda new, old: new.at[tuple(map(slice, old.shape))].set(old), net.cache(n, stop), cache)
        carry, codes = jax.lax.scan(step, (previous, longer), (jnp.arange(first, stop), fixed.T[first:stop]))
        drawn.append(codes)
    return jnp.concatenate(drawn).T
