r"""The terms of TD-VAE as functions of a record of conditional distributions, so that any exact ones may stand in their place.

The model of a sequence is a chain of latents: :math:`z_0 \sim p_B(\cdot|b_0)`, with the belief before any frame, then
:math:`z_t \sim p_T(\cdot|z_{t-1})` and :math:`x_t \sim p(\cdot|z_t)`. Beliefs after frames are of its inference alone: for t
from the last frame back, :math:`z_t \sim q_S(\cdot|z_{t+1}, b_t, b_{t+1})` after :math:`z_T \sim p_B(\cdot|b_T)`.

Axes: b batch, k samples, t time, j pairs of times, r belief state, d latent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaex import divergences
from vaex.distributions import Distribution, Normal
from vaex.models.sequences._layered import LayeredNormal


class Conditionals(NamedTuple):
    """Distributions over one frame's latents and over a frame, of any batch shape.

    ``belief(b)``: p_B(z_t|b_t). ``smoothing(z2, b1, b2, jump)``: q_S(z_t1|z_t2, b_t1, b_t2). ``transition(z1, jump)``:
    p_T(z_t2|z_t1). ``decode(z)``: p(x_t|z_t). Jumps are integers from 1 on, [...].
    """

    belief: Callable[[jax.Array], Normal | LayeredNormal]
    smoothing: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], Distribution]
    transition: Callable[[jax.Array, jax.Array], Distribution]
    decode: Callable[[jax.Array], Distribution]


class Pairs(NamedTuple):
    """Two times of sequences, t1 < t2: how far apart, [b, j]; the beliefs then, [b, j, r]; and the frame x_t2, [b, j, ...]."""

    jump: jax.Array
    before: jax.Array
    after: jax.Array
    frame: jax.Array


class Terms(NamedTuple):
    """The parts of the loss of pairs, [...] nats each: their sum is an upper bound on -log p(x_t2|x_<=t1).

    ``reconstruction``: -log p(x_t2|z_t2). ``surprise``: log p_B(z_t2|b_t2) - log p_T(z_t2|z_t1), of one sample. ``smoothing_kl``:
    KL(q_S(z_t1|z_t2, b_t1, b_t2) || p_B(z_t1|b_t1)).
    """

    reconstruction: jax.Array
    surprise: jax.Array
    smoothing_kl: jax.Array

    @property
    def total(self) -> jax.Array:
        """The sum, [...] nats."""
        return self.reconstruction + self.surprise + self.smoothing_kl


def draw_pairs(key: jax.Array, states: jax.Array, x: jax.Array, count: int, max_jump: int) -> Pairs:
    """Pairs of times: jumps uniform from 1 to ``max_jump``, then t1 uniform where both times fit.

    Args:
      key: a key.
      states: of beliefs before the first frame and after each, [b, t + 1, r].
      x: [b, t, ...].
      count: j, of each sequence.
      max_jump: at most t.
    """
    jump_key, start_key = jax.random.split(key)
    shape, length = (len(x), count), x.shape[1]
    jump = jax.random.randint(jump_key, shape, 1, max_jump + 1)
    start = jax.random.randint(start_key, shape, 0, length - jump + 1)
    rows = jnp.arange(len(x))[:, None]
    return Pairs(jump, states[rows, start], states[rows, start + jump], x[rows, start + jump - 1])


def pair_terms(key: jax.Array, conditionals: Conditionals, pairs: Pairs) -> Terms:
    """The terms of one sample of the latents, [b, j] each."""
    later_key, earlier_key = jax.random.split(key)
    belief = conditionals.belief(pairs.after)
    z2 = belief.sample(later_key)
    smoothed = conditionals.smoothing(z2, pairs.before, pairs.after, pairs.jump)
    z1, believed = smoothed.sample(earlier_key), conditionals.belief(pairs.before)
    surprise = belief.log_prob(z2) - conditionals.transition(z1, pairs.jump).log_prob(z2)
    if isinstance(smoothed, LayeredNormal) and isinstance(believed, LayeredNormal):
        kl = smoothed.kl(believed, z1)
    else:
        kl = divergences.kl(smoothed, believed)
    return Terms(-conditionals.decode(z2).log_prob(pairs.frame), surprise, kl)


def log_weights(
    key: jax.Array, conditionals: Conditionals, states: jax.Array, x: jax.Array, num_samples: int
) -> jax.Array:
    r"""Importance weights of whole sequences under the chain that samples come from, [k, b] nats.

    :math:`\log p_B(z_0|b_0) + \sum_{t=1}^T [\log p_T(z_t|z_{t-1}) + \log p(x_t|z_t)] - \log p_B(z_T|b_T)
    - \sum_{t=0}^{T-1} \log q_S(z_t|z_{t+1}, b_t, b_{t+1})`, with all jumps of one step.
    """
    last_key, key = jax.random.split(key)
    last = conditionals.belief(states[:, -1])
    z = last.sample(last_key, (num_samples,))
    single = jnp.ones(z.shape[:-1], jnp.int32)

    def back(after: jax.Array, now: Any) -> tuple[jax.Array, Any]:
        step_key, before_state, after_state = now
        smoothed = conditionals.smoothing(after, before_state, after_state, single)
        before = smoothed.sample(step_key)
        return before, (after, conditionals.transition(before, single).log_prob(after) - smoothed.log_prob(before))

    moved = jnp.moveaxis(states, 1, 0)
    keys = jax.random.split(key, len(moved) - 1)
    first, (path, terms) = jax.lax.scan(back, z, (keys, moved[:-1], moved[1:]), reverse=True)
    log_px = jnp.sum(conditionals.decode(jnp.moveaxis(path, 0, -2)).log_prob(x), axis=-1)
    return conditionals.belief(states[:, 0]).log_prob(first) + jnp.sum(terms, axis=0) + log_px - last.log_prob(z)


def jumps(steps: int, max_jump: int) -> list[int]:
    """Jumps that make up ``steps``, the longest first.

    Example:
      >>> jumps(10, 10), jumps(10, 4)
      ([10], [4, 4, 2])
    """
    return [max_jump] * (steps // max_jump) + [steps % max_jump] * (steps % max_jump > 0)


def jump_ahead(key: jax.Array, conditionals: Conditionals, z: jax.Array, steps: int, max_jump: int) -> jax.Array:
    """z [..., d] of ``steps`` later, in as few jumps as there may be."""
    for index, jump in enumerate(jumps(steps, max_jump)):
        z = conditionals.transition(z, jnp.full(z.shape[:-1], jump)).sample(jax.random.fold_in(key, index))
    return z


def roll_out(key: jax.Array, conditionals: Conditionals, z: jax.Array, steps: int) -> jax.Array:
    """Latents of the next ``steps`` frames [..., t, d], from z [..., d], one step at a time."""

    def step(z: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        after = conditionals.transition(z, jnp.ones(z.shape[:-1], jnp.int32)).sample(key)
        return after, after

    return jnp.moveaxis(jax.lax.scan(step, z, jax.random.split(key, steps))[1], 0, -2)
