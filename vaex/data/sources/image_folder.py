"""A user's folder of PNG, JPEG, WebP or TIFF images, decoded once and then kept as arrays."""

from __future__ import annotations

import hashlib
import math
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from vaex.data.sources.image_files import SUFFIXES, Form, Unreadable, checked_transparency, read_form, read_pixels
from vaex.data.spec import Dataset
from vaex.data.storage.assemble import assemble_decoded
from vaex.data.storage.decoded import LAYOUT, SPLIT_NAMES, data_folder, keep, subfolders
from vaex.data.storage.image_size import checked_size, size_suffix
from vaex.data.storage.parallel import map_in_order, pieces
from vaex.data.storage.writers import ArrayWriter
from vaex.errors import UserError

Result = TypeVar("Result")
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


class FolderReading(NamedTuple):
    """How the images of a folder are read: ``size`` to which they are resized, and the other two as in ``load``.

    Example:
      >>> FolderReading((64, 48), "white").name
      '_64x48_white'
    """

    size: tuple[int, int] | None = None
    transparency: str = "auto"
    skip_unreadable: bool = False

    @property
    def name(self) -> str:
        """What names of folders and protocols end with."""
        return f"{size_suffix(self.size)}{'' if self.transparency == 'auto' else f'_{self.transparency}'}"


def load_folder(
    path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | Sequence[int] | None = None,
    transparency: str = "auto",
    *,
    skip_unreadable: bool = False,
) -> Dataset:
    """Load the images in a folder, or in its sub-folders, one per class, whose names become the labels' names.

    Folders train, validation and test hold splits of either kind; missing ones are split off (``splits.split_off``). Images
    are in the order of their names, turned upright. Where all are grey, so is the data, of 8 or of 16 bits; else all become RGB.
    With ``image_size`` each is cropped about its centre and resized (bicubic). Decoded arrays are kept in vaex_cache in
    ``data_dir`` until a file's name, size or time changes; they may exceed the memory.

    Args:
      path: the folder.
      data_dir: as in ``load``.
      image_size: the side of a square, or (height, width); None where all images have one size.
      transparency, skip_unreadable: as in ``load``.
    Raises: UserError for a folder without images, images that cannot be read, all of which are named, or a disk that refuses.
    Example:
      >>> load_folder("/nonexistent")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: /nonexistent: holds no PNG, JPEG, WebP or TIFF images; give a folder of images, or one per class
    """
    folder = pathlib.Path(path).expanduser()
    reading = FolderReading(checked_size(image_size), checked_transparency(transparency), skip_unreadable)
    images = _find(folder)
    root, name = data_folder(data_dir), folder.resolve().name or "root"
    protocol = f"{name}{reading.name.replace('#', '')}"
    path_hash = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]  # two folders may have the same name
    kept_as = f"folder_{protocol}_{path_hash}"
    fingerprint = _fingerprint(folder, images) + ":skip" * skip_unreadable
    decoded = keep(root, kept_as, fingerprint, lambda writer: _decode(folder, images, reading, writer))
    dataset = assemble_decoded(str(folder), name, decoded, ("images", "labels"), protocol=protocol)
    has_alpha = transparency == "keep" and dataset.spec.shape[-1] == 4
    return dataset._replace(spec=dataset.spec._replace(skipped=decoded.skipped, alpha=has_alpha))


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
                f"{place}: holds no PNG, JPEG, WebP or TIFF images; give a folder of images, or one per class"
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
        warnings.warn(f"{folder}: {some}{more} ignored, not PNG, JPEG, WebP or TIFF by name", stacklevel=4)
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


def _common_form(images: ImageFiles, size: tuple[int, int] | None, transparency: str) -> tuple[Form, list[Unreadable]]:
    """Return the form that all images get, and what cannot be read: grey where all are, four channels where one has alpha."""
    every = [file for files in images.files.values() for file in files]
    first: tuple[pathlib.Path, Form] | None = None
    channels, unreadable = 1, list[Unreadable]()
    for file, form in zip(every, map_in_order(lambda file: _tried(read_form, file, transparency), every), strict=True):
        if isinstance(form, Unreadable):
            unreadable.append(form)
            continue
        first = first or (file, form)
        other, reference = first
        if size is None and form[:2] != reference[:2]:
            sides, common = (f"{shape.height}x{shape.width}" for shape in (form, reference))
            raise UserError(
                f"{file}: is {sides}, but {other} is {common} (height x width); give one size for all, such as "
                f"--image_size={min(reference[:2])}"
            )
        if form.bits != reference.bits:
            raise UserError(
                f"{file}: has {form.bits} bits for a value, but {other} has {reference.bits}; save all with as many"
            )
        channels = max(channels, form.channels)
    form = Form(0, 0, 1) if first is None else first[1]._replace(channels=channels)
    return (form if size is None else form._replace(height=size[0], width=size[1])), unreadable


def _tried(read: Callable[..., Result], *arguments: Any) -> Result | Unreadable:
    """Return what ``read`` returns, or what it raises of a file that cannot be read."""
    try:
        return read(*arguments)
    except Unreadable as error:
        return error


def _readable(
    folder: pathlib.Path, images: ImageFiles, size: tuple[int, int] | None, transparency: str
) -> tuple[ImageFiles, tuple[str, ...]]:
    """Return the images that can be read in full, and the names of the others; UserError where a split has none left."""
    form, _ = _common_form(images, size, transparency)
    kept, classes, skipped = dict[str, list[pathlib.Path]](), dict[str, list[int]](), list[str]()
    for split, files in images.files.items():
        results = map_in_order(lambda file: _tried(read_pixels, file, form, None, transparency), files)
        good = [not isinstance(pixels, Unreadable) for pixels in results]
        kept[split] = [file for file, readable in zip(files, good, strict=True) if readable]
        skipped += [str(file.relative_to(folder)) for file, readable in zip(files, good, strict=True) if not readable]
        if images.classes:
            pairs = zip(images.classes[split], good, strict=True)
            classes[split] = [label for label, readable in pairs if readable]
        if not kept[split]:
            raise UserError(f"{folder}: none of its {len(files)} images for {split} can be read; replace them")
    return ImageFiles(kept, classes, images.label_names), tuple(skipped)


def _decode(folder: pathlib.Path, images: ImageFiles, reading: FolderReading, writer: ArrayWriter) -> tuple[str, ...]:
    """Write the pixels of all images, [n, h, w, channels], and their labels; return the names of the labels.

    Raises: UserError that names all files that cannot be read, unless they are skipped.
    """
    size, transparency = reading.size, reading.transparency
    if reading.skip_unreadable:
        images, writer.metadata["skipped"] = _readable(folder, images, size, transparency)
    form, unreadable = _common_form(images, size, transparency)
    shape = form[:3]
    for split, files in images.files.items():

        def piece(indices: range, files: list[pathlib.Path] = files) -> list[np.ndarray | Unreadable]:
            return [_tried(read_pixels, files[index], form, size, transparency) for index in indices]

        append = writer.array(f"{split}_x", (len(files), *shape), form.dtype)
        for results in map_in_order(piece, pieces(len(files), math.prod(shape) * form.bits // 8)):
            failed = [result for result in results if isinstance(result, Unreadable)]
            known = {str(error) for error in unreadable}
            unreadable += [error for error in failed if str(error) not in known]
            if not unreadable:
                append(np.stack([result for result in results if not isinstance(result, Unreadable)]))
        if images.classes:
            writer.array(f"{split}_y", (len(files),), np.int64)(np.array(images.classes[split], np.int64))
    if unreadable:
        raise UserError(_named(folder, unreadable))
    return images.label_names


def _named(folder: pathlib.Path, unreadable: Sequence[Unreadable]) -> str:
    """Name all files that cannot be read, in one line."""
    remedy = "replace or remove {}, or leave {} out with --skip_unreadable"
    if len(unreadable) == 1:
        return f"{unreadable[0]}; {remedy.format('it', 'it')}"
    texts = [
        str(error).removeprefix(f"{folder}{os.sep}").replace(": cannot be read as an image", "") for error in unreadable
    ]
    return f"{folder}: {len(texts)} images cannot be read: {', '.join(texts)}; {remedy.format('them', 'them')}"
