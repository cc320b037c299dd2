"""The terms of TD-VAE as functions of a record of conditional distributions, so that any exact ones may stand in their place.

Axes: b batch, k samples, t time, j pairs of times, r belief state, d latent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaex import divergences
from vaex.distributions import Distribution, Normal


class Conditionals(NamedTuple):
    """Distributions over one frame's latents and over a frame, of any batch shape.

    ``belief(b)``: p_B(z_t|b_t). ``smoothing(z2, b1, b2, jump)``: q_S(z_t1|z_t2, b_t1, b_t2). ``transition(z1, jump)``:
    p_T(z_t2|z_t1). ``decode(z)``: p(x_t|z_t). Jumps are integers from 1 on, [...].
    """

    belief: Callable[[jax.Array], Normal]
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
    z1 = smoothed.sample(earlier_key)
    surprise = belief.log_prob(z2) - conditionals.transition(z1, pairs.jump).log_prob(z2)
    kl = divergences.kl(smoothed, conditionals.belief(pairs.before))
    return Terms(-conditionals.decode(z2).log_prob(pairs.frame), surprise, kl)


def log_weights(
    key: jax.Array, conditionals: Conditionals, states: jax.Array, x: jax.Array, num_samples: int
) -> jax.Array:
    r"""Importance weights of whole sequences, [k, b] nats: with p(x_t|x_<t) that of a jump of one step.

    :math:`\sum_t \log p_B(z_1|b_{t-1}) + \log p_T(z_2|z_1, 1) + \log p(x_t|z_2) - \log p_B(z_2|b_t)
    - \log q_S(z_1|z_2, b_{t-1}, b_t)`, each t with samples of its own.
    """
    later_key, earlier_key = jax.random.split(key)
    before, after, jump = states[:, :-1], states[:, 1:], jnp.ones(x.shape[:2], jnp.int32)
    belief = conditionals.belief(after)
    z2 = belief.sample(later_key, (num_samples,))
    smoothed = conditionals.smoothing(z2, before, after, jump)
    z1 = smoothed.sample(earlier_key)
    log_p = (
        conditionals.belief(before).log_prob(z1)
        + conditionals.transition(z1, jump).log_prob(z2)
        + conditionals.decode(z2).log_prob(x)
    )
    return jnp.sum(log_p - belief.log_prob(z2) - smoothed.log_prob(z1), axis=-1)


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
