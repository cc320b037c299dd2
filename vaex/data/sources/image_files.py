"""Single image files: what they hold, and their pixels, upright, in one number of channels and of bits."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vaex.data.storage.image_size import fit
from vaex.errors import UserError, nearest

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
TRANSPARENCY = ("auto", "keep", "white", "black", "grey")  # or #RRGGBB
ORIENTATION, ON_ITS_SIDE = 0x0112, 5  # the EXIF tag, and the first of its values that swap height and width


class Unreadable(UserError):
    """A file that is damaged, or no image at all."""


class Form(NamedTuple):
    """Form of an image: its sides, 1 channel (grey), 3 or 4 (with alpha), and 8 or 16 bits for a value.

    Example:
      >>> Form(28, 28, 1, 16).dtype.__name__
      'uint16'
    """

    height: int
    width: int
    channels: int
    bits: int = 8

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """The dtype of its values."""
        return np.uint8 if self.bits == 8 else np.uint16


def checked_transparency(transparency: str) -> str:
    """Return what ``--transparency`` says; UserError for what is neither one of ``TRANSPARENCY`` nor a colour.

    Example:
      >>> checked_transparency("white"), checked_transparency("#ff8000")
      ('white', '#ff8000')
    """
    from PIL import ImageColor

    try:
        if transparency not in TRANSPARENCY[:2]:
            ImageColor.getrgb(transparency)
    except ValueError:
        raise UserError(
            f"--transparency={transparency}: {nearest(str(transparency), TRANSPARENCY)}, or a colour such as #ff8000"
        ) from None
    return transparency


def read_form(file: pathlib.Path, transparency: str = "auto") -> Form:
    """Read the form of an image from its header.

    Args:
      file: the image.
      transparency: "keep" gives images with an alpha channel four channels.
    Raises: Unreadable; UserError for what vaex does not read: several images in a file, floats, 16 bits in colour.
    """
    from PIL import Image

    with _opened(file) as image:
        if file.suffix.lower() in (".tif", ".tiff"):
            image.load()  # turns it upright
        turned = image.getexif().get(ORIENTATION, 1) >= ON_ITS_SIDE
        width, height = image.size[::-1] if turned else image.size
        deep = ";16" in str(getattr(image, "tile", "")) or image.mode.startswith("I")
        if image.mode == "F" or (deep and not image.mode.startswith("I")):
            held = "floating-point values" if image.mode == "F" else "16 bits for each colour, of which 8 would be lost"
            raise UserError(f"{file}: has {held}; store all images as one array, in an .npy file")
        if getattr(image, "n_frames", 1) > 1:
            raise UserError(f"{file}: holds {image.n_frames} images; save each in a file of its own")  # type: ignore[attr-defined]
        grey = deep or image.mode in ("1", "L", "LA")
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        channels = 4 if has_alpha and transparency == "keep" else 1 if grey else 3
        assert isinstance(image, Image.Image)
        return Form(height, width, channels, 16 if deep else 8)


def read_pixels(
    file: pathlib.Path, form: Form, size: tuple[int, int] | None = None, transparency: str = "auto"
) -> np.ndarray:
    """Read the pixels of an image, upright, [h, w, channels] of the form's dtype.

    Args:
      file: the image.
      form: whose channels and bits the pixels get.
      size: height and width to which they are cropped and resized.
      transparency: of transparent pixels: "auto" refuses them, "keep" keeps them, a colour is put behind them.
    Raises: Unreadable; UserError for transparent pixels that are refused.
    """
    from PIL import Image, ImageOps

    with _opened(file) as image:
        upright = ImageOps.exif_transpose(image)
        if form.bits == 16:
            return _deep_pixels(np.asarray(upright), size)[..., None]
        if "A" in upright.getbands() or "transparency" in upright.info:
            upright = upright.convert("RGBA")
            if transparency == "auto" and upright.getchannel("A").getextrema()[0] != 255:  # type: ignore[operator]
                raise UserError(
                    f"{file}: has transparent pixels; --transparency=keep keeps them as a fourth channel, --transparency=white "
                    "puts white behind them"
                )
            if transparency not in ("auto", "keep"):
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, transparency), upright)
        pixels = upright.convert({1: "L", 3: "RGB", 4: "RGBA"}[form.channels])
        array = np.asarray(fit(pixels, size) if size else pixels)
        return array if array.ndim == 3 else array[..., None]


def _deep_pixels(values: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Return values of 16 bits, [h, w], cropped and resized as floats where a size is given."""
    from PIL import Image

    if values.dtype.itemsize > 2 and (values.min() < 0 or values.max() > 65535):
        raise UserError("has more than 16 bits for a value; store all images as one array, in an .npy file")
    if size is None:
        return values.astype(np.uint16)
    resized = np.asarray(fit(Image.fromarray(values.astype(np.float32)), size))
    return np.clip(np.round(resized), 0, 65535).astype(np.uint16)


class _opened:
    """Context of an open image, in which what Pillow raises becomes ``Unreadable``."""

    def __init__(self, file: pathlib.Path) -> None:
        self._file, self._image = file, None

    def __enter__(self) -> Image.Image:
        from PIL import Image

        try:
            self._image = Image.open(self._file)
        except Exception as error:
            self.__exit__(type(error), error, None)
            raise
        return self._image

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from PIL import Image

        if self._image is not None:
            self._image.close()
        if isinstance(error, UserError):
            if not str(error).startswith(str(self._file)):
                raise UserError(f"{self._file}: {error}") from None
            return
        if isinstance(error, OSError | SyntaxError | ValueError | EOFError | Image.DecompressionBombError):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise Unreadable(f"{self._file}: cannot be read as an image ({reason})") from None
