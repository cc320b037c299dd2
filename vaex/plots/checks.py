"""Checks of figure records before they are drawn: something to draw, and arrays that agree."""

from __future__ import annotations

import numpy as np

from vaex.plots.records import Bars, Chart, Curves, Grid, Scatter


def checked_images(grid: Grid) -> np.ndarray:
    """Return the images of a grid as float32 [rows, columns, h, w, 1 or 3].

    Raises: ValueError for a wrong number of axes, no images, levels instead of values in [0, 1], or too few labels.
    Example:
      >>> checked_images(Grid(np.zeros((1, 2, 8, 8, 4)))).shape
      (1, 2, 8, 8, 3)
    """
    images = np.asarray(grid.images)
    if images.ndim != 5:
        raise ValueError(
            f"draw: Grid.images has shape {images.shape}, expected [rows, columns, h, w, c]; add the missing axes"
        )
    if images.size == 0:
        raise ValueError(f"draw: Grid.images is empty, shape {images.shape}; give at least one image")
    if images.dtype.kind in "ui" and images.max() > 1:
        raise ValueError(
            f"draw: Grid.images holds {images.dtype} up to {images.max()}, expected values in [0, 1]; "
            "divide by the largest level"
        )
    for name, labels, count in zip(
        ("row", "column"), (grid.row_labels, grid.column_labels), images.shape, strict=False
    ):
        if labels and len(labels) != count:
            raise ValueError(
                f"draw: Grid has {len(labels)} {name}_labels, expected {count}; give one per {name} or none"
            )
    return images[..., : 3 if images.shape[-1] >= 3 else 1].astype(np.float32)


def titled(grid: Grid) -> str:
    """Return the title of a grid, which names the channels that are drawn where images have others too.

    Example:
      >>> titled(Grid(np.zeros((1, 2, 8, 8, 10)), title="Samples"))
      'Samples (channels 1 to 3 of 10, as red, green and blue)'
    """
    channels = np.shape(grid.images)[-1]
    if channels in (1, 3):
        return grid.title
    drawn = "channel 1 of 2" if channels == 2 else f"channels 1 to 3 of {channels}, as red, green and blue"
    return f"{grid.title} ({drawn})".lstrip()


def check_chart(chart: Chart) -> None:
    """Raise ValueError for a chart that is empty, or whose arrays differ in length.

    Example:
      >>> check_chart(Bars([1.0, 2.0], labels=("z0",)))
      Traceback (most recent call last):
      ...
      ValueError: draw: Bars has 1 labels, expected 2; give one per bar or none
    """
    if isinstance(chart, Curves):
        _check_curves(chart)
    elif isinstance(chart, Bars):
        _check_bars(chart)
    else:
        _check_scatter(chart)


def _check_curves(curves: Curves) -> None:
    shape = np.shape(curves.x)
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(
            f"draw: Curves.x has shape {shape}, expected [n] with n > 0; leave the figure out if nothing was recorded"
        )
    if not curves.lines:
        raise ValueError("draw: Curves.lines is empty, expected at least one line; leave the figure out")
    parts = [(f"lines[{name!r}]", line) for name, line in curves.lines.items()]
    for name, (lower, upper) in curves.bands.items():
        if name not in curves.lines:
            known = ", ".join(map(str, curves.lines))
            raise ValueError(f"draw: Curves.bands has {name!r}, expected a name of a line; known: {known}")
        parts += [(f"bands[{name!r}][0]", lower), (f"bands[{name!r}][1]", upper)]
    for name, (mark_x, mark_y) in curves.marks.items():
        if name not in curves.lines or np.shape(mark_x) != np.shape(mark_y) or np.ndim(mark_x) != 1:
            raise ValueError(
                f"draw: Curves.marks[{name!r}] has x and y of shapes {np.shape(mark_x)} and {np.shape(mark_y)}, expected [m] each, "
                f"of one of the lines {', '.join(map(str, curves.lines))}"
            )
    for name, values in parts:
        if np.shape(values) != shape:
            raise ValueError(
                f"draw: Curves.{name} has shape {np.shape(values)}, expected {shape} like x; give one value per x"
            )


def _check_bars(bars: Bars) -> None:
    shape = np.shape(bars.heights)
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"draw: Bars.heights has shape {shape}, expected [n] with n > 0; leave the figure out")
    if bars.labels and len(bars.labels) != shape[0]:
        raise ValueError(f"draw: Bars has {len(bars.labels)} labels, expected {shape[0]}; give one per bar or none")
    if np.size(bars.errors) and np.shape(bars.errors) != shape:
        raise ValueError(
            f"draw: Bars.errors has shape {np.shape(bars.errors)}, expected {shape}; give one per bar or none"
        )


def _check_scatter(scatter: Scatter) -> None:
    shape = np.shape(scatter.points)
    if len(shape) != 2 or shape[1] != 2 or shape[0] == 0:
        raise ValueError(
            f"draw: Scatter.points has shape {shape}, expected [n, 2] with n > 0; project to two dimensions first"
        )
    for name, curves in scatter.paths.items():
        if np.ndim(curves) != 3 or np.shape(curves)[2] != 2:
            raise ValueError(
                f"draw: Scatter.paths[{name!r}] has shape {np.shape(curves)}, expected [r, t, 2]; give curves in the plane"
            )
    if scatter.labels is None:
        return
    labels = np.asarray(scatter.labels)
    if labels.shape != shape[:1] or labels.dtype.kind not in "iub":
        raise ValueError(
            f"draw: Scatter.labels is {labels.dtype} of shape {labels.shape}, expected integers of shape {shape[:1]}"
        )
