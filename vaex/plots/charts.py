"""Curves, bars and points, alone or as panels of one figure. Legends stand outside the axes, where no data are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vaex.plots import style
from vaex.plots.checks import check_chart
from vaex.plots.records import Bars, Chart, Curves, Scatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    Legend = tuple[list[Line2D], list[str]]  # handles, and the name of each

LEGEND_LINE = 22  # pixels per entry of a legend; where lines are too many for it, every second, third, ... is named
UNLABELLED = "#cbd2d9"


def draw_panels(panels: Sequence[Chart]) -> Figure:
    """Draw charts side by side, up to three in a row; see ``vaex.plots.draw``.

    Panels of curves with the same names share one legend.

    Raises: ValueError where a chart is empty or its arrays disagree.
    Example:
      >>> figure = draw_panels([Curves([1, 2], {"a": [0.0, 1.0], "b": [1.0, 0.0]}), Bars([2.0, 1.0])])
      >>> len(figure.axes), [text.get_text() for text in figure.axes[0].get_legend().texts]
      (2, ['a', 'b'])
    """
    for panel in panels:
        check_chart(panel)
    count = len(panels)
    columns = count if count <= 3 else 2 if count == 4 else 3
    rows = -(-count // columns)
    width, height = _panel_size(panels[0]) if count == 1 else (500, 360)
    shared = _with_shared_legend(panels)
    legends = [_legend_width(panel) for panel in panels]
    beside_panels = [0 if at in shared else width for at, width in enumerate(legends)]
    beside = sum(max(beside_panels[column::columns]) for column in range(columns))
    beside += max((legends[at] for at in shared), default=0)
    figure = style.new_figure(columns * width + beside, rows * height, layout="constrained")
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=10 / style.DPI, h_pad=10 / style.DPI, wspace=0.03, hspace=0.05)
    for position, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, position + 1)
        style.style_axes(axes, title=panel.title, x_label=panel.x_label, y_label=panel.y_label)
        handles, labels = _DRAWERS[type(panel)](axes, panel, width)
        if position not in shared:
            _add_legend(axes, handles, labels, height - 60, loc="upper left", bbox_to_anchor=(1.01, 1.0))
        elif position == shared[0]:
            _add_legend(figure, handles, labels, rows * height - 4, loc="outside right upper")
    return figure


def _with_shared_legend(panels: Sequence[Chart]) -> list[int]:
    """Return the positions of panels of curves that share one legend: all that have several lines, if their names agree."""
    names = {at: tuple(panel.lines) for at, panel in enumerate(panels) if isinstance(panel, Curves)}
    several = {at: lines for at, lines in names.items() if len(lines) > 1}
    return list(several) if len(several) > 1 and len(set(several.values())) == 1 else []


def _panel_size(panel: Chart) -> tuple[int, int]:
    """Width and height in pixels of a chart that is alone in its figure, without its legend."""
    if isinstance(panel, Bars):
        return int(np.clip(140 + 44 * len(np.asarray(panel.heights)), 560, 1500)), 480
    return (780, 720) if isinstance(panel, Scatter) else (920, 540)


def _legend_width(panel: Chart) -> int:
    """Width in pixels that a legend needs beside the axes."""
    if isinstance(panel, Curves) and len(panel.lines) > 1:
        return style.text_size(map(str, panel.lines), style.TICK)[0] + 84
    return 120 if isinstance(panel, Scatter) and panel.labels is not None else 0


def _add_legend(parent: Figure | Axes, handles: list[Line2D], labels: list[str], height: int, **position: Any) -> None:
    """Add a legend beside ``parent``, at most ``height`` pixels high."""
    if not labels:
        return
    room = max(2, height // LEGEND_LINE)
    every = 1 if len(labels) <= room else -(-len(labels) // (room - 1))
    title = f"{len(labels[::every])} of {len(labels)}, in order" if every > 1 else None
    look = {"fontsize": style.TICK, "title_fontsize": style.TICK, "labelcolor": style.INK, "frameon": False}
    space = {"borderaxespad": 0.3, "handlelength": 1.4, "labelspacing": 0.35, "alignment": "left"}
    legend = parent.legend(handles[::every], labels[::every], title=title, **look, **space, **position)
    legend.get_title().set_color(style.MUTED)
    for text in legend.get_texts():
        text.set_parse_math(False)
    for line in legend.get_lines():
        line.set_linewidth(2.0)


def _draw_curves(axes: Axes, curves: Curves, panel_width: int) -> Legend:
    """Draw lines, thinner the more there are; a value between two gaps is a dot."""
    count = len(curves.lines)
    x = np.asarray(curves.x, np.float64)
    weight = 1.6 if count <= 4 else 1.2 if count <= 10 else 0.9
    handles, nothing = [], True
    for (name, line), color in zip(curves.lines.items(), style.colors(count), strict=True):
        y = _finite(line)
        there = np.isfinite(y)
        nothing &= not there.any()
        if name in curves.bands:
            low, high = (_finite(edge) for edge in curves.bands[name])
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        if name in curves.marks:
            mark_x, mark_y = (np.asarray(part, np.float64) for part in curves.marks[name])
            nothing &= not np.isfinite(mark_y).any()
            axes.plot(
                mark_x, mark_y, color=color, linewidth=weight, linestyle="--", marker="o", markersize=2.5 + weight
            )
        handles += axes.plot(x, y, color=color, linewidth=weight, linestyle="-", marker="", solid_joinstyle="round")
        padded = np.concatenate([[False], there, [False]])
        alone = there & ~padded[:-2] & ~padded[2:]
        if alone.any():
            axes.plot(x[alone], y[alone], color=color, linestyle="", marker="o", markersize=2.5 + weight)
    axes.margins(x=0.01, y=0.06)
    if nothing:
        _write_centred(axes, "no finite values")
    return (handles, [str(name) for name in curves.lines]) if count > 1 else ([], [])


def _draw_bars(axes: Axes, bars: Bars, panel_width: int) -> Legend:
    """Draw bars of one colour; wide labels are turned, and of many only every second, third, ... is written."""
    heights = _finite(bars.heights)
    count = len(heights)
    positions = np.arange(count)
    there = np.isfinite(heights)
    axes.bar(positions[there], heights[there], width=0.78, color=style.PALETTE[0], linewidth=0)
    errors = np.asarray(bars.errors, np.float64)
    known = there & (errors > 0) & np.isfinite(errors) if errors.size else np.zeros(count, bool)
    if known.any():
        look = {"color": style.INK, "linestyle": "", "linewidth": 1.2, "capsize": 3.0}
        axes.errorbar(positions[known], heights[known], yerr=errors[known], **look)
    axes.axhline(0.0, color=style.MUTED, linewidth=0.6)
    axes.grid(False, axis="x")
    axes.set_xlim(-0.6, count - 0.4)
    axes.margins(y=0.06)
    for position in positions[~there]:
        axes.text(position, 0.0, "nan", color=style.ALARM, fontsize=style.TICK - 1, ha="center", va="bottom")
    if bars.labels:
        slot = 0.82 * panel_width / count
        lines = [label.split("\n") for label in bars.labels]
        width, line = style.text_size([text for label in lines for text in label], style.TICK)
        turned = width + 6 > slot
        step = max(1, int(np.ceil(line * max(map(len, lines)) / slot))) if turned else 1
        axes.set_xticks(positions[::step], list(bars.labels)[::step], rotation=90 if turned else 0, parse_math=False)
        axes.tick_params(axis="x", length=0)
    else:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    return [], []


def _draw_scatter(axes: Axes, scatter: Scatter, panel_width: int) -> Legend:
    """Draw points in the order given, so that no label covers all others; equal units where the ranges are alike."""
    points = _finite(scatter.points)
    there = np.isfinite(points).all(axis=1)
    count = max(1, int(there.sum()))
    look = {"s": float(np.clip(14000 / count, 6, 36)), "alpha": 0.85 if count < 1000 else 0.7, "linewidths": 0}
    handles, names = [], []
    if scatter.labels is None:
        axes.scatter(*points[there].T, color=style.PALETTE[0], **look)
    else:
        labels = np.asarray(scatter.labels)
        known = [int(label) for label in np.unique(labels) if label >= 0]
        table = dict(zip(known, style.colors(len(known)), strict=True))
        colors = [table.get(int(label), UNLABELLED) for label in labels[there]]
        axes.scatter(*points[there].T, c=colors, **look)
        for label in known:
            handles += axes.plot([], [], color=table[label], linestyle="", marker="o", markersize=5)
            names.append(str(label))
        if (labels < 0).any():
            handles += axes.plot([], [], color=UNLABELLED, linestyle="", marker="o", markersize=5)
            names.append("unlabelled")
    for (name, curves), color in zip(scatter.paths.items(), style.colors(len(scatter.paths) + 1)[1:], strict=True):
        lines = [axes.plot(*curve.T, color=color, linewidth=1.8)[0] for curve in _finite(curves)]
        handles, names = [*handles, *lines[:1]], [*names, name]
    axes.margins(0.04)
    if not there.any():
        _write_centred(axes, "no finite values")
    else:
        spread = np.ptp(points[there], axis=0)
        if (spread > 0).all() and 0.25 < spread[0] / spread[1] < 4.0:
            axes.set_aspect("equal", adjustable="datalim")
    return handles, names


def _finite(values: ArrayLike) -> np.ndarray:
    """Return float64 with NaN for whatever is not finite: matplotlib leaves gaps for NaN only."""
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _write_centred(axes: Axes, text: str) -> None:
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=style.LABEL, color=style.MUTED
    )


_DRAWERS = {Curves: _draw_curves, Bars: _draw_bars, Scatter: _draw_scatter}
