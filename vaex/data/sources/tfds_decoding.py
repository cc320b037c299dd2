"""Decoding of TFDS records to arrays, without TensorFlow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vaex.data.sources.tfds_records import TfdsRecords, fingerprint
from vaex.data.storage.cache import DiskRefused
from vaex.data.storage.decoded import CACHE, SPLIT_NAMES, Decoded, by_split, read_or_decode
from vaex.data.storage.image_size import fit_pixels, size_suffix
from vaex.data.storage.parallel import map_in_order, pieces
from vaex.data.storage.writers import ArrayWriter, MemoryWriter
from vaex.errors import UserError


class TfdsSplit(Protocol):
    """One split as ``tfds.data_source`` gives it: examples by number, each a dictionary of features."""

    dataset_info: Any

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """Return one example."""
        ...

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Mapping[str, Any]]:
        """Return several examples."""
        ...


def read_records(records: TfdsRecords, size: tuple[int, int] | None = None) -> Decoded:
    """Read the arrays of a TFDS data set from the cache beside its records, or decode and cache them.

    Args:
      records: where the data set lies.
      size: height and width to which images are cropped and resized, or None; each size has a cache of its own.
    Raises: UserError where the data cannot be read or used. Warns where it cannot be cached.
    Example:
      >>> import pathlib
      >>> read_records(TfdsRecords(pathlib.Path("/nonexistent"), "mnist", "", "3.0.1"))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: /nonexistent/mnist/3.0.1: dataset_info.json cannot be read (No such file or directory); ...
    """
    folder = records.folder / f"{CACHE}{size_suffix(size)}"
    known_by = fingerprint(records)
    try:
        return read_or_decode(folder, known_by, lambda writer: decode(records, writer, size))
    except DiskRefused as error:
        reason = error.strerror or error
    writer = MemoryWriter(str(folder))
    label_names = decode(records, writer, size)
    warnings.warn(f"{folder}: decoded data cannot be kept ({reason}); every start will decode it", stacklevel=2)
    return by_split(writer.arrays, label_names)


def decode(records: TfdsRecords, writer: ArrayWriter, size: tuple[int, int] | None = None) -> tuple[str, ...]:
    """Decode the image feature and the class label of all splits of a TFDS data set, through ``tfds.data_source``.

    Args:
      records: where the data set lies.
      writer: takes the arrays "train_x", "train_y", ..., a few examples at a time.
      size: height and width to which images are cropped and resized, or None.
    Returns: the names of the classes, if any.
    Raises: UserError where tensorflow-datasets is missing, the files are damaged or not for random access, or there is not
      exactly one image feature of one size; what ``writer`` raises.
    Example:
      >>> import pathlib
      >>> decode(TfdsRecords(pathlib.Path("/nonexistent"), "no_such_set", "", "1.0.0"), MemoryWriter(""))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: /nonexistent/no_such_set/1.0.0: cannot be read (...); remove this folder and prepare it again
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f'tfds:{records.name} needs tensorflow-datasets ({error}); run: pip install "vaex-jax[train]"'
        ) from None
    full_name = "/".join(filter(None, (records.name, records.config))) + f":{records.version}"
    try:
        sources = tensorflow_datasets.data_source(full_name, data_dir=records.root, download=False)
        return _decode_sources(f"tfds:{records.name}", sources, writer, size)  # type: ignore[arg-type]
    except (UserError, DiskRefused):
        raise
    except NotImplementedError:
        raise UserError(
            f"{records.folder}: is prepared in a format that only TensorFlow reads; prepare it again in another --data_dir: "
            f"tfds.builder('{records.name}', data_dir=..., file_format='array_record').download_and_prepare()"
        ) from None
    except ImportError as error:
        raise UserError(
            f"{records.folder}: its features need a package that is missing ({error}); install it"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # of files in another schema, their readers raise what they like
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{records.folder}: cannot be read ({first_line}); remove this folder and prepare it again"
        ) from None


def _decode_sources(
    where: str, sources: Mapping[str, TfdsSplit], writer: ArrayWriter, size: tuple[int, int] | None
) -> tuple[str, ...]:
    from tensorflow_datasets import features as kinds

    chosen = {SPLIT_NAMES[name]: source for name, source in sources.items() if name in SPLIT_NAMES and len(source)}
    if "train" not in chosen:
        raise UserError(f"{where}: has no split called train, only {', '.join(sources) or 'none'}; save it as an .npz")
    described = chosen["train"].dataset_info.features
    features: dict[str, Any] = dict(described.items()) if isinstance(described, kinds.FeaturesDict) else {}
    images = [name for name, feature in features.items() if isinstance(feature, kinds.Image)]
    if len(images) != 1 and "image" not in images:
        known = ", ".join(sorted(features)) or "none"
        raise UserError(
            f"{where}: has {len(images)} image features among {known}; it needs one, or one called image. "
            "Save the images as an .npz"
        )
    image = "image" if "image" in images else images[0]
    label = "label" if isinstance(features.get("label"), kinds.ClassLabel) else None
    for split, source in chosen.items():
        decode_split(f"{where}: {split}", source, image, label, writer, split, size)
    return tuple(features["label"].names or ()) if label else ()


def decode_split(
    where: str,
    source: TfdsSplit,
    image: str,
    label: str | None,
    writer: ArrayWriter,
    split: str,
    size: tuple[int, int] | None,
) -> None:
    """Decode one split and write its arrays, "{split}_x" and with a label "{split}_y".

    Args:
      where: named in errors.
      source: the split.
      image: name of the image feature.
      label: name of the class label, or None.
      writer: takes the arrays.
      split: "train", "validation" or "test".
      size: height and width to which images are cropped and resized, or None.
    Raises: UserError for images of different sizes.
    """
    first = np.asarray(source[0][image])
    example = fit_pixels(f"{where} example 0", first, size) if size else first

    def piece(indices: range) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.empty((len(indices), *example.shape), example.dtype), np.empty(len(indices), np.int64)
        for at, features in enumerate(source.__getitems__(list(indices))):
            pixels, name = features[image], f"{where} example {indices[at]}"
            if size:
                pixels = fit_pixels(name, pixels, size)
            if pixels.shape != example.shape:
                raise UserError(
                    f"{name} has shape {pixels.shape}, but example 0 {example.shape}; images need one size: give one as "
                    "--image_size, or save them as an .npz"
                )
            x[at] = pixels
            y[at] = features[label] if label else -1
        return x, y

    append_x = writer.array(f"{split}_x", (len(source), *example.shape), example.dtype)
    append_y = writer.array(f"{split}_y", (len(source),), np.int64) if label else None
    for x, y in map_in_order(piece, pieces(len(source), first.nbytes)):
        append_x(x)
        if append_y:
            append_y(y)
