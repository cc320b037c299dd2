"""Builders of the figure records that every model gets: plain arrays in, ``Grid``, ``Bars`` and ``Curves`` out.

Axes: n images, h w c image, r rows, t columns, d latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vaex.evaluation.latents import order_by_kl
from vaex.plots.records import Bars, Curves, Grid

MOST_MARGINALS = 12  # columns of a table that are drawn

MOST_SLICES = 8  # of a volume, side by side


def reconstruction_grid(
    originals: ArrayLike, reconstructions: ArrayLike, *, columns: int = 10, title: str = "Reconstructions"
) -> Grid:
    """Grid of originals above their reconstructions, in as many pairs of rows as they need.

    Args:
      originals, reconstructions: [n, h, w, c] in [0, 1].
      columns: most pairs in a row.
    Returns: a ``Grid``; places left over in the last rows are NaN, which is left white.
    Raises: ValueError if the shapes differ, are not [n, h, w, c] or n is 0.
    Example:
      >>> grid = reconstruction_grid(np.zeros((12, 8, 8, 1)), np.ones((12, 8, 8, 1)))
      >>> grid.images.shape, grid.row_labels
      ((4, 10, 8, 8, 1), ('original', 'reconstruction', 'original', 'reconstruction'))
    """
    originals = _images("reconstruction_grid", "originals", originals)
    reconstructions = _images("reconstruction_grid", "reconstructions", reconstructions)
    if originals.shape != reconstructions.shape:
        raise ValueError(f"reconstruction_grid: reconstructions have shape {reconstructions.shape}, expected "
                         f"{originals.shape} like originals; pass them in pairs")  # fmt: skip
    columns = min(columns, len(originals))
    pairs = np.stack([_wrap(originals, columns), _wrap(reconstructions, columns)], axis=1)
    rows = len(pairs)
    return Grid(pairs.reshape(2 * rows, *pairs.shape[2:]), ("original", "reconstruction") * rows, title=title)


def sequence_grid(originals: ArrayLike, reconstructions: ArrayLike, *, title: str = "Reconstructions") -> Grid:
    """Grid of sequences, each in a row above its reconstruction.

    Args:
      originals, reconstructions: [n, t, h, w, c] in [0, 1].
    Raises: ValueError if the shapes differ or are not [n, t, h, w, c].
    Example:
      >>> sequence_grid(np.zeros((2, 5, 8, 8, 1)), np.ones((2, 5, 8, 8, 1))).images.shape
      (4, 5, 8, 8, 1)
    """
    pair = np.asarray(originals), np.asarray(reconstructions)
    if pair[0].shape != pair[1].shape or pair[0].ndim != 5:
        raise ValueError(
            f"sequence_grid: originals have shape {pair[0].shape} and reconstructions {pair[1].shape}, expected the same "
            "[n, t, h, w, c]; pass them in pairs"
        )
    images = np.stack(pair, axis=1).reshape(-1, *pair[0].shape[1:])
    columns = tuple(str(time + 1) for time in range(images.shape[1]))
    return Grid(images, ("original", "reconstruction") * len(pair[0]), columns, title)


def sample_grid(images: ArrayLike, *, columns: int | None = None, title: str = "Samples") -> Grid:
    """Grid of images in reading order, in a rectangle about as wide as high.

    Args:
      images: [n, h, w, c] in [0, 1].
      columns: images in a row; by default the smallest divisor of n between its square root and twice that, else the
        square root, rounded up.
    Returns: a ``Grid``; places left over are NaN, which is left white.
    Raises: ValueError unless images are [n, h, w, c] with n > 0.
    Example:
      >>> [sample_grid(np.zeros((n, 8, 8, 1))).images.shape[:2] for n in (64, 40, 7)]
      [(8, 8), (5, 8), (3, 3)]
    """
    images = _images("sample_grid", "images", images)
    if columns is None:
        side = math.ceil(math.sqrt(len(images)))
        columns = next((width for width in range(side, 2 * side + 1) if len(images) % width == 0), side)
    return Grid(_wrap(images, min(columns, len(images))), title=title)


def traversal_grid(
    images: ArrayLike,
    names: Sequence[str],
    kl: ArrayLike | None = None,
    columns: Sequence[str] = (),
    *,
    title: str = "Latent traversals",
) -> Grid:
    """Grid of decoded ``TraversalPaths``, a row per latent, labelled with its name and KL.

    Args:
      images: [r, t, h, w, c] in [0, 1].
      names: [r], name of the latent that each row moves.
      kl: [r], nats per latent; None where they have none.
      columns: [t], labels.
    Returns: a ``Grid``.
    Raises: ValueError for shapes that disagree.
    Example:
      >>> grid = traversal_grid(np.zeros((2, 3, 8, 8, 1)), ["z1", "z0"], kl=[1.42, 0.004], columns=["−3", "0", "3"])
      >>> grid.row_labels, grid.column_labels
      (('z1  KL 1.42', 'z0  KL 0.00'), ('−3', '0', '3'))
    """
    images, sizes = np.asarray(images), None if kl is None else np.asarray(kl).shape
    if images.ndim != 5 or (len(names),) != images.shape[:1] or sizes not in (None, (len(names),)):
        raise ValueError(
            f"traversal_grid: images have shape {images.shape}, with {len(names)} names and kl of shape {sizes}, "
            "expected [r, t, h, w, c], r names and [r]; name the latent of each row"
        )
    if len(columns) not in (0, images.shape[1]):
        raise ValueError(f"traversal_grid: {len(columns)} columns are labelled, expected {images.shape[1]} or none")
    rows = tuple(names)
    if kl is not None:
        rows = tuple(f"{name}  KL {nats:.2f}" for name, nats in zip(rows, np.asarray(kl, np.float64), strict=True))
    return Grid(images, rows, tuple(columns), title)


def manifold_grid(images: ArrayLike, *, title: str = "Latent manifold: z0 to the right, z1 upwards") -> Grid:
    """Grid of the images [num, num, h, w, c] in [0, 1] that ``manifold`` returns.

    Raises: ValueError for another number of axes.
    Example:
      >>> manifold_grid(np.zeros((3, 3, 8, 8, 1))).row_labels
      ()
    """
    images = np.asarray(images)
    if images.ndim != 5:
        raise ValueError(f"manifold_grid: images has shape {images.shape}, expected [num, num, h, w, c]")
    return Grid(images, title=title)


def slices(volumes: ArrayLike, most: int = MOST_SLICES) -> np.ndarray:
    """Return volumes [n, d, h, w, c] as images [n, h, s w, c]: s slices along d, evenly spread, side by side.

    Args:
      volumes: [n, d, h, w, c].
      most: slices of each that are shown.
    Raises: ValueError for another number of axes.
    Example:
      >>> slices(np.zeros((3, 20, 8, 6, 1))).shape
      (3, 8, 48, 1)
    """
    volumes = np.asarray(volumes)
    if volumes.ndim != 5:
        raise ValueError(f"slices: volumes have shape {volumes.shape}, expected [n, d, h, w, c]")
    n, depth, height, width, channels = volumes.shape
    places = np.unique(np.linspace(0, depth - 1, min(most, depth)).round().astype(int))
    return np.moveaxis(volumes[:, places], 1, 2).reshape(n, height, len(places) * width, channels)


def marginals(names: Sequence[str], data: ArrayLike, samples: ArrayLike) -> list[Curves]:
    """Return the cumulative distribution of each column of a table, of the data and of sampled rows: a panel for each.

    Args:
      names: of the columns, the first 12 of which are drawn.
      data: rows [n, d], NaN where missing.
      samples: rows [m, d].
    Raises: ValueError unless both have a column for each name.
    """
    pair = {"data": np.asarray(data), "samples": np.asarray(samples)}
    if any(rows.ndim != 2 or rows.shape[1] != len(names) for rows in pair.values()):
        shapes = " and ".join(str(rows.shape) for rows in pair.values())
        raise ValueError(f"marginals: rows of shapes {shapes}, expected [n, {len(names)}], a column for each name")
    panels = []
    for place, name in enumerate(names[:MOST_MARGINALS]):
        of_column = {label: np.sort(rows[:, place][np.isfinite(rows[:, place])]) for label, rows in pair.items()}
        low, high = np.quantile(np.concatenate([*of_column.values()]), [0.005, 0.995]).tolist()
        grid = np.linspace(low, high, 200)
        shares = {
            label: np.searchsorted(values, grid, side="right") / max(1, len(values))
            for label, values in of_column.items()
        }
        panels.append(Curves(grid, shares, name, "share below", ""))
    return panels


def kl_bars(kl_per_latent: ArrayLike, names: Sequence[str] = (), *, title: str = "KL per latent") -> Bars:
    """Bar chart of the KL per latent, the most informative first.

    Args:
      kl_per_latent: [r], nats, averaged over examples.
      names: [r]; z0, z1, ... by default.
    Returns: ``Bars``.
    Raises: ValueError unless kl_per_latent is [r] with r > 0, and names are as many.
    Example:
      >>> kl_bars([0.1, 2.0]).labels
      ('z1', 'z0')
    """
    kl = np.asarray(kl_per_latent, np.float64)
    if kl.ndim != 1 or kl.size == 0:
        raise ValueError(
            f"kl_bars: kl_per_latent has shape {kl.shape}, expected [d] with d > 0; average over the examples"
        )
    names = tuple(names) or tuple(f"z{latent}" for latent in range(len(kl)))
    if len(names) != len(kl):
        raise ValueError(f"kl_bars: {len(names)} names for {len(kl)} latents, expected one for each")
    order = order_by_kl(kl)
    return Bars(kl[order], tuple(names[latent] for latent in order), "latent", "nats", title)


def _wrap(images: np.ndarray, columns: int) -> np.ndarray:
    """[n, ...] -> [rows, columns, ...] in reading order, filled up with NaN."""
    rows = -(-len(images) // columns)
    filled = np.full((rows * columns, *images.shape[1:]), np.nan, np.float32)
    filled[: len(images)] = images
    return filled.reshape(rows, columns, *images.shape[1:])


def _images(caller: str, name: str, images: ArrayLike) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or images.size == 0:
        raise ValueError(
            f"{caller}: {name} has shape {images.shape}, expected [n, h, w, c] with n > 0; add the channel axis"
        )
    if images.dtype.kind in "ui" and images.max() > 1:
        raise ValueError(f"{caller}: {name} holds {images.dtype} up to {images.max()}, expected values in [0, 1]; "
                         "divide by the largest level")  # fmt: skip
    return images.astype(np.float32)
