"""Draws the figure records of ``vaex.core`` to PNG files.

matplotlib is imported when the first figure is drawn, and only its object-oriented interface is used: no global state
is changed, so that figures can be drawn in several threads and beside a user's own plots.
"""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vaex.files import atomic_path
from vaex.plots.records import Bars, Curves, Grid, Scatter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "save"]

Chart = Curves | Bars | Scatter


def draw(figure: Grid | Chart | Sequence[Chart]) -> Figure:
    """Draws a figure record.

    A ``Grid`` is drawn with every value as a square block of pixels: one channel in grey, three or more as the first
    three in RGB, two as the first in grey. Values are clipped to [0, 1]; an image that is NaN throughout is an empty
    place, and a single value that is not finite is drawn in red. In ``Curves``, what is not finite is a gap. ``Bars``
    stand in the order given. Labels are plain text: ``$`` and ``_`` have no special meaning.

    Args:
      figure: a record, or a sequence of ``Curves``, ``Bars`` and ``Scatter``, which become panels of one picture.
    Returns: a matplotlib figure with an Agg canvas; ``save`` writes it.
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
        raise ValueError("draw: expected at least one figure, got an empty sequence; leave the picture out")
    return draw_panels(panels)


def save(figure: Grid | Chart | Sequence[Chart], path: str | os.PathLike[str]) -> pathlib.Path:
    """Draws a figure record into a PNG file, whole or not at all.

    The picture is rendered first, written beside its destination and then moved there in one operation, so that neither
    a failure nor a reader at the wrong moment meets half a file. Equal records give equal bytes. Missing folders are
    made.

    Args:
      figure: as for ``draw``.
      path: a file name that ends in ``.png``; an existing file is replaced.
    Returns: the path.
    Raises: as ``draw``; ValueError for another ending; OSError where the folder cannot be written.
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


def _panels(figure: Any) -> list[Chart]:
    """The charts of ``figure``; records are tuples themselves, so they are told apart first."""
    if isinstance(figure, Chart):
        return [figure]
    panels: list[Any] = list(figure) if type(figure) in (list, tuple) else [figure]
    for panel in panels:
        if not isinstance(panel, Chart):
            raise TypeError(
                f"draw: got {type(panel).__name__}, expected Grid, Curves, Bars, Scatter or a list of the last three; "
                "draw each Grid as a picture of its own"
            )
    return panels
