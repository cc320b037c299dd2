"""Axes of a user's arrays: which of them are read how, from the flags ``--layout`` and ``--kind``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vaex.data.spec import LAYOUTS
from vaex.errors import UserError, nearest


class Layout(NamedTuple):
    """How the axes of an array are read.

    Attributes:
      kind: of an example: "image", "table" (a vector), "series", "volume" or "sequence" (of images).
      axes: in words, for errors.
      order: of the axes of an example as it is stored, by their place in the array; None for vectors.
      one_channel: whether the last axis of the layout may be left out, for one channel.
    """

    kind: str
    axes: str
    order: tuple[int, ...] | None
    one_channel: bool = False


KNOWN: dict[str, Layout] = {
    "hwc": Layout("image", "[n, h, w, c]", (0, 1, 2, 3), one_channel=True),
    "chw": Layout("image", "[n, c, h, w]", (0, 2, 3, 1)),
    "vector": Layout("table", "[n, ...]", None),
    "tc": Layout("series", "[n, t, c]", (0, 1, 2), one_channel=True),
    "ct": Layout("series", "[n, c, t]", (0, 2, 1)),
    "dhwc": Layout("volume", "[n, d, h, w, c]", (0, 1, 2, 3, 4), one_channel=True),
    "cdhw": Layout("volume", "[n, c, d, h, w]", (0, 2, 3, 4, 1)),
    "thwc": Layout("sequence", "[n, t, h, w, c]", (0, 1, 2, 3, 4), one_channel=True),
}
OF_KIND = {"image": "hwc", "table": "vector", "series": "tc", "volume": "dhwc", "sequence": "thwc"}
ARRAYS = "[n, h, w], [n, h, w, c] or [n, d]"  # what is read without a flag


def layout_of(layout: str, kind: str) -> str:
    """Return the layout that the flags ``--layout`` and ``--kind`` name together.

    Args:
      layout: one of ``LAYOUTS``.
      kind: "auto", or a key of ``OF_KIND``, which stands for its layout.
    Raises: UserError for unknown names, and for a layout of another kind.
    Example:
      >>> layout_of("auto", "volume"), layout_of("ct", "series"), layout_of("auto", "auto")
      ('dhwc', 'ct', 'auto')
    """
    if layout not in LAYOUTS:
        raise UserError(f"--layout={layout}: {nearest(str(layout), LAYOUTS)}")
    if kind not in ("auto", *OF_KIND):
        raise UserError(f"--kind={kind}: {nearest(str(kind), ('auto', *OF_KIND))}")
    if kind == "auto":
        return layout
    if layout == "auto":
        return OF_KIND[kind]
    if KNOWN[layout].kind != kind:
        raise UserError(f"--layout={layout} is for --kind={KNOWN[layout].kind}, not for {kind}; give one of the two")
    return layout


def is_volume(layout: str) -> bool:
    """Tell whether examples of a layout are volumes.

    Example:
      >>> is_volume("cdhw"), is_volume("thwc")
      (True, False)
    """
    return layout in KNOWN and KNOWN[layout].kind == "volume"


def arranged(where: str, values: np.ndarray, layout: str) -> np.ndarray:
    """Return a user's array as examples are stored, without copying or checking its values.

    Stored are vectors [n, d], series [n, t, c], images [n, h, w, c], volumes [n, d, h, w, c] and sequences [n, t, h, w, c].

    Args:
      where: named in errors.
      values: the array.
      layout: how its axes are read; images, series, volumes and sequences of one channel may lack the axis of channels.
        "auto" reads two axes as vectors, and three or four as images. It refuses five, and four that look like channels first
        (``_looks_channels_first``).
    Raises: UserError where the axes do not fit the layout, or tell of another one.
    Example:
      >>> arranged("a.npz: x", np.zeros([5, 3, 8, 9]), "chw").shape, arranged("a.npz: x", np.zeros([5, 4, 6]), "vector").shape
      ((5, 8, 9, 3), (5, 24))
      >>> arranged("a.npz: x", np.zeros([5, 30, 2]), "tc").shape, arranged("a.npz: x", np.zeros([5, 8, 8, 8]), "dhwc").shape
      ((5, 30, 2), (5, 8, 8, 8, 1))
    """
    if values.size == 0:
        return values  # which ``values.check`` refuses
    if layout == "vector":
        if isinstance(values, np.memmap) and not values.flags.c_contiguous:
            raise UserError(
                f"{where} is stored in Fortran order, so that --layout=vector would read all of it into the memory; store "
                "np.ascontiguousarray(x)"
            )
        return values.reshape(len(values), -1) if values.ndim > 1 else values
    if layout == "auto":
        return _chosen(where, values)
    known = KNOWN[layout]
    assert known.order is not None
    if known.one_channel and values.ndim == len(known.order) - 1:
        return values[..., None]
    if values.ndim != len(known.order):
        shorter = f" or {known.axes.removesuffix(', c]')}]" if known.one_channel else ""
        raise UserError(
            f"--layout={layout}: {where} has shape {values.shape}, expected {known.axes}{shorter}; leave the flag out"
        )
    return values.transpose(known.order)


def _chosen(where: str, values: np.ndarray) -> np.ndarray:
    """Return an array whose axes no flag names: as vectors or images; UserError where they look like something else."""
    shape = values.shape
    if values.ndim == 5:
        raise UserError(
            f"{where} has shape {shape}, which may be volumes [n, d, h, w, c], --kind=volume, or sequences of images "
            "[n, t, h, w, c], --kind=sequence; --layout=vector reads each example as a vector"
        )
    if values.ndim == 4 and _looks_channels_first(shape):
        raise UserError(
            f"{where} has shape {shape}, which looks like [n, c, h, w]: --layout=chw reads {shape[1]} channels of "
            f"{shape[2]}x{shape[3]}, --layout=hwc {shape[3]} channels of {shape[1]}x{shape[2]}, --kind=volume volumes of one "
            "channel, --layout=vector vectors"
        )
    return values[..., None] if values.ndim == 3 else values


def _looks_channels_first(shape: tuple[int, ...]) -> bool:
    """Tell whether [n, a, b, c] looks like [n, c, h, w]: more than four "channels", and more than rows, or b x c a square."""
    return shape[3] > 4 and (shape[1] < shape[3] or shape[1] != shape[2] == shape[3])
