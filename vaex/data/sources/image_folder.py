"""A user's own folder of PNG or JPEG images, decoded once and then kept as arrays."""

from __future__ import annotations

import hashlib
import math
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vaex.data.spec import Dataset
from vaex.data.storage.assemble import assemble_decoded
from vaex.data.storage.decoding import SPLIT_NAMES
from vaex.data.storage.prepared import LAYOUT, folders, keep, root_folder
from vaex.data.storage.resizing import checked_size, fit, words
from vaex.data.storage.store import Store, ordered, pieces
from vaex.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")
NAMED = 3  # ignored files that the warning names


class Found(NamedTuple):
    """The image files of a folder: split -> files in order; the class of each where there are class folders.

    Example:
      >>> Found({"train": [pathlib.Path("a.png")]}, {}, ()).files["train"][0].name
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
    """The PNG and JPEG images of a folder: in the folder itself, or in one sub-folder per class, whose names are labels.

    Folders train, validation and test hold splits of either kind; missing ones are carved (``arrays.carve``). Images are
    taken in the order of their names. Where all are grey, so is the data, else all become RGB. With ``image_size`` each
    is cut to the target's shape about its middle and resized (bicubic). Decoded arrays are kept in ``data_dir``, in
    vaex_cache, until a file's name, size or time changes; they may exceed the memory.

    Args:
      path: the folder.
      data_dir: as in ``load``.
      image_size: the side of a square, or (height, width); None where all images have one size.
    Raises: UserError for a folder without images, an image that can't be read, or a disk that refuses.
    Example:
      >>> load_folder("/nonexistent")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: /nonexistent: holds no PNG or JPEG images; give a folder of images, or of one folder per class
    """
    folder = pathlib.Path(path).expanduser()
    size = checked_size(image_size)
    found = _find(folder)
    root, name = root_folder(data_dir), folder.resolve().name or "root"
    protocol = f"{name}{words(size)}"
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]  # two folders may have the same name
    kept_as = f"folder_{protocol}_{place}"
    fingerprint = _fingerprint(folder, found)
    decoded = keep(root, kept_as, fingerprint, lambda store: _decode(found, size, store))
    return assemble_decoded(str(folder), name, decoded, ("images", "labels"), protocol=protocol)


def _find(folder: pathlib.Path) -> Found:
    """All images below a folder, by split and class; warns once of what else there is."""
    ignored: list[pathlib.Path] = []
    inner = [inner for inner in folders(folder) if not inner.name.startswith(".")]
    by_split = {SPLIT_NAMES[split.name]: split for split in inner if split.name in SPLIT_NAMES}
    if "train" not in by_split or len(by_split) < len(inner):
        by_split = {"train": folder}
    else:
        _images(folder, ignored, below=False)
    listed: dict[str, list[tuple[str, pathlib.Path]]] = {}
    for split, place in by_split.items():
        own = [("", file) for file in _images(place, ignored, below=False)]
        of_classes = [
            (inner.name, file)
            for inner in folders(place)
            if not inner.name.startswith(".")
            for file in _images(inner, ignored, below=True)
        ]
        listed[split] = own + of_classes
        if not listed[split]:
            raise UserError(
                f"{place}: holds no PNG or JPEG images; give a folder of images, or of one folder per class"
            )
    names = sorted({name for files in listed.values() for name, _ in files})
    if "" in names and len(names) > 1:
        loose = next(file for files in listed.values() for name, file in files if not name)
        raise UserError(
            f"{loose}: lies beside class folders ({names[1]}, ...); put every image in a class folder, or none"
        )
    if ignored:
        some = ", ".join(str(file.relative_to(folder)) for file in ignored[:NAMED])
        more = f" and {len(ignored) - NAMED} more" if len(ignored) > NAMED else ""
        warnings.warn(f"{folder}: {some}{more} ignored, not PNG or JPEG by name", stacklevel=4)
    files = {split: [file for _, file in found] for split, found in listed.items()}
    if names == [""]:
        return Found(files, {}, ())
    index = {name: number for number, name in enumerate(names)}
    return Found(files, {split: [index[name] for name, _ in found] for split, found in listed.items()}, tuple(names))


def _images(folder: pathlib.Path, ignored: list[pathlib.Path], *, below: bool) -> list[pathlib.Path]:
    """The images in a folder, or anywhere below it, in order of their names; hidden files are passed over."""
    if not folder.is_dir():
        return []
    entries = sorted(folder.rglob("*") if below else folder.iterdir(), key=lambda entry: entry.as_posix())
    inner = [entry for entry in entries if not any(p.startswith(".") for p in entry.relative_to(folder).parts)]
    files = [entry for entry in inner if entry.is_file()]
    ignored += [file for file in files if file.suffix.lower() not in SUFFIXES]
    return [file for file in files if file.suffix.lower() in SUFFIXES]


def _fingerprint(folder: pathlib.Path, found: Found) -> str:
    """Of all files' names, sizes and times."""
    digest = hashlib.sha256()
    for split, files in found.files.items():
        for file in files:
            status = file.stat()
            digest.update(f"{split} {file.relative_to(folder)!r} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{LAYOUT}:{digest.hexdigest()}"


def _shape(found: Found, size: tuple[int, int] | None) -> tuple[int, int, int]:
    """What all images have in common: height, width, and one channel where all are grey, else three."""
    every = [file for files in found.files.values() for file in files]
    first, channels = None, 1
    for file, (*sides, mode) in zip(every, ordered(lambda file: _read(file, None, None), every), strict=True):
        first = first or sides
        if size is None and sides != first:
            raise UserError(
                f"{file}: is {sides[0]}x{sides[1]}, but {every[0]} is {first[0]}x{first[1]} (height x width); give one size "
                f"for all, such as --image_size={min(first)}"
            )
        channels = channels if mode == "L" else 3
    height, width = size or first or (0, 0)
    return height, width, channels


def _decode(found: Found, size: tuple[int, int] | None, store: Store) -> tuple[str, ...]:
    """Stores the pixels of all images, uint8 [n, h, w, 1 or 3], and their labels; returns the names of the labels."""
    shape = _shape(found, size)
    mode = "L" if shape[-1] == 1 else "RGB"
    for split, files in found.files.items():

        def piece(indices: range, files: list[pathlib.Path] = files) -> np.ndarray:
            return np.stack([_read(files[index], mode, size).reshape(shape) for index in indices])

        append = store.array(f"{split}_x", (len(files), *shape), np.uint8)
        for x in ordered(piece, pieces(len(files), math.prod(shape))):
            append(x)
        if found.classes:
            store.array(f"{split}_y", (len(files),), np.int64)(np.array(found.classes[split], np.int64))
    return found.label_names


def _read(file: pathlib.Path, mode: str | None, size: tuple[int, int] | None) -> Any:
    """An image's pixels in a mode and size; or without a mode its own height, width and mode, "L" or "RGB"."""
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


def _mode(file: pathlib.Path, image: Any) -> str:
    if image.mode.startswith(("I", "F")):
        raise UserError(f"{file}: has more than 8 bits per value (mode {image.mode}); save it with 8")
    return "L" if image.mode in ("1", "L", "LA") else "RGB"
