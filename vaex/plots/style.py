"""The style that all figures share: colours, font sizes, resolution, and the size of text before it is placed."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    Color = str | tuple[float, float, float, float]  # hexadecimal, or RGBA in [0, 1]

DPI = 144
TITLE, LABEL, TICK = 10.5, 9.0, 8.0  # points
INK, MUTED, HAIRLINE, ALARM = "#1f2933", "#616e7c", "#e4e7eb", "#d64545"
PALETTE = (
    "#3b6ea8",
    "#d98032",
    "#4a9a6c",
    "#b94f52",
    "#7a68ae",
    "#3c9ba8",
    "#c7789f",
    "#8a6a55",
    "#a3a13a",
    "#7b8794",
)


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """A white figure of ``width`` times ``height`` pixels with an Agg canvas, outside pyplot.

    Example:
      >>> figure = new_figure(300, 200)
      >>> figure.canvas.get_width_height()
      (300, 200)
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The canvas rounds down; a thousandth of a pixel keeps 299.9999 from becoming 299.
    size = ((width + 1e-3) / DPI, (height + 1e-3) / DPI)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", edgecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


def text_size(texts: Iterable[str], size: float) -> tuple[int, int]:
    """Width of the widest of ``texts`` and height of a line, in pixels, at ``size`` points.

    Example:
      >>> text_size(["z3", "z3  KL 1.42"], 8)[0] > text_size(["z3"], 8)[0] > 0
      True
      >>> text_size([], 8)
      (0, 0)
    """
    from matplotlib.font_manager import FontProperties

    canvas: Any = new_figure(8, 8).canvas
    renderer, font = canvas.get_renderer(), FontProperties(size=size)
    boxes = [renderer.get_text_width_height_descent(text, font, ismath=False)[:2] for text in (*texts, "Hg")][:-1]
    line = renderer.get_text_width_height_descent("Hg", font, ismath=False)[1]
    return (int(np.ceil(max(box[0] for box in boxes))), int(np.ceil(line))) if boxes else (0, 0)


def colors(count: int) -> list[Color]:
    """Return ``count`` distinct colours: the palette while it lasts, then an ordered map from violet to yellow-green.

    Example:
      >>> colors(2)
      ['#3b6ea8', '#d98032']
      >>> len(set(colors(16)))
      16
    """
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    return [ordered_colors()(position) for position in np.linspace(0.0, 1.0, count)]


@functools.cache
def ordered_colors() -> ListedColormap:
    """Part of viridis that stays visible on white.

    Example:
      >>> ordered_colors().N
      256
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["viridis"](np.linspace(0.0, 0.88, 256)), name="viridis on white")


def style_axes(axes: Axes, *, title: str, x_label: str, y_label: str) -> None:
    """Apply the shared style to ``axes``: two thin spines, a faint grid behind the data, titles at the left.

    Example:
      >>> axes = new_figure(300, 200).add_subplot()
      >>> style_axes(axes, title="KL", x_label="step", y_label="nats")
      >>> axes.get_xlabel(), axes.get_title(loc="left")
      ('step', 'KL')
    """
    axes.set_facecolor("white")
    axes.set_title(title, loc="left", fontsize=TITLE, color=INK, pad=8, parse_math=False)
    axes.set_xlabel(x_label, fontsize=LABEL, color=INK, parse_math=False)
    axes.set_ylabel(y_label, fontsize=LABEL, color=INK, parse_math=False)
    axes.tick_params(which="both", labelsize=TICK, labelcolor=MUTED, color=MUTED, length=3, width=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
        spine.set_linewidth(0.6)
    axes.grid(True, color=HAIRLINE, linewidth=0.7, linestyle="-")
    axes.set_axisbelow(True)
