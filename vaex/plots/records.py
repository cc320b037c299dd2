"""Figure records: plain arrays and labels, drawn by ``vaex.plots``, so that a model never imports a plotting library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Grid(NamedTuple):
    """Rows of images ``[rows, columns, h, w, c]`` in [0, 1], with optional labels."""

    images: Any
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    title: str = ""


class Curves(NamedTuple):
    """Lines over a common ``x`` [n]: name -> [n]. ``bands``: name -> ([n], [n]) lower and upper."""

    x: Any
    lines: Mapping[str, Any]
    x_label: str = ""
    y_label: str = ""
    title: str = ""
    bands: Mapping[str, Any] = {}


class Bars(NamedTuple):
    """One bar per entry of ``heights`` [n]."""

    heights: Any
    labels: tuple[str, ...] = ()
    x_label: str = ""
    y_label: str = ""
    title: str = ""


class Scatter(NamedTuple):
    """Points ``[n, 2]``, coloured by integer ``labels`` [n] where given."""

    points: Any
    labels: Any = None
    x_label: str = ""
    y_label: str = ""
    title: str = ""
