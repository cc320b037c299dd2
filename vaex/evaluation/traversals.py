"""Paths through the space of codes, and what they decode to: traversals, interpolations, great circles.

Axes: n codes, d entries of a code, r paths, t points on each path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from vaex.evaluation.latents import LatentVariable, location_and_scale, order_by_kl, registered_kind

DEGREES = tuple(range(0, 360, 30))  # points on a great circle
CODE_PLACES, CODES_PER_PLACE = 4, 10  # places of a block of integer codes that are shown, and codes at each
MOST_PATHS = 24  # paths in a figure
CONDITION_POINTS = 7  # on a path along a condition that is a real number


class DecodeCodes(Protocol):
    """Decodes codes z [n, d] float32 to x [n, ...], in most uses the mean of p(x|z), with the model's variables closed over."""

    def __call__(self, z: np.ndarray, /) -> ArrayLike: ...


def decode_points(caller: str, decode: DecodeCodes, z: np.ndarray) -> np.ndarray:
    """Decode z [..., d] in one call; the images get the leading axes of z.

    Raises: ValueError if decode does not return one x per z.
    Example:
      >>> decode_points("example", lambda z: z.sum(-1, keepdims=True), np.ones((2, 3, 4))).shape
      (2, 3, 1)
    """
    flat = z.reshape(-1, z.shape[-1]).astype(np.float32)
    x = np.asarray(decode(flat))
    if x.shape[:1] != flat.shape[:1]:
        raise ValueError(
            f"{caller}: decode gave shape {x.shape} for z of shape {flat.shape}, expected [{len(flat)}, ...]; "
            "return the mean of p(x|z) as an array"
        )
    return x.reshape(*z.shape[:-1], *x.shape[1:])


def traversal_values(num: int = 11, span: float = 3.0) -> np.ndarray:
    """Equally spaced values of one latent from ``-span`` to ``span``, in standard deviations of the prior.

    Returns: float32 [num].
    Raises: ValueError unless num >= 2 and span > 0.
    Example:
      >>> traversal_values(5)
      array([-3. , -1.5,  0. ,  1.5,  3. ], dtype=float32)
    """
    if num < 2 or not span > 0:
        raise ValueError(f"traversal_values: got num={num}, span={span}, expected num >= 2 and span > 0")
    return np.linspace(-span, span, num, dtype=np.float32)


def latent_traversals(decode: DecodeCodes, base_z: ArrayLike, order: ArrayLike, values: ArrayLike) -> np.ndarray:
    """Decode ``base_z`` with one latent at a time replaced by each of ``values``.

    Args:
      decode: z [n, d] -> x [n, ...]; called once with len(order) * len(values) rows of float32.
      base_z: [d], the point to start from, such as the posterior mean of an example.
      order: [r], the latents to move, one row each; ``order_by_kl`` puts the most informative first.
      values: [t], such as ``traversal_values()``.
    Returns: [r, t, ...]; entry [i, j] has latent order[i] at values[j] and all others at base_z.
    Raises: ValueError for wrong shapes, or an order that names no latent of base_z.
    Example:
      >>> latent_traversals(lambda z: z, [0.5, 0.5], order=[1, 0], values=[-1.0, 1.0]).tolist()
      [[[0.5, -1.0], [0.5, 1.0]], [[-1.0, 0.5], [1.0, 0.5]]]
    """
    base_z, values = np.asarray(base_z, np.float32), np.asarray(values, np.float32)
    order = np.asarray(order)
    if base_z.ndim != 1 or order.ndim != 1 or values.ndim != 1 or 0 in (base_z.size, order.size, values.size):
        raise ValueError(
            f"latent_traversals: base_z, order, values have shapes {base_z.shape}, {order.shape}, {values.shape}, "
            "expected [d], [r], [t], none empty; pass one example"
        )
    if order.dtype.kind not in "iu" or order.min() < 0 or order.max() >= len(base_z):
        raise ValueError(f"latent_traversals: order is {order.tolist()}, expected integers from 0 to {len(base_z) - 1}")
    z = np.tile(base_z, (len(order), len(values), 1))
    z[np.arange(len(order)), :, order] = values
    return decode_points("latent_traversals", decode, z)


def interpolate(
    decode: DecodeCodes, z0: ArrayLike, z1: ArrayLike, num: int = 10, *, spherical: bool = False
) -> np.ndarray:
    r"""Decode the points on a line or great circle from ``z0`` to ``z1``, both ends included.

    Linear: :math:`(1-t) z_0 + t z_1`. Spherical: :math:`[\sin((1-t)\omega) z_0 + \sin(t\omega) z_1] / \sin\omega` with
    the angle :math:`\omega` between them, which keeps to norms that are typical of the prior; linear as
    :math:`\omega \to 0`.

    Args:
      decode: z [n, d] -> x [n, ...]; called once.
      z0, z1: [d] or [b, d].
      num: points on each path, >= 2.
      spherical: great circle instead of straight line.
    Returns: [num, ...], or [b, num, ...].
    Raises: ValueError for wrong shapes or num; and for a spherical path from a zero vector or between opposite ones,
      where there is none or no single one.
    Example:
      >>> interpolate(lambda z: z, [0.0, 2.0], [2.0, 0.0], num=3).tolist()
      [[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]
      >>> interpolate(lambda z: z, [0.0, 2.0], [2.0, 0.0], num=3, spherical=True).round(4)[1]
      array([1.4142, 1.4142], dtype=float32)

    References: White 2016, "Sampling generative networks", section 2.1.
    """
    z0, z1 = np.asarray(z0, np.float64), np.asarray(z1, np.float64)
    if z0.shape != z1.shape or z0.ndim not in (1, 2) or z0.size == 0:
        raise ValueError(f"interpolate: z0, z1 have shapes {z0.shape}, {z1.shape}, expected the same [d] or [b, d]")
    if num < 2:
        raise ValueError(f"interpolate: num is {num}, expected at least 2; both ends are included")
    t = np.linspace(0.0, 1.0, num)[:, None]
    start, end = z0[..., None, :], z1[..., None, :]
    z = _great_circle_between(start, end, t) if spherical else (1.0 - t) * start + t * end
    return decode_points("interpolate", decode, z)


def _great_circle_between(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(start, axis=-1, keepdims=True), np.linalg.norm(end, axis=-1, keepdims=True)
    if min(norm.min() for norm in norms) == 0.0:
        raise ValueError("interpolate: z0 or z1 is zero and has no direction; use spherical=False")
    # Half-angle form: exact for small angles, where arccos of the dot product loses half of its digits.
    unit0, unit1 = start / norms[0], end / norms[1]
    difference, total = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (unit1 - unit0, unit1 + unit0))
    angle = 2.0 * np.arctan2(difference, total)
    if angle.max() > np.pi - 1e-6:
        raise ValueError(
            "interpolate: z0 and z1 point in opposite directions, expected a single great circle between them; "
            "use spherical=False"
        )
    # np.sinc(x) = sin(pi x) / (pi x) is defined at zero, so equal directions need no case of their own.
    scaled = angle / np.pi
    weights = (1.0 - t) * np.sinc((1.0 - t) * scaled), t * np.sinc(t * scaled)
    return (weights[0] * start + weights[1] * end) / np.sinc(scaled)


class ConditionRange(Protocol):
    """What is known of a condition: a ``vaex.data.conditions.Condition``."""

    @property
    def name(self) -> str: ...

    @property
    def binary(self) -> bool:
        """Return True for an attribute, 0 or 1."""
        ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


class TraversalPaths(NamedTuple):
    """Paths through the space of codes.

    ``codes`` [r, t, d], NaN where a path is shorter than others; ``names`` [r]; ``kl`` [r] of the latents that they move, in
    nats, or None; ``columns`` [t], captions of the points, () where paths differ.
    """

    codes: np.ndarray
    names: tuple[str, ...]
    kl: np.ndarray | None
    columns: tuple[str, ...]


def traversal_paths(
    variables: Sequence[LatentVariable],
    mean: ArrayLike,
    variance: ArrayLike,
    kl: ArrayLike | None = None,
    *,
    limit: int = MOST_PATHS,
) -> TraversalPaths:
    """Codes that start from the first example's and move along one latent each, the most informative latent first.

    A normal latent goes from -3 to 3; a free one as many standard deviations of the codes around their mean; a categorical
    one through its classes. Some integer codes of a block, evenly spread, go through those that are most frequent in their
    place, a variable of a registered kind the path that it gives.
    On a sphere there is a great circle through the first code along each principal direction of the codes around
    it, in steps of 30 degrees.

    Args:
      variables: from ``vaex.evaluation.latents.latent_variables``.
      mean, variance: [n, d], of the posteriors of some examples.
      kl: one per variable, to order by; where None, the variance of the means is taken.
      limit: most paths; the least informative latents are left out.
    Example:
      >>> from vaex.core import Latents
      >>> from vaex.evaluation.latents import latent_variables
      >>> mixed = latent_variables((Latents("categorical", 2), Latents("normal", 1)), 3)
      >>> paths = traversal_paths(mixed, np.array([[0.9, 0.1, 0.5]]), np.ones((1, 3)), kl=[0.4, 0.1])
      >>> paths.names, paths.codes.shape, paths.codes[0, :2].tolist()
      (('c0', 'z0'), (2, 11, 3), [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])
    """
    mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    spread = [np.sum(np.var(variable.select(mean), axis=0)) for variable in variables]
    information = spread if kl is None else np.asarray(kl)
    names, nats, paths, columns = [], [], [], []
    for index in order_by_kl(information)[:limit]:
        more, labels, captions = _paths_of(variables[index], mean, variance)
        names, paths, columns = [*names, *labels], [*paths, *more], [*columns, captions]
        nats += [information[index]] * len(more)
    names, paths, nats = names[:limit], paths[:limit], nats[:limit]
    codes = np.full((len(paths), max(len(path) for path in paths), mean.shape[-1]), np.nan, np.float32)
    for row, path in zip(codes, paths, strict=True):
        row[: len(path)] = path
    shared = columns[0] if all(captions == columns[0] for captions in columns) else ()
    return TraversalPaths(codes, tuple(names), None if kl is None else np.array(nats), shared)


def condition_paths(
    conditions: Sequence[ConditionRange], base: ArrayLike, points: int = CONDITION_POINTS, *, limit: int = MOST_PATHS
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Conditions of one example with one moved at a time: a real number from ``low`` to ``high``, an attribute from 0 to 1.

    Args:
      conditions: of the data, m of them.
      base: [m], to start from.
      points: values of a real number.
      limit: most conditions that are moved.
    Returns: conditions [r, t, m], NaN where an attribute has fewer values than t, and a name for each row.
    Raises: ValueError for another shape of ``base``.
    Example:
      >>> from vaex.data.conditions import Condition
      >>> paths, names = condition_paths([Condition("glasses", True), Condition("age", low=20.0, high=60.0)], [1.0, 33.0], 3)
      >>> names, paths[:, :, 0].tolist(), paths[1, :, 1].tolist()
      (('glasses: 0, 1', 'age: 20 to 60'), [[0.0, 1.0, nan], [1.0, 1.0, 1.0]], [20.0, 40.0, 60.0])
    """
    if np.shape(base) != (len(conditions),):
        raise ValueError(f"condition_paths: base has shape {np.shape(base)}, expected ({len(conditions)},)")
    moved = conditions[:limit]
    length = 2 if all(condition.binary for condition in moved) else points
    paths = np.tile(np.asarray(base, np.float32), (len(moved), length, 1))
    for index, condition in enumerate(moved):
        paths[index, :, index] = np.linspace(condition.low, condition.high, length)
        if condition.binary:
            paths[index, :2, index], paths[index, 2:] = (0.0, 1.0), np.nan
    spans = ("0, 1" if each.binary else f"{each.low:.3g} to {each.high:.3g}" for each in moved)
    return paths, tuple(f"{each.name}: {span.replace('-', '−')}" for each, span in zip(moved, spans, strict=True))


def decode_paths(decode: DecodeCodes, codes: np.ndarray) -> np.ndarray:
    """Decode codes (or conditions) [r, t, d] of paths to images [r, t, ...], NaN where they are NaN; ``decode`` is called once."""
    present = np.isfinite(codes).all(axis=-1)
    decoded = np.asarray(decode(codes[present]))
    images = np.full((*codes.shape[:2], *decoded.shape[1:]), np.nan, np.float32)
    images[present] = decoded
    return images


def _paths_of(
    variable: LatentVariable, mean: np.ndarray, variance: np.ndarray
) -> tuple[list[np.ndarray], list[str], tuple[str, ...]]:
    """Return the paths [t, d] along one latent, their names, and captions of their points."""
    base = mean[0]
    if variable.kind == "categorical":
        path = np.tile(base, (variable.stop - variable.start, 1))
        path[:, variable.start : variable.stop] = np.eye(variable.stop - variable.start)
        return [path], [variable.name], tuple(map(str, range(len(path))))
    if variable.kind == "sphere":
        paths = []
        for circle in great_circles(variable.select(mean)):
            path = np.tile(base, (len(circle), 1))
            path[:, variable.start : variable.stop] = circle
            paths.append(path)
        return paths, [f"circle {index}" for index in range(len(paths))], tuple(f"{angle}°" for angle in DEGREES)
    if variable.kind == "code":
        return _paths_of_codes(variable, mean)
    if (registered := registered_kind(variable.kind)) is not None:
        points = np.asarray(registered.path(variable.select(mean)))
        path = np.tile(base, (len(points), 1))
        path[:, variable.start : variable.stop] = points
        return [path], [variable.name], ()
    values = traversal_values()
    captions = tuple(f"{value:.3g}".replace("-", "−") for value in values)
    location, scale = location_and_scale(variable, mean, variance)
    values = location + scale * values
    return [*latent_traversals(lambda z: z, base, [variable.start], values)], [variable.name], captions


def _paths_of_codes(variable: LatentVariable, codes: np.ndarray) -> tuple[list[np.ndarray], list[str], tuple[str, ...]]:
    """Return paths as ``_paths_of`` does: some places of a block of integers, each through its most frequent codes."""
    size = variable.stop - variable.start
    places = np.unique(variable.start + ((np.arange(CODE_PLACES) + 0.5) * size / CODE_PLACES).astype(int))
    paths = []
    for place in places:
        values, counts = np.unique(codes[:, place], return_counts=True)
        frequent = values[np.argsort(-counts, kind="stable")][:CODES_PER_PLACE]
        path = np.tile(codes[0], (len(frequent), 1))
        path[:, place] = frequent
        paths.append(path)
    return paths, [f"code {place}" for place in places], ()


def great_circles(codes: np.ndarray) -> np.ndarray:
    """Great circles [d - 1, 12, d] through the first of ``codes`` [n, d], along the principal directions of all around it."""
    directions = codes / np.linalg.norm(codes, axis=-1, keepdims=True)
    start = directions[0]
    across = directions - (directions @ start)[:, None] * start
    # the start, weighted far above the rest, is the first singular vector: the others are orthogonal to it
    weighted = np.concatenate([2.0 * len(directions) * start[None], across])
    tangents = np.linalg.svd(weighted)[2][1:]
    angles = np.deg2rad(DEGREES)[:, None]
    return np.cos(angles) * start + np.sin(angles) * tangents[:, None]
