"""Grids of images: composed as one array of pixels, then shown one to one, so that nothing is resampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vaex.plots import style
from vaex.plots.checks import checked_images, titled
from vaex.plots.records import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST_IMAGE = 256  # pixels; larger images are averaged down
LARGEST_FIGURE = 60_000  # pixels on a side; the renderer's own limit is 2**16


def draw_grid(grid: Grid) -> Figure:
    """Draw rows of images with their labels; see ``vaex.plots.draw``.

    Raises: ValueError for a wrong shape, no images, a wrong number of labels, or a figure beyond 60,000 pixels.
    Example:
      >>> figure = draw_grid(Grid(np.zeros((2, 5, 8, 8, 1)), row_labels=("original", "reconstruction")))
      >>> [text.get_text() for text in figure.texts]
      ['original', 'reconstruction']
    """
    from matplotlib import rcParams

    images, title = checked_images(grid), titled(grid)
    rows, columns = images.shape[:2]
    images = shrink(images, LARGEST_IMAGE)
    height, width = images.shape[2:4]
    scale = pixels_per_value(height, width, rows, columns)
    gap = max(2, round(0.055 * scale * min(height, width)))
    canvas = compose(images, scale, gap)

    margin, space = 16, 10  # pixels around the images, and between images and text
    label_width, line = style.text_size(grid.row_labels, style.TICK)
    column_width, column_line = style.text_size(grid.column_labels, style.TICK)
    title_width, title_line = style.text_size([title] if title else [], style.TITLE)
    pitch = (scale * width + gap, scale * height + gap)
    turned = column_width > pitch[0] - gap
    left = margin + (label_width + space if grid.row_labels else 0)
    above = margin + (title_line + space if title else 0)
    above += (column_width if turned else column_line) + space if grid.column_labels else 0
    total = (left + max(canvas.shape[1], title_width) + margin, above + canvas.shape[0] + margin)
    if max(total) > LARGEST_FIGURE:
        raise ValueError(
            f"draw: Grid would be {total[0]} x {total[1]} pixels, expected at most {LARGEST_FIGURE}; give fewer images"
        )

    figure = style.new_figure(*total)
    # notebooks show no figure without axes, and crop it to these and a padding
    edge = style.DPI * rcParams["savefig.pad_inches"]
    size = (edge / total[0], edge / total[1], 1.0 - 2.0 * edge / total[0], 1.0 - 2.0 * edge / total[1])
    figure.add_axes(size).set_axis_off()
    figure.figimage(canvas, xo=left, yo=margin, origin="upper")  # pixel by pixel: axes would resample in some versions

    def write(x: float, y: float, text: str, **options) -> None:
        """Place ``text`` at pixels from the left and from the top."""
        figure.text(x / total[0], 1.0 - y / total[1], text, parse_math=False, **{"color": style.INK, **options})

    if title:
        write(left, margin + title_line, title, fontsize=style.TITLE, va="bottom")
    small = {"fontsize": style.TICK, "color": style.MUTED}
    for row, text in _every(grid.row_labels, line, pitch[1]):
        write(left - space, above + (row + 0.5) * pitch[1] - gap / 2, text, ha="right", va="center_baseline", **small)
    for column, text in _every(grid.column_labels, column_line if turned else 0, pitch[0]):
        at = left + (column + 0.5) * pitch[0] - gap / 2
        write(at, above - space // 2, text, ha="center", va="bottom", rotation=90 if turned else 0, **small)
    return figure


def pixels_per_value(height: int, width: int, rows: int, columns: int) -> int:
    """Number of screen pixels per image value: about 112 pixels an image, fewer where there are many.

    Example:
      >>> pixels_per_value(8, 8, 2, 10), pixels_per_value(28, 28, 2, 10), pixels_per_value(64, 64, 2, 10)
      (14, 4, 2)
      >>> pixels_per_value(8, 8, 20, 20)
      8
    """
    target = min(112.0, max(1280.0 / columns, 40.0), max(2400.0 / rows, 48.0))
    return max(1, round(target / max(height, width)))


def compose(images: np.ndarray, scale: int, gap: int) -> np.ndarray:
    """One RGB image of ``images`` [rows, columns, h, w, 1 or 3], with white gaps of ``gap`` pixels between them.

    Every value is a block of ``scale`` times ``scale`` pixels.

    Returns: uint8 [rows * (scale h + gap) - gap, columns * (scale w + gap) - gap, 3].
    Example:
      >>> compose(np.array([[[[[0.0]]], [[[1.0]]]]]), scale=1, gap=1)[..., 0]
      array([[  0, 255, 255]], dtype=uint8)
    """
    rows, columns, height, width, _ = images.shape
    missing = ~np.isfinite(images).all(axis=-1)
    empty = np.all(missing, axis=(2, 3))
    pixels = np.broadcast_to(np.where(np.isfinite(images), images, 0.0), (*images.shape[:4], 3))
    pixels = np.round(255.0 * np.clip(pixels, 0.0, 1.0)).astype(np.uint8)
    alarm = tuple(int(style.ALARM[start : start + 2], 16) for start in (1, 3, 5))
    pixels[missing] = alarm
    pixels[empty] = 255
    pixels = pixels.repeat(scale, axis=2).repeat(scale, axis=3)
    canvas = np.full((rows, scale * height + gap, columns, scale * width + gap, 3), 255, np.uint8)
    canvas[:, : scale * height, :, : scale * width] = pixels.transpose(0, 2, 1, 3, 4)
    canvas = canvas.reshape(rows * (scale * height + gap), columns * (scale * width + gap), 3)
    return canvas[:-gap, :-gap]


def shrink(images: np.ndarray, side: int) -> np.ndarray:
    """Average blocks of [..., h, w, c] images so that neither side exceeds ``side``; smaller ones stay as they are.

    Example:
      >>> shrink(np.arange(4.0).reshape(1, 4, 1), 2)[0, :, 0]
      array([0.5, 2.5])
    """
    factor = -(-max(images.shape[-3:-1]) // side)
    for axis in (-3, -2):
        if factor > 1:
            starts = np.arange(0, images.shape[axis], factor)
            counts = np.diff([*starts, images.shape[axis]])
            shape = [-1 if at == axis else 1 for at in range(-images.ndim, 0)]
            images = np.add.reduceat(images, starts, axis=axis) / counts.reshape(shape)
    return images


def _every(labels: tuple[str, ...], needed: float, pitch: float) -> list[tuple[int, str]]:
    """Return the labels that fit, with their positions: each, or every so many where one needs more pixels than ``pitch``."""
    return list(enumerate(labels))[:: max(1, int(np.ceil(needed / pitch)))]
