"""Drawing of figure records (``vaex.plots.records``) to PNG files.

matplotlib is imported when the first figure is drawn. Only its object-oriented interface is used, which changes no global state:
figures can be drawn in several threads, and beside a user's own plots.
"""

from __future__ import annotations

import io
import os
import pathlib
from typing import TYPE_CHECKING, Any

from vaex.files import atomic_path
from vaex.plots.records import Bars, Chart, Curves, FigureRecord, Grid, Scatter

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = ["Bars", "Chart", "Curves", "FigureRecord", "Grid", "Scatter", "draw", "save"]


def draw(figure: FigureRecord) -> matplotlib.figure.Figure:
    """Draw a figure record with matplotlib.

    Every value of a ``Grid`` becomes a square block of pixels: one channel in grey, three or more as the first three in
    RGB, two as the first in grey; the title then says which are drawn. Values are clipped to [0, 1]. A single value that is not
    finite is drawn in red, and an image that is NaN throughout is left white.

    Args:
      figure: a record, or a sequence of ``Curves``, ``Bars`` and ``Scatter``, which become panels of one figure.
    Returns: a figure of matplotlib with an Agg canvas.
    Raises: ValueError where there is nothing to draw or shapes disagree; TypeError for anything but a figure record.
    Example:
      >>> drawn = draw(Bars([1.5, 0.25], labels=("z1", "z0"), y_label="KL (nats)"))
      >>> [label.get_text() for label in drawn.axes[0].get_xticklabels()]
      ['z1', 'z0']
    """
    from vaex.plots.charts import draw_panels
    from vaex.plots.images import draw_grid

    if isinstance(figure, Grid):
        return draw_grid(figure)
    panels = _panels(figure)
    if not panels:
        raise ValueError("draw: expected at least one figure, got an empty sequence; leave the figure out")
    return draw_panels(panels)


def save(figure: FigureRecord, path: str | os.PathLike[str]) -> pathlib.Path:
    """Draw a figure record into a PNG file, atomically.

    The figure is rendered first, written beside its destination and then moved there in one operation: no failure and no
    concurrent reader meets half a file. Equal records give equal bytes. Missing folders are created.

    Args:
      figure: as for ``draw``.
      path: a file name that ends in ``.png``; an existing file is replaced.
    Returns: the path.
    Raises: as ``draw``; ValueError for another file type; OSError where the folder cannot be written.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = save(Curves([0, 1, 2], {"elbo": [-90.0, -60.0, -55.0]}), folder + "/curves.png")
      ...     path.read_bytes()[1:4]
      b'PNG'
    """
    path = pathlib.Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"save: path is {str(path)!r}, expected a name that ends in .png; rename it")
    drawn = draw(figure)
    buffer = io.BytesIO()
    canvas: Any = drawn.canvas
    canvas.print_png(buffer, metadata={"Software": None})
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    return path


def _panels(figure: FigureRecord) -> list[Chart]:
    """Return the charts of ``figure``; a record is a tuple itself, so it is tested for first."""
    if isinstance(figure, Chart):
        return [figure]
    panels: list[Any] = list(figure) if type(figure) in (list, tuple) else [figure]
    for panel in panels:
        if not isinstance(panel, Chart):
            raise TypeError(
                f"draw: got {type(panel).__name__}, expected Grid, Curves, Bars, Scatter or a list of the last three; "
                "draw each Grid in a figure of its own"
            )
    return panels
