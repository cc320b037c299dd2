"""A user's folder of PNG or JPEG images, decoded once and then kept as arrays."""

from __future__ import annotations

import hashlib
import math
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vaex.data.spec import Dataset
from vaex.data.storage.assemble import assemble_decoded
from vaex.data.storage.decoded import LAYOUT, SPLIT_NAMES, data_folder, keep, subfolders
from vaex.data.storage.image_size import checked_size, fit, size_suffix
from vaex.data.storage.parallel import map_in_order, pieces
from vaex.data.storage.writers import ArrayWriter
from vaex.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
NAMED = 3  # number of ignored files that the warning names


class ImageFiles(NamedTuple):
    """Image files of a folder.

    ``files``: split -> files in order. ``classes``: split -> the class of each file; empty without class folders.
    ``label_names``: names of the classes.

    Example:
      >>> ImageFiles({"train": [pathlib.Path("a.png")]}, {}, ()).files["train"][0].name
      'a.png'
    """

    files: dict[str, list[pathlib.Path]]
    classes: dict[str, list[int]]
    label_names: tuple[str, ...]


def load_folder(
    path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | Sequence[int] | None = None,
) -> Dataset:
    """Load the PNG and JPEG images in a folder, or in its sub-folders, one per class, whose names become the labels' names.

    Folders train, validation and test hold splits of either kind; missing ones are split off (``splits.split_off``). Images
    are in the order of their names. Where all are grey, so is the data; else all become RGB. With ``image_size`` each is
    cropped about its centre and resized (bicubic). Decoded arrays are kept in vaex_cache in ``data_dir`` until a file's
    name, size or time changes; they may exceed the memory.

    Args:
      path: the folder.
      data_dir: as in ``load``.
      image_size: the side of a square, or (height, width); None where all images have one size.
    Raises: UserError for a folder without images, an image that cannot be read, or a disk that refuses.
    Example:
      >>> load_folder("/nonexistent")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: /nonexistent: holds no PNG or JPEG images; give a folder of images, or of one folder per class
    """
    folder = pathlib.Path(path).expanduser()
    size = checked_size(image_size)
    images = _find(folder)
    root, name = data_folder(data_dir), folder.resolve().name or "root"
    protocol = f"{name}{size_suffix(size)}"
    path_hash = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]  # two folders may have the same name
    kept_as = f"folder_{protocol}_{path_hash}"
    fingerprint = _fingerprint(folder, images)
    decoded = keep(root, kept_as, fingerprint, lambda writer: _decode(images, size, writer))
    return assemble_decoded(str(folder), name, decoded, ("images", "labels"), protocol=protocol)


def _find(folder: pathlib.Path) -> ImageFiles:
    """Find all images below a folder, by split and class; warn once of other files."""
    ignored: list[pathlib.Path] = []
    inner = [inner for inner in subfolders(folder) if not inner.name.startswith(".")]
    by_split = {SPLIT_NAMES[split.name]: split for split in inner if split.name in SPLIT_NAMES}
    if "train" not in by_split or len(by_split) < len(inner):
        by_split = {"train": folder}
    else:
        _images(folder, ignored, below=False)
    listed: dict[str, list[tuple[str, pathlib.Path]]] = {}
    for split, place in by_split.items():
        loose = [("", file) for file in _images(place, ignored, below=False)]
        of_classes = [
            (inner.name, file)
            for inner in subfolders(place)
            if not inner.name.startswith(".")
            for file in _images(inner, ignored, below=True)
        ]
        listed[split] = loose + of_classes
        if not listed[split]:
            raise UserError(
                f"{place}: holds no PNG or JPEG images; give a folder of images, or of one folder per class"
            )
    names = sorted({name for files in listed.values() for name, _ in files})
    if "" in names and len(names) > 1:
        outside = next(file for files in listed.values() for name, file in files if not name)
        raise UserError(
            f"{outside}: lies beside class folders ({names[1]}, ...); put every image in a class folder, or none"
        )
    if ignored:
        some = ", ".join(str(file.relative_to(folder)) for file in ignored[:NAMED])
        more = f" and {len(ignored) - NAMED} more" if len(ignored) > NAMED else ""
        warnings.warn(f"{folder}: {some}{more} ignored, not PNG or JPEG by name", stacklevel=4)
    files = {split: [file for _, file in pairs] for split, pairs in listed.items()}
    if names == [""]:
        return ImageFiles(files, {}, ())
    index = {name: number for number, name in enumerate(names)}
    classes = {split: [index[name] for name, _ in pairs] for split, pairs in listed.items()}
    return ImageFiles(files, classes, tuple(names))


def _images(folder: pathlib.Path, ignored: list[pathlib.Path], *, below: bool) -> list[pathlib.Path]:
    """List the images in a folder, or anywhere below it, in the order of their names, without hidden files."""
    if not folder.is_dir():
        return []
    entries = sorted(folder.rglob("*") if below else folder.iterdir(), key=lambda entry: entry.as_posix())
    inner = [entry for entry in entries if not any(p.startswith(".") for p in entry.relative_to(folder).parts)]
    files = [entry for entry in inner if entry.is_file()]
    ignored += [file for file in files if file.suffix.lower() not in SUFFIXES]
    return [file for file in files if file.suffix.lower() in SUFFIXES]


def _fingerprint(folder: pathlib.Path, images: ImageFiles) -> str:
    """Return the hash of all files' names, sizes and times."""
    digest = hashlib.sha256()
    for split, files in images.files.items():
        for file in files:
            status = file.stat()
            digest.update(f"{split} {file.relative_to(folder)!r} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{LAYOUT}:{digest.hexdigest()}"


def _shape(images: ImageFiles, size: tuple[int, int] | None) -> tuple[int, int, int]:
    """Return the common shape of all images: height, width, and one channel where all are grey, else three."""
    every = [file for files in images.files.values() for file in files]
    first, channels = None, 1
    for file, (*sides, mode) in zip(every, map_in_order(lambda file: _read(file, None, None), every), strict=True):
        first = first or sides
        if size is None and sides != first:
            raise UserError(
                f"{file}: is {sides[0]}x{sides[1]}, but {every[0]} is {first[0]}x{first[1]} (height x width); give one size "
                f"for all, such as --image_size={min(first)}"
            )
        channels = channels if mode == "L" else 3
    height, width = size or first or (0, 0)
    return height, width, channels


def _decode(images: ImageFiles, size: tuple[int, int] | None, writer: ArrayWriter) -> tuple[str, ...]:
    """Write the pixels of all images, uint8 [n, h, w, 1 or 3], and their labels; return the names of the labels."""
    shape = _shape(images, size)
    mode = "L" if shape[-1] == 1 else "RGB"
    for split, files in images.files.items():

        def piece(indices: range, files: list[pathlib.Path] = files) -> np.ndarray:
            return np.stack([_read(files[index], mode, size).reshape(shape) for index in indices])

        append = writer.array(f"{split}_x", (len(files), *shape), np.uint8)
        for x in map_in_order(piece, pieces(len(files), math.prod(shape))):
            append(x)
        if images.classes:
            writer.array(f"{split}_y", (len(files),), np.int64)(np.array(images.classes[split], np.int64))
    return images.label_names


def _read(file: pathlib.Path, mode: str | None, size: tuple[int, int] | None) -> Any:
    """Read an image's pixels in this mode and size; without a mode, its own height, width and mode, "L" or "RGB"."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if mode is None:
                turned = image.getexif().get(0x0112, 1) >= 5  # the camera lay on its side
                return (*(image.size if turned else image.size[::-1]), _mode(file, image))
            upright = ImageOps.exif_transpose(image)
            if "A" in upright.getbands() or "transparency" in upright.info:
                alpha = upright.convert("RGBA").getchannel("A")
                if alpha.getextrema()[0] != 255:  # type: ignore[operator]
                    raise UserError(f"{file}: has transparent pixels; flatten it onto a background")
                upright = upright.convert("RGBA")
            pixels = upright.convert(mode)
            return np.asarray(fit(pixels, size) if size else pixels)
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file}: cannot be read as an image ({reason}); replace or remove it") from None


def _mode(file: pathlib.Path, image: Image.Image) -> str:
    if image.mode.startswith(("I", "F")):
        raise UserError(f"{file}: has more than 8 bits per value (mode {image.mode}); save it with 8")
    return "L" if image.mode in ("1", "L", "LA") else "RGB"
