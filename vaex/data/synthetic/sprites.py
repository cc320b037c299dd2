"""Sprites: one white shape on black, rendered from five factors (shape, scale, orientation, x, y) inside the compiled step.

The grid is that of dSprites: 3 shapes, 6 scales, 40 orientations, 32 by 32 positions, 737,280 combinations. Two things
differ. The 40 orientations are distinct angles, 0 to 351 degrees (dSprites counts 0 and 360 degrees as two). And the
images are rendered from formulas, at any resolution and for continuous values. As in dSprites, a square looks
the same every 90 degrees and an ellipse every 180, so that 430,080 of the images are distinct.

Axes: ... any leading axes, h w image.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.data.spec import Spec, with_protocol
from vaex.data.storage.image_size import size_suffix
from vaex.data.storage.splits import data_hash
from vaex.data.synthetic.factors import FactorSource, check_factors

SHAPES = ("square", "ellipse", "heart")
NAMES = ("shape", "scale", "orientation", "x", "y")
SIZES = (3, 6, 40, 32, 32)

# Lengths are fractions of the image's side, at scale 1. No shape reaches further than 0.24 from its centre, and no centre
# comes nearer than 16.5/64 to the border. Of the sizes near these, those were taken for which no pixel's centre comes nearer
# than a thousandth of a pixel to an outline (at 64 x 64, all scales and orientations): rounding can't flip a pixel.
HALF_SIDE = 0.165  # of the square
HALF_LENGTH = 0.234  # of the ellipse, which is half as wide as long
HALF_HEART = 0.1288  # half the side of the heart's square, and the radius of its two half discs
# Centroid of a square with a half disc on two sides, along either side, in units of half a side
CENTROID = (math.pi / 2 + 2 / 3) / (4 + math.pi)
FIRST, STEP = 16.5 / 64, 1 / 64  # centres of the positions 0, 1, ...: pixels' centres at 64 x 64
LARGEST_SCALE, FARTHEST = 64.0, 16.0  # beyond, nothing changes but the risk of overflow
TINY = 1e-24  # under square roots, so that their gradients are finite at 0


class SpriteValues(NamedTuple):
    """Values of a sprite's factors, each [...].

    ``shape``: index into ``SHAPES``. ``scale``: 1 is the largest of the grid. ``orientation``: radians, counter-clockwise;
    at 0 the ellipse lies and the heart stands on its tip. ``x``, ``y``: the centroid's position from left to right and from
    top to bottom, 0 and 1 at the ends of the grid.

    Example:
      >>> render_values(*factor_values(jnp.zeros([7, 5], jnp.int32))).shape
      (7, 64, 64, 1)
    """

    shape: jax.Array
    scale: jax.Array
    orientation: jax.Array
    x: jax.Array
    y: jax.Array


def factor_values(factors: ArrayLike) -> SpriteValues:
    """Return the values of factor indices: scales 0.5, 0.6 .. 1, orientations 0, 2 pi/40 .. 2 pi 39/40, positions 0, 1/31 .. 1.

    Args:
      factors: integers [..., 5]: shape, scale, orientation, x, y.
    Returns: int32 shapes and float32 values, each [...].
    Raises: ValueError unless factors are integers with five on the last axis.
    Example:
      >>> values = factor_values(jnp.array([2, 5, 10, 31, 0]))
      >>> print(values.shape, values.scale, jnp.round(values.orientation, 4), values.x, values.y)
      2 1.0 1.5708 1.0 0.0
    """
    shape, scale, orientation, x, y = _split("factor_values", factors)
    return SpriteValues(shape, _scale(scale), orientation * jnp.float32(2 * math.pi / SIZES[2]), _unit(x), _unit(y))


def render(factors: ArrayLike, *, resolution: int = 64, antialiased: bool = False) -> jax.Array:
    r"""Render images of factor indices.

    A pixel is white where its centre lies inside the shape. Antialiased it is :math:`\min(1, \max(0, 1/2 - d))`, d the
    distance to the outline in pixels, negative inside: about the part of the pixel that the shape covers.

    At 64 x 64 a step of x or y moves the image by exactly one pixel, nothing is cut off at the border, and combinations
    one step apart look different; at fewer pixels some look the same. Quarter turns of the square and half turns of the
    ellipse are exact.

    Args:
      factors: integers [..., 5]: shape, scale, orientation, x, y, below ``SIZES``.
      resolution: height and width; static under jit.
      antialiased: static under jit.
    Returns: [..., h, w, 1]: uint8 0 or 1, or float32 in [0, 1] when antialiased.
    Raises: ValueError unless factors are integers with five on the last axis, and the resolution is positive.
    Example:
      >>> print(render(jnp.array([2, 5, 0, 16, 16]), resolution=16)[6:12, 4:13, 0])
      [[0 1 1 1 1 1 1 0 0]
       [0 1 1 1 1 1 1 1 0]
       [0 1 1 1 1 1 1 0 0]
       [0 0 1 1 1 1 1 0 0]
       [0 0 0 1 1 1 0 0 0]
       [0 0 0 0 1 0 0 0 0]]

    References: Matthey et al. 2017, dSprites.
    """
    shape, scale, orientation, x, y = _split("render", factors)
    # Whole quarter turns swap and negate, so that the symmetries hold exactly
    turns, rest = orientation // (SIZES[2] // 4), orientation % (SIZES[2] // 4)
    angle = rest * jnp.float32(2 * math.pi / SIZES[2])
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    cos, sin = jnp.where(turns % 2 == 1, -sin, cos), jnp.where(turns % 2 == 1, cos, sin)
    sign = jnp.where(turns >= 2, -1.0, 1.0).astype(jnp.float32)
    x, y = (FIRST + STEP * position.astype(jnp.float32) for position in (x, y))
    return _draw("render", shape, _scale(scale), sign * cos, sign * sin, x, y, resolution, antialiased)


def render_values(
    shape: ArrayLike,
    scale: ArrayLike,
    orientation: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    resolution: int = 64,
    antialiased: bool = False,
) -> jax.Array:
    """Render images of continuous values; see ``SpriteValues`` for their meaning and ``render`` for the rendering.

    Antialiased images are differentiable almost everywhere in all values but the shape. Scales are taken within
    [0, 64]; 0 leaves at most a faint dot. Positions outside [0, 1] are allowed, and sprites may then leave the image.

    Args:
      shape: integers; like all others [...], broadcast together.
      scale: 1 is the largest of the grid.
      orientation: radians, counter-clockwise.
      x, y: 0 and 1 at the ends of the grid.
      resolution: height and width; static under jit.
      antialiased: static under jit.
    Returns: [..., h, w, 1]: uint8 0 or 1, or floats in [0, 1] when antialiased, float32 or wider.
    Raises: ValueError for shapes that are not integers, values that don't broadcast, or a resolution below 1.
    Example:
      >>> area = lambda scale: render_values(0, scale, 0.6, 0.5, 0.5, antialiased=True).sum()
      >>> print(jnp.round(area(1.0)), jnp.round(jax.grad(area)(1.0)))  # of a square whose side is 0.33 * 64 pixels
      446.0 887.0
    """
    kind = jnp.asarray(shape)
    if not jnp.issubdtype(kind.dtype, jnp.integer):
        raise ValueError(f"render_values: shape has dtype {kind.dtype}, expected integers; give 0, 1 or 2 as in SHAPES")
    values = [jnp.asarray(value) for value in (scale, orientation, x, y)]
    dtype = jnp.result_type(jnp.float32, *values)
    try:
        leading = jnp.broadcast_shapes(kind.shape, *(value.shape for value in values))
    except ValueError:
        shapes = ", ".join(str(value.shape) for value in (kind, *values))
        raise ValueError(
            f"render_values: shape, scale, orientation, x, y have shapes {shapes}, expected shapes that broadcast; "
            "give one value per image"
        ) from None
    kind = jnp.broadcast_to(kind, leading)
    scale, angle, x, y = (jnp.broadcast_to(value, leading).astype(dtype) for value in values)
    steps = SIZES[3] - 1
    x, y = (FIRST + STEP * steps * position for position in (x, y))
    return _draw("render_values", kind, scale, jnp.cos(angle), jnp.sin(angle), x, y, resolution, antialiased)


def sprites(resolution: int = 64, antialiased: bool = False) -> FactorSource:
    """Return the grid of sprites as a source of images; see ``render``.

    Args:
      resolution: height and width; 64 as in dSprites.
      antialiased: float32 images instead of binary ones.
    Returns: a source without resident arrays.
    Raises: ValueError for a resolution below 1.
    Example:
      >>> source = sprites()
      >>> source.names, source.num_observations, source.spec.protocol
      (('shape', 'scale', 'orientation', 'x', 'y'), 737280, 'sprites_737280 binary')
    """
    _check_resolution("sprites", resolution)
    kind, levels = ("grey", None) if antialiased else ("binary", 2)
    spec = Spec("sprites", (resolution, resolution, 1), kind, levels=levels, factor_names=NAMES)
    drawn_from = [*SIZES, HALF_SIDE, HALF_LENGTH, HALF_HEART, CENTROID, FIRST, STEP, resolution, antialiased]
    spec = spec._replace(data_hash=data_hash({"sprites": {"drawn_from": np.array(drawn_from, np.float64)}}))
    draw = functools.partial(render, resolution=resolution, antialiased=antialiased)
    side = "" if resolution == 64 else size_suffix((resolution, resolution))
    protocol = f"sprites{side}_{math.prod(SIZES)}"
    return FactorSource(with_protocol(spec, protocol), SIZES, {}, lambda _, factors: draw(factors))


def _split(caller: str, factors: ArrayLike) -> list[jax.Array]:
    checked = check_factors(caller, factors, SIZES)
    return [checked[..., position] for position in range(len(SIZES))]


def _scale(index: jax.Array) -> jax.Array:
    return (index.astype(jnp.float32) + 5) / 10


def _unit(index: jax.Array) -> jax.Array:
    return index.astype(jnp.float32) / (SIZES[3] - 1)


def _check_resolution(caller: str, resolution: int) -> None:
    if resolution < 1:
        raise ValueError(
            f"{caller}: resolution is {resolution}, expected at least 1; give the height and width of the image"
        )


def _draw(
    caller: str,
    shape: jax.Array,
    scale: jax.Array,
    cos: jax.Array,
    sin: jax.Array,
    x: jax.Array,
    y: jax.Array,
    resolution: int,
    antialiased: bool,
) -> jax.Array:
    """Render images [..., h, w, 1] of sprites at centres (x, y), fractions of the side; all arrays are [...]."""
    _check_resolution(caller, resolution)
    # on one flat axis of pixels: XLA's CPU loops over an image's last axis, one channel wide, are not vectorised
    middles = (np.arange(resolution) + 0.5) / resolution
    rows, columns = (axis.ravel() for axis in np.meshgrid(middles, middles, indexing="ij"))
    shape, scale, cos, sin, x, y = (value[..., None] for value in (shape, scale, cos, sin, x, y))
    scale = jnp.clip(scale, 0.0, LARGEST_SCALE)
    right = columns.astype(scale.dtype) - jnp.clip(x, -FARTHEST, FARTHEST)
    up = jnp.clip(y, -FARTHEST, FARTHEST) - rows.astype(scale.dtype)
    # into the sprite's own frame: turned back by its orientation
    u, v = cos * right + sin * up, -sin * right + cos * up
    square, ellipse, heart = (
        _square(u, v, HALF_SIDE * scale),
        _ellipse(u, v, HALF_LENGTH * scale),
        _heart(u, v, HALF_HEART * scale),
    )
    distance = jnp.where(shape == 0, square, jnp.where(shape == 1, ellipse, heart))
    flat = jnp.clip(0.5 - resolution * distance, 0.0, 1.0) if antialiased else (distance <= 0).astype(jnp.uint8)
    return flat.reshape(*flat.shape[:-1], resolution, resolution, 1)


def _square(u: jax.Array, v: jax.Array, half: jax.Array) -> jax.Array:
    """Return the signed distance to the outline of a square with this half side, negative inside."""
    right, up = jnp.abs(u) - half, jnp.abs(v) - half
    outside = jnp.sqrt(jnp.maximum(right, 0) ** 2 + jnp.maximum(up, 0) ** 2 + TINY)
    return outside + jnp.minimum(jnp.maximum(right, up), 0)


def _ellipse(u: jax.Array, v: jax.Array, half: jax.Array) -> jax.Array:
    """Return the signed distance to an ellipse's outline, to first order: (m - half) / |grad m| of m = |(u, 2 v)|."""
    m = jnp.sqrt(u**2 + 4 * v**2 + TINY)
    return (m - half) * (m / jnp.sqrt(u**2 + 16 * v**2 + TINY))


def _heart(u: jax.Array, v: jax.Array, half: jax.Array) -> jax.Array:
    """Return the signed distance to the outline of a square on its tip with half discs on its upper sides, its centroid at 0.

    The two discs are mirror images, so the nearer one is found by ordering the coordinates along the square's sides.
    """
    first, second = (u + v) * math.sqrt(0.5), (v - u) * math.sqrt(0.5)
    high = jnp.maximum(first, second) + CENTROID * half
    low = jnp.minimum(first, second) + CENTROID * half
    disc = jnp.sqrt((high - half) ** 2 + low**2 + TINY) - half
    return jnp.minimum(_square(high, low, half), disc)
