"""Moving sprites for models of time series: pictures and the values behind them as pure functions of a key.

Axes: n sequences, t frames, h w image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import Batch, Feed, PyTree
from vaex.data.sprites import SHAPES, SpriteValues, render_values


def rotating_values(key: jax.Array, n: int, length: int) -> SpriteValues:
    """The values of sprites that turn in place at a constant speed of 9 to 36 degrees a frame, either way round.

    Shapes, scales in [0.5, 1], first orientations and positions in [0, 1] are drawn uniformly, each sequence its own.

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
    """The values of sprites that fly straight at 1 to 4 pixels (of 64) a frame and bounce off the borders of the grid.

    Everything else is drawn as in ``rotating_values``, and the direction is uniform. Positions fold back at 0 and 1.

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
    """Pictures of sprites that turn in place; see ``rotating_values`` and ``sprites.render_values``.

    Args:
      key: a key.
      n: number of sequences.
      length: t, number of frames.
      resolution: height and width.
      antialiased: float32 pictures instead of binary ones.
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
    """Pictures of sprites that fly and bounce; see ``bouncing_values`` and ``sprites.render_values``.

    Args:
      key: a key.
      n: number of sequences.
      length: t, number of frames.
      resolution: height and width.
      antialiased: float32 pictures instead of binary ones.
    Returns: [n, t, h, w, 1]: uint8 0 or 1, or float32 in [0, 1] when antialiased.
    Raises: ValueError for n, a length or a resolution below 1.
    Example:
      >>> bouncing_sprites(jax.random.key(0), 2, 3, resolution=32, antialiased=True).shape
      (2, 3, 32, 32, 1)
    """
    return render_values(*bouncing_values(key, n, length), resolution=resolution, antialiased=antialiased)


def sequence_feed(
    render: Callable[[jax.Array, int, int], jax.Array], length: int, batch_size: int, data_seed: int = 0
) -> Feed:
    """Batches of sequences that are drawn inside the compiled step, new ones at every step.

    Args:
      render: (key, n, length) -> [n, t, h, w, c], such as ``bouncing_sprites``.
      length: t.
      batch_size: sequences per batch.
      data_seed: the batch of a step is a pure function of it and the step.
    Returns: a Feed without resident arrays whose plan rows are step numbers, and whose batches are "x" [b, t, h, w, c].
    Raises: ValueError for a length or a batch size below 1, or a data seed out of range.
    Example:
      >>> feed = sequence_feed(bouncing_sprites, length=3, batch_size=2)
      >>> feed.batch(feed.resident, feed.plan(0, 1)[0])["x"].shape
      (2, 3, 64, 64, 1)
    """
    if length < 1 or batch_size < 1 or not 0 <= data_seed < 2**32:
        raise ValueError(
            f"sequence_feed: length={length}, batch_size={batch_size}, data_seed={data_seed}; expected length and batch_size >= 1, "
            "0 <= data_seed < 2**32"
        )

    def plan(first_step: int, count: int) -> np.ndarray:
        return np.arange(first_step, first_step + count, dtype=np.uint32)

    def batch(resident: PyTree, row: jax.Array) -> Batch:
        return {"x": render(jax.random.fold_in(jax.random.key(data_seed), row), batch_size, length)}

    return Feed({}, plan, batch)


def _start(caller: str, key: jax.Array, n: int, length: int) -> tuple[SpriteValues, jax.Array, jax.Array]:
    """First values, each [n, 1], a key for the motion, and the frames' numbers [t]."""
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
