"""From TFDS records to arrays, without TensorFlow."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vaex.errors import UserError

CHUNK = 1000  # examples decoded at a time
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

    Example:
      >>> Decoded({"train": {"x": np.zeros([2, 8, 8, 1], np.uint8)}}).label_names
      ()
    """

    splits: dict[str, dict[str, np.ndarray]]
    label_names: tuple[str, ...] = ()


def decode(prepared: Prepared) -> Decoded:
    """All splits of a prepared data set through ``tfds.data_source``: its image feature and its class label.

    Raises: UserError where tensorflow-datasets is missing, the files are damaged or not for random access, or there is no
      one image feature of one size.
    Example:
      >>> decode(Prepared(pathlib.Path("/nonexistent"), "no_such_set", "", "1.0.0"))
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
        return _decode_sources(f"tfds:{prepared.name}", sources)  # type: ignore[arg-type]
    except UserError:
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


def _decode_sources(where: str, sources: Mapping[str, Sequence[Any]]) -> Decoded:
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
    names = tuple(features["label"].names or ()) if label else ()
    splits = {split: _decode_split(f"{where}: {split}", source, image, label) for split, source in chosen.items()}
    return Decoded(splits, names)


def _decode_split(where: str, source: Sequence[Any], image: str, label: str | None) -> dict[str, np.ndarray]:
    first = np.asarray(source[0][image])
    x = np.empty((len(source), *first.shape), first.dtype)
    y = np.empty(len(source), np.int64)
    for start in range(0, len(source), CHUNK):
        indices = range(start, min(start + CHUNK, len(source)))
        for index, example in zip(indices, source.__getitems__(list(indices)), strict=True):  # type: ignore[attr-defined]
            if example[image].shape != first.shape:
                raise UserError(
                    f"{where} example {index} has shape {example[image].shape}, but example 0 {first.shape}; images need one "
                    "size: resize them and save them as an .npz"
                )
            x[index] = example[image]
            if label:
                y[index] = example[label]
    return {"x": x, "y": y} if label else {"x": x}
