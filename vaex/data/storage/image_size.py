"""Image sizes: what ``--image_size`` takes, and cropping and resizing to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaex.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

LARGEST = 4096  # pixels of a side


def checked_size(image_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Return height and width, given one side, or height and width; None for None.

    Raises: UserError for anything else.
    Example:
      >>> checked_size(64), checked_size((64, 48)), checked_size(None)
      ((64, 64), (64, 48), None)
      >>> checked_size((1, 2, 3))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --image_size=1x2x3: give the side in pixels, 1 to 4096, such as 64, or height x width, such as 64x48
    """
    if image_size is None:
        return None
    sides: tuple[Any, ...] = tuple(image_size) if isinstance(image_size, (tuple, list)) else (image_size,)
    if len(sides) not in (1, 2) or not all(type(side) is int and 1 <= side <= LARGEST for side in sides):
        raise UserError(
            f"--image_size={'x'.join(map(str, sides))}: give the side in pixels, 1 to {LARGEST}, such as 64, or height x width, "
            "such as 64x48"
        )
    return sides[0], sides[-1]


def size_suffix(size: tuple[int, int] | None) -> str:
    """Return the suffix that names a size in folders and protocols: "_64x48", or "" for None.

    Example:
      >>> size_suffix((64, 48)), size_suffix(None)
      ('_64x48', '')
    """
    return f"_{size[0]}x{size[1]}" if size else ""


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crop a Pillow image about its centre to the target's aspect ratio, and resize it (bicubic).

    Example:
      >>> from PIL import Image
      >>> fit(Image.new("L", (10, 6)), (3, 3)).size
      (3, 3)
    """
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)


def fit_pixels(where: str, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Crop and resize 8-bit pixels [h, w, 1 or 3], as ``fit`` does.

    Raises: UserError, beginning with ``where``, for other pixels.
    Example:
      >>> fit_pixels("a", np.zeros([6, 10, 3], np.uint8), (3, 4)).shape
      (3, 4, 3)
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise UserError(
            f"{where} has shape {pixels.shape} and dtype {pixels.dtype}; --image_size takes 8-bit images of 1 or 3 channels: "
            "leave it out, or save them as an .npz"
        )
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.asarray(fit(image, size)).reshape(*size, -1)
