"""From TFDS records to arrays, without TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vaex.data.storage.cache import Memory, Refused
from vaex.data.storage.resizing import fit_pixels
from vaex.data.storage.store import Store, ordered, pieces
from vaex.errors import UserError

SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


class Prepared(NamedTuple):
    """A prepared data set on disk: ``root/name[/config]/version``.

    Example:
      >>> Prepared(pathlib.Path("data"), "mnist", "", "3.0.1").folder.as_posix()
      'data/mnist/3.0.1'
    """

    root: pathlib.Path
    name: str
    config: str
    version: str

    @property
    def folder(self) -> pathlib.Path:
        return self.root / self.name / self.config / self.version


class Decoded(NamedTuple):
    """Decoded splits, "train" and perhaps "validation" and "test": {"x": images [n, h, w, c], "y": [n] where labelled}.

    ``memory``: of facts about them, where some are so large that they were memory-mapped.

    Example:
      >>> Decoded({"train": {"x": np.zeros([2, 8, 8, 1], np.uint8)}}).label_names
      ()
    """

    splits: dict[str, dict[str, np.ndarray]]
    label_names: tuple[str, ...] = ()
    memory: Memory | None = None


def decode(prepared: Prepared, store: Store, size: tuple[int, int] | None = None) -> tuple[str, ...]:
    """All splits of a prepared data set through ``tfds.data_source``: its image feature and its class label.

    Args:
      prepared: where it lies.
      store: takes the arrays "train_x", "train_y", ..., a few examples at a time.
      size: height and width to which images are cut and resized, or None.
    Returns: the names of the classes, if any.
    Raises: UserError where tensorflow-datasets is missing, the files are damaged or not for random access, or there is no
      one image feature of one size; what ``store`` raises.
    Example:
      >>> from vaex.data.storage.store import InMemory
      >>> decode(Prepared(pathlib.Path("/nonexistent"), "no_such_set", "", "1.0.0"), InMemory(""))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: /nonexistent/no_such_set/1.0.0: cannot be read (...); remove this folder and prepare it again
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"tfds:{prepared.name} needs tensorflow-datasets ({error}); pip install tensorflow-datasets importlib_resources pillow"
        ) from None
    full_name = "/".join(filter(None, (prepared.name, prepared.config))) + f":{prepared.version}"
    try:
        sources = tensorflow_datasets.data_source(full_name, data_dir=prepared.root, download=False)
        return _decode_sources(f"tfds:{prepared.name}", sources, store, size)  # type: ignore[arg-type]
    except (UserError, Refused):
        raise
    except NotImplementedError:
        raise UserError(
            f"{prepared.folder}: is prepared in a format that only TensorFlow reads; prepare it again in another --data_dir: "
            f"tfds.builder('{prepared.name}', data_dir=..., file_format='array_record').download_and_prepare()"
        ) from None
    except ImportError as error:
        raise UserError(
            f"{prepared.folder}: its features need a package that is missing ({error}); install it"
        ) from None
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{prepared.folder}: cannot be read ({first_line}); remove this folder and prepare it again"
        ) from None


def _decode_sources(
    where: str, sources: Mapping[str, Sequence[Any]], store: Store, size: tuple[int, int] | None
) -> tuple[str, ...]:
    from tensorflow_datasets import features as kinds

    chosen = {SPLIT_NAMES[name]: source for name, source in sources.items() if name in SPLIT_NAMES and len(source)}
    if "train" not in chosen:
        raise UserError(f"{where}: has no split called train, only {', '.join(sources) or 'none'}; save it as an .npz")
    described = chosen["train"].dataset_info.features  # type: ignore[attr-defined]
    features: dict[str, Any] = dict(described.items()) if isinstance(described, kinds.FeaturesDict) else {}
    images = [name for name, feature in features.items() if isinstance(feature, kinds.Image)]
    if len(images) != 1 and "image" not in images:
        known = ", ".join(sorted(features)) or "none"
        raise UserError(
            f"{where}: has {len(images)} image features among {known}; it needs one, or one called image. "
            "Save what you want as an .npz"
        )
    image = "image" if "image" in images else images[0]
    label = "label" if isinstance(features.get("label"), kinds.ClassLabel) else None
    for split, source in chosen.items():
        _decode_split(f"{where}: {split}", source, image, label, store, split, size)
    return tuple(features["label"].names or ()) if label else ()


def _decode_split(
    where: str,
    source: Sequence[Any],
    image: str,
    label: str | None,
    store: Store,
    split: str,
    size: tuple[int, int] | None,
) -> None:
    first = np.asarray(source[0][image])
    example = fit_pixels(f"{where} example 0", first, size) if size else first

    def piece(indices: range) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.empty((len(indices), *example.shape), example.dtype), np.empty(len(indices), np.int64)
        for at, found in enumerate(source.__getitems__(list(indices))):  # type: ignore[attr-defined]
            pixels, name = found[image], f"{where} example {indices[at]}"
            if size:
                pixels = fit_pixels(name, pixels, size)
            if pixels.shape != example.shape:
                raise UserError(
                    f"{name} has shape {pixels.shape}, but example 0 {example.shape}; images need one size: give one as "
                    "--image_size, or save them as an .npz"
                )
            x[at] = pixels
            y[at] = found[label] if label else -1
        return x, y

    append_x = store.array(f"{split}_x", (len(source), *example.shape), example.dtype)
    append_y = store.array(f"{split}_y", (len(source),), np.int64) if label else None
    for x, y in ordered(piece, pieces(len(source), first.nbytes)):
        append_x(x)
        if append_y:
            append_y(y)
