"""What a code is made of: its latents one by one, how informative each is, and what moving along it looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaex.core import Latents
from vaex.evaluation.latents import (
    Decode,
    active_units,
    latent_traversals,
    marginal_kl,
    order_by_kl,
    traversal_values,
)

DEGREES = tuple(range(0, 360, 30))
SPREAD, FREQUENT = 4, 10  # places of a block of integer codes that are shown, and codes at each
ROWS = 24  # of a picture of traversals, at most


class Unit(NamedTuple):
    """One latent: the entries ``start`` to ``stop`` of a code, as a block of ``kind`` (see ``vaex.core.Latents``).

    ``name``: z0, z1, ... counts numbers, c0, c1, ... categorical variables; a sphere of any dimension is one unit, and a block of
    integer codes is one, named by its first entry.
    """

    name: str
    kind: str
    start: int
    stop: int

    def of(self, codes: np.ndarray) -> np.ndarray:
        """These entries of codes [..., d]."""
        return codes[..., self.start : self.stop]


class Traversals(NamedTuple):
    """Ways through the space of codes.

    ``codes`` [r, t, d], NaN where a row is shorter than others; ``names`` of the rows; ``kl`` [r] of the latents that they
    move, or None; ``columns``: what to write above these, () where rows differ.
    """

    codes: np.ndarray
    names: tuple[str, ...]
    kl: np.ndarray | None
    columns: tuple[str, ...]


def units(blocks: Sequence[Latents], d: int) -> tuple[Unit, ...]:
    """The latents of a code of ``d`` entries.

    Raises: ValueError where the blocks don't make up ``d`` entries.
    Example:
      >>> [unit.name for unit in units((Latents("normal", 2), Latents("categorical", 10)), 12)]
      ['z0', 'z1', 'c0']
    """
    blocks = blocks or (Latents("normal", d),)
    if sum(block.size for block in blocks) != d:
        raise ValueError(
            f"units: blocks of {[block.size for block in blocks]} entries, expected {d} in all, like the codes; "
            "mend the recipe's latents"
        )
    found: list[Unit] = []
    start = numbers = categories = 0
    for kind, size, _ in blocks:
        if kind in ("normal", "free"):
            found += [Unit(f"z{numbers + i}", kind, start + i, start + i + 1) for i in range(size)]
            numbers += size
        elif kind == "code":
            found.append(Unit(f"codes {start}", kind, start, start + size))
        elif kind == "categorical":
            found.append(Unit(f"c{categories}", kind, start, start + size))
            categories += 1
        else:
            found.append(Unit("sphere", kind, start, start + size))
        start += size
    return tuple(found)


def kl_per_unit(parts: Sequence[Unit], mean: ArrayLike, variance: ArrayLike) -> np.ndarray | None:
    """KL of each latent to its prior, averaged over examples; None where that of some latent is not known in closed form.

    Args:
      parts: from ``units``.
      mean, variance: [n, d], of the posteriors; of a categorical variable the mean holds its probabilities.
    Returns: [r] in nats: of a normal latent see ``marginal_kl``; of a categorical one, exact.
    Example:
      >>> kl_per_unit(units((Latents("categorical", 2),), 2), [[1.0, 0.0]], [[0.0, 0.0]]).round(4)
      array([0.6931])
    """
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    found = []
    for unit in parts:
        if unit.kind == "normal" and np.all(unit.of(variance) > 0):
            found.append(marginal_kl(unit.of(mean), unit.of(variance))[0])
        elif unit.kind == "categorical":
            share = unit.of(mean)
            logs = np.log(np.where(share > 0, share, 1.0))
            found.append(np.mean(np.sum(share * logs, axis=-1)) + np.log(share.shape[-1]))
        else:
            return None
    return np.array(found)


def count_active(parts: Sequence[Unit], means: ArrayLike) -> int:
    """How many latents move with the data, by ``active_units``.

    A categorical variable is one latent, active where the probability of some class is; on a sphere coordinates are counted,
    and of integer codes those that are not the same for all examples.

    Args:
      parts: from ``units``.
      means: [n, d].
    Example:
      >>> count_active(units((Latents("categorical", 2), Latents("normal", 1)), 3), [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
      1
    """
    found = active_units(means).active
    return sum(int(np.any(unit.of(found)) if unit.kind == "categorical" else np.sum(unit.of(found))) for unit in parts)


def traversals(
    parts: Sequence[Unit], mean: ArrayLike, variance: ArrayLike, kl: ArrayLike | None = None, *, limit: int = ROWS
) -> Traversals:
    """Codes that start from the first example's and move along one latent each, the most informative latent first.

    A normal latent goes from -3 to 3; a free one as many standard deviations of the codes around their mean; a categorical
    one through its classes; some integer codes of a block, evenly spread, go through those that are most frequent in their
    place. On a sphere there is a great circle through the first code along each principal direction of
    the codes around it, in steps of 30 degrees.

    Args:
      parts: from ``units``.
      mean, variance: [n, d], of the posteriors of some examples.
      kl: [latents] to order by; where None, the variance of the means is taken.
      limit: ways at most; the least informative latents are left out.
    Returns: ``Traversals``.
    Example:
      >>> parts = units((Latents("categorical", 2), Latents("normal", 1)), 3)
      >>> found = traversals(parts, np.array([[0.9, 0.1, 0.5]]), np.ones((1, 3)), kl=[0.4, 0.1])
      >>> found.names, found.codes.shape, found.codes[0, :2].tolist()
      (('c0', 'z0'), (2, 11, 3), [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])
    """
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    informative = [np.sum(np.var(unit.of(mean), axis=0)) for unit in parts] if kl is None else np.asarray(kl)
    names, numbers, rows, columns = [], [], [], []
    for index in order_by_kl(informative)[:limit]:
        found, labels, captions = _ways(parts[index], mean, variance)
        names, rows, columns = [*names, *labels], [*rows, *found], [*columns, captions]
        numbers += [informative[index]] * len(found)
    names, rows, numbers = names[:limit], rows[:limit], numbers[:limit]
    codes = np.full((len(rows), max(len(row) for row in rows), mean.shape[-1]), np.nan, np.float32)
    for into, row in zip(codes, rows, strict=True):
        into[: len(row)] = row
    shared = columns[0] if all(captions == columns[0] for captions in columns) else ()
    return Traversals(codes, tuple(names), None if kl is None else np.array(numbers), shared)


def decoded_ways(decode: Decode, codes: np.ndarray) -> np.ndarray:
    """Images [r, t, ...] of codes [r, t, d], NaN where these are; ``decode`` is called once."""
    there = np.isfinite(codes).all(axis=-1)
    found = np.asarray(decode(codes[there]))
    images = np.full((*codes.shape[:2], *found.shape[1:]), np.nan, np.float32)
    images[there] = found
    return images


def _ways(unit: Unit, mean: np.ndarray, variance: np.ndarray) -> tuple[list[np.ndarray], list[str], tuple[str, ...]]:
    """The ways [t, d] along one latent, their names, and what to write above the columns."""
    base = mean[0]
    if unit.kind == "categorical":
        way = np.tile(base, (unit.stop - unit.start, 1))
        way[:, unit.start : unit.stop] = np.eye(unit.stop - unit.start)
        return [way], [unit.name], tuple(map(str, range(len(way))))
    if unit.kind == "sphere":
        circles = []
        for circle in great_circles(unit.of(mean)):
            way = np.tile(base, (len(circle), 1))
            way[:, unit.start : unit.stop] = circle
            circles.append(way)
        return circles, [f"circle {index}" for index in range(len(circles))], tuple(f"{angle}°" for angle in DEGREES)
    if unit.kind == "code":
        return _code_ways(unit, mean)
    values = traversal_values()
    captions = tuple(f"{value:.3g}".replace("-", "−") for value in values)
    centre, scale = span(unit, mean, variance)
    values = centre + scale * values
    return [*latent_traversals(lambda z: z, base, [unit.start], values)], [unit.name], captions


def _code_ways(unit: Unit, codes: np.ndarray) -> tuple[list[np.ndarray], list[str], tuple[str, ...]]:
    """As ``_ways``: some places of a block of integers, each through its most frequent codes."""
    size = unit.stop - unit.start
    places = np.unique(unit.start + ((np.arange(SPREAD) + 0.5) * size / SPREAD).astype(int))
    ways = []
    for place in places:
        values, counts = np.unique(codes[:, place], return_counts=True)
        frequent = values[np.argsort(-counts, kind="stable")][:FREQUENT]
        way = np.tile(codes[0], (len(frequent), 1))
        way[:, place] = frequent
        ways.append(way)
    return ways, [f"code {place}" for place in places], ()


def span(unit: Unit, mean: ArrayLike, variance: ArrayLike) -> tuple[float, float]:
    """Centre and standard deviation of the values that a number takes: of its prior, or where this is learned, of the codes.

    Args:
      unit: of the kind "normal" or "free".
      mean, variance: [n, d], of the posteriors of some examples.
    """
    if unit.kind == "normal":
        return 0.0, 1.0
    numbers, spread = unit.of(np.asarray(mean)), unit.of(np.asarray(variance))
    return float(np.mean(numbers)), float(np.sqrt(np.var(numbers) + np.mean(spread)))


def great_circles(codes: np.ndarray) -> np.ndarray:
    """Great circles [d - 1, 12, d] through the first of ``codes`` [n, d], along the principal directions of all around it."""
    units = codes / np.linalg.norm(codes, axis=-1, keepdims=True)
    start = units[0]
    across = units - (units @ start)[:, None] * start
    # the start itself, far heavier than all, is the first direction: the others are at right angles to it
    directions = np.linalg.svd(np.concatenate([2.0 * len(units) * start[None], across]))[2][1:]
    angles = np.deg2rad(DEGREES)[:, None]
    return np.cos(angles) * start + np.sin(angles) * directions[:, None]
