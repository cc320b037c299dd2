"""Figure records: plain arrays and labels, drawn by ``vaex.plots``, so that a model never imports a plotting library.

Arrays are NumPy's, jax's or nested lists. Labels are plain text: ``$`` and ``_`` have no special meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from numpy.typing import ArrayLike


class Grid(NamedTuple):
    """Rows of images ``[rows, columns, h, w, c]`` in [0, 1], with optional labels.

    ``row_labels``, ``column_labels``: one per row and column, or (). An image that is NaN throughout is an empty place.
    """

    images: ArrayLike
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    title: str = ""


class Curves(NamedTuple):
    """Lines over a common ``x`` [n].

    ``lines``: name -> [n]; what is not finite is a gap. ``bands``: name of a line -> its lower and upper edge, [n] each.
    ``marks``: name of a line -> x and y [m] of points drawn in its colour and joined by dashes.
    """

    x: ArrayLike
    lines: Mapping[str, ArrayLike]
    x_label: str = ""
    y_label: str = ""
    title: str = ""
    bands: Mapping[str, tuple[ArrayLike, ArrayLike]] = {}
    marks: Mapping[str, tuple[ArrayLike, ArrayLike]] = {}


class Bars(NamedTuple):
    """One bar per entry of ``heights`` [n], in the order given.

    ``labels``: one per bar, or (). ``errors``: half the length of each bar's error bar [n], or (); 0 draws none.
    """

    heights: ArrayLike
    labels: tuple[str, ...] = ()
    x_label: str = ""
    y_label: str = ""
    title: str = ""
    errors: ArrayLike = ()


class Scatter(NamedTuple):
    """Points ``[n, 2]``, coloured by integer ``labels`` [n] where given; a negative label is unlabelled.

    ``paths``: name -> curves [r, t, 2] of one colour over the points.
    """

    points: ArrayLike
    labels: ArrayLike | None = None
    x_label: str = ""
    y_label: str = ""
    title: str = ""
    paths: Mapping[str, ArrayLike] = {}


Chart = Curves | Bars | Scatter
FigureRecord = Grid | Chart | Sequence[Chart]  # several charts are panels of one figure
