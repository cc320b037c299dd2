"""Moving sprites for models of time series: images and the values behind them as pure functions of a key.

Axes: n sequences, t frames, h w image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import Batch, Feed, PyTree
from vaex.data.spec import Spec, with_protocol
from vaex.data.storage.image_size import size_suffix
from vaex.data.storage.splits import data_hash
from vaex.data.synthetic.factors import rendered_once
from vaex.data.synthetic.sprites import SHAPES, SpriteValues, render_values
from vaex.errors import UserError

SPLIT_SEED = 20190507  # of validation and test; their keys are folded twice, those of training once
VERSION = 1  # of rendering; raise it when the same keys yield other sequences


def rotating_values(key: jax.Array, n: int, length: int) -> SpriteValues:
    """Draw the values of sprites that turn in place at a constant speed of 9 to 36 degrees per frame, in either direction.

    Shapes, scales in [0.5, 1], first orientations and positions in [0, 1] are uniform and independent across sequences.

    Args:
      key: a key.
      n: number of sequences.
      length: t, number of frames.
    Returns: ``SpriteValues``, each [n, t].
    Raises: ValueError for n or a length below 1.
    Example:
      >>> values = rotating_values(jax.random.key(0), 2, 3)
      >>> values.orientation.shape, bool(jnp.all(values.x == values.x[:, :1]))
      ((2, 3), True)
    """
    start, key, frame = _start("rotating_values", key, n, length)
    fastest, sign_key = jax.random.split(key)
    speed = jax.random.uniform(fastest, (n, 1), jnp.float32, minval=2 * math.pi / 40, maxval=2 * math.pi / 10)
    speed = speed * jax.random.rademacher(sign_key, (n, 1), jnp.float32)
    return _over_time(start._replace(orientation=start.orientation + speed * frame), (n, length))


def bouncing_values(key: jax.Array, n: int, length: int) -> SpriteValues:
    """Draw the values of sprites that fly straight at 1 to 4 pixels (of 64) per frame and bounce off the borders of the grid.

    The direction is uniform; the rest is as in ``rotating_values``. Positions are reflected at 0 and 1.

    Args:
      key: a key.
      n: number of sequences.
      length: t, number of frames.
    Returns: ``SpriteValues``, each [n, t].
    Raises: ValueError for n or a length below 1.
    Example:
      >>> values = bouncing_values(jax.random.key(0), 2, 50)
      >>> bool(jnp.all((values.x >= 0) & (values.x <= 1))), bool(jnp.all(values.scale == values.scale[:, :1]))
      (True, True)
    """
    start, key, frame = _start("bouncing_values", key, n, length)
    speed_key, direction_key = jax.random.split(key)
    speed = jax.random.uniform(speed_key, (n, 1), jnp.float32, minval=1 / 31, maxval=4 / 31)
    direction = jax.random.uniform(direction_key, (n, 1), jnp.float32, maxval=2 * math.pi)
    x, y = start.x + speed * jnp.cos(direction) * frame, start.y + speed * jnp.sin(direction) * frame
    return _over_time(start._replace(x=_fold(x), y=_fold(y)), (n, length))


def rotating_sprites(
    key: jax.Array, n: int, length: int, *, resolution: int = 64, antialiased: bool = False
) -> jax.Array:
    """Render sprites that turn in place; see ``rotating_values`` and ``sprites.render_values``.

    Args:
      key: a key.
      n: number of sequences.
      length: t, number of frames.
      resolution: height and width.
      antialiased: float32 images instead of binary ones.
    Returns: [n, t, h, w, 1]: uint8 0 or 1, or float32 in [0, 1] when antialiased.
    Raises: ValueError for n, a length or a resolution below 1.
    Example:
      >>> rotating_sprites(jax.random.key(0), 2, 3).shape
      (2, 3, 64, 64, 1)
    """
    return render_values(*rotating_values(key, n, length), resolution=resolution, antialiased=antialiased)


def bouncing_sprites(
    key: jax.Array, n: int, length: int, *, resolution: int = 64, antialiased: bool = False
) -> jax.Array:
    """Render sprites that fly and bounce; see ``bouncing_values`` and ``sprites.render_values``.

    Args:
      key: a key.
      n: number of sequences.
      length: t, number of frames.
      resolution: height and width.
      antialiased: float32 images instead of binary ones.
    Returns: [n, t, h, w, 1]: uint8 0 or 1, or float32 in [0, 1] when antialiased.
    Raises: ValueError for n, a length or a resolution below 1.
    Example:
      >>> bouncing_sprites(jax.random.key(0), 2, 3, resolution=32, antialiased=True).shape
      (2, 3, 32, 32, 1)
    """
    return render_values(*bouncing_values(key, n, length), resolution=resolution, antialiased=antialiased)


class SequenceSource(NamedTuple):
    """Source of sequences that are new at every step of training.

    ``spec``: of the sequences. ``render(key, n) -> stored sequences [n, t, h, w, c]``, pure. ``num_observations``: nominal
    size of an epoch; no sequence is repeated.

    Example:
      >>> source = moving_sprites("bouncing_sprites", 16, 3)
      >>> source.feed(4).batch({}, jnp.uint32(0))["x"].shape, source.held_out(2, 5).shape
      ((4, 3, 16, 16, 1), (5, 3, 16, 16, 1))
    """

    spec: Spec
    render: Callable[[jax.Array, int], jax.Array]
    num_observations: int = 100_000

    @property
    def batch_size(self) -> None:
        """Batches may have any size, so there is none of its own."""

    def feed(self, batch_size: int, data_seed: int = 0) -> Feed:
        """Return the ``sequence_feed`` of this source."""
        return sequence_feed(lambda key, n, length: self.render(key, n), self.spec.shape[0], batch_size, data_seed)

    def held_out(self, split: int, n: int) -> np.ndarray:
        """Render the ``n`` fixed sequences of the split with this number; training never draws them."""
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(SPLIT_SEED), split), n)
        return np.asarray(jax.jit(self.render, static_argnums=1)(key, n))


def moving_sprites(name: str, resolution: int, length: int) -> SequenceSource:
    """Return ``bouncing_sprites`` or ``rotating_sprites`` as a source of binary sequences.

    Args:
      name: of the function.
      resolution: height and width.
      length: t, number of frames.
    Example:
      >>> moving_sprites("rotating_sprites", 32, 16).spec.protocol
      'rotating_sprites_32x32_16_frames binary'
    """
    draw = {"bouncing_sprites": bouncing_sprites, "rotating_sprites": rotating_sprites}[name]
    definition = {name: {"drawn_from": np.array([VERSION, SPLIT_SEED, resolution, length], np.float64)}}
    spec = Spec(name, (length, resolution, resolution, 1), "binary", levels=2, data_hash=data_hash(definition))
    spec = with_protocol(spec, f"{name}{size_suffix((resolution, resolution))}_{length}_frames")
    return SequenceSource(spec, lambda key, n: draw(key, n, length, resolution=resolution))


def sequence_feed(
    render: Callable[[jax.Array, int, int], jax.Array], length: int, batch_size: int, data_seed: int = 0
) -> Feed:
    """Return a feed that renders new sequences inside the compiled step, at every step.

    Args:
      render: (key, n, length) -> [n, t, h, w, c], such as ``bouncing_sprites``.
      length: t.
      batch_size: sequences per batch.
      data_seed: the batch of a step is a pure function of it and the step.
    Returns: a Feed without resident arrays whose plan rows are step numbers, and whose batches are "x" [b, t, h, w, c].
    Raises: UserError for a length or a batch size below 1, or a data seed out of range.
    Example:
      >>> feed = sequence_feed(bouncing_sprites, length=3, batch_size=2)
      >>> feed.batch(feed.resident, feed.plan(0, 1)[0])["x"].shape
      (2, 3, 64, 64, 1)
    """
    if length < 1 or batch_size < 1 or not 0 <= data_seed < 2**32:
        raise UserError(
            f"sequence_feed: length={length}, batch_size={batch_size}, data_seed={data_seed}; expected length and batch_size >= 1, "
            "0 <= data_seed < 2**32"
        )

    def plan(first_step: int, count: int) -> np.ndarray:
        return np.arange(first_step, first_step + count, dtype=np.uint32)

    def batch(resident: PyTree, row: jax.Array) -> Batch:
        key = jax.random.fold_in(jax.random.key(data_seed), row)
        return {"x": rendered_once(lambda: render(key, batch_size, length), row.astype(jnp.int32))}

    return Feed({}, plan, batch)


def _start(caller: str, key: jax.Array, n: int, length: int) -> tuple[SpriteValues, jax.Array, jax.Array]:
    """Draw the first values, each [n, 1]; return them with a key for the motion and the frames' numbers [t]."""
    if n < 1 or length < 1:
        raise ValueError(
            f"{caller}: n is {n} and length {length}, expected at least one sequence of one frame; give both"
        )
    motion, shape, rest = jax.random.split(key, 3)
    scale, orientation, x, y = jax.random.uniform(rest, (4, n, 1), jnp.float32)
    kind = jax.random.randint(shape, (n, 1), 0, len(SHAPES), jnp.int32)
    frame = jnp.arange(length, dtype=jnp.float32)
    return SpriteValues(kind, 0.5 + 0.5 * scale, 2 * math.pi * orientation, x, y), motion, frame


def _over_time(values: SpriteValues, shape: tuple[int, int]) -> SpriteValues:
    return SpriteValues(*(jnp.broadcast_to(value, shape) for value in values))


def _fold(position: jax.Array) -> jax.Array:
    """Reflect into [0, 1]: a triangle wave of period 2."""
    return 1 - jnp.abs(1 - position % 2)
