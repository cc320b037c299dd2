"""Data sets by name, the order of their examples, and the conversion of stored values to model inputs.

Importing this package imports neither jax nor any data library: ``DATASETS`` is a literal table, and functions are imported
on first use.

Example:
  >>> from vaex import data
  >>> dataset = data.load("digits")
  >>> dataset.spec.shape, dataset.spec.levels, dataset.spec.protocol
  ((8, 8, 1), 17, 'digits_1397_200_200 17_levels')
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaex.data.columns import as_table
    from vaex.data.loader.batches import padded_batches
    from vaex.data.loader.feed import resident_feed
    from vaex.data.loader.streaming import feed_for, streamed_feed
    from vaex.data.order import batch_indices, epoch_order
    from vaex.data.registry import load
    from vaex.data.spec import Dataset, Spec, resolve
    from vaex.data.transforms import augment, intensities, prepare

# value of --dataset -> its description in one line; capitals stand for what the user fills in
DATASETS: dict[str, str] = {
    "branching_tree": "3,810 noisy vectors of 50 numbers, of the 127 nodes of a binary tree (drawn, no file)",
    "digits": "1,797 handwritten digits, 8x8, 17 grey levels (scikit-learn; no download)",
    "mnist": "70,000 handwritten digits, 28x28, 8-bit grey (TFDS, or the original files in --manual_dir)",
    "fashion_mnist": "70,000 images of clothing, 28x28, 8-bit grey (TFDS, or the original files in --manual_dir)",
    "binarized_mnist": "static binarised MNIST of Larochelle, 28x28, 0 or 1 (TFDS, or the original files in --manual_dir)",
    "cifar10": "60,000 photographs of 10 classes, 32x32 RGB (TFDS, or the original archive in --manual_dir)",
    "omniglot": "32,460 handwritten characters of 50 alphabets, 28x28 grey (omniglot_105_packed.npz in --manual_dir)",
    "freyfaces": "1,965 frames of a face in one video, 28x20, 8-bit grey (freyfaces.npz in --manual_dir)",
    "sprites": "737,280 white shapes of 5 factors, 64x64 or of --image_size, 0 or 1, rendered during training (no files)",
    "bouncing_sprites": "--sequence_length frames of sprites that fly and bounce, 32x32 or of --image_size, 0 or 1, rendered",
    "rotating_sprites": "--sequence_length frames of sprites that turn in place, 32x32 or of --image_size, 0 or 1, rendered",
    "color_sprites": "characters of 6 factors, 64x64 RGB, composed during training (the file of layers in --manual_dir)",
    "celeb_a": "202,599 faces, 218x178 RGB, or smaller by --image_size (TFDS, prepared with TensorFlow)",
    "dsprites": "737,280 white shapes, 64x64, 0 or 1 (TFDS, prepared with TensorFlow)",
    "shapes3d": "480,000 rendered scenes, 64x64 RGB (TFDS, prepared with TensorFlow)",
    "PATH.npz": "your own arrays: x, or x_train, x_validation, x_test; labels y, y_train, ...; they may exceed the memory",
    "PATH.npy": "your own array, read from the disk during training: it may exceed the memory",
    "PATH.h5": 'your own arrays, named as in PATH.npz (HDF5; pip install "vaex-jax[hdf5]")',
    "PATH.csv": "your own table, columns named in the first line: numbers, categories, counts, missing entries",
    "PATH.parquet": "your own table, as PATH.csv",
    "FOLDER": "your own PNG, JPEG, WebP or TIFF images, or one folder of them per class; they may exceed the memory",
    "tfds:NAME[:CONFIG]": "a data set that tensorflow-datasets has prepared in --data_dir",
}

_MODULES = {
    "Dataset": "spec", "Spec": "spec", "as_table": "columns", "augment": "transforms", "batch_indices": "order",
    "epoch_order": "order",
    "feed_for": "loader.streaming", "intensities": "transforms", "load": "registry", "padded_batches": "loader.batches",
    "prepare": "transforms", "resident_feed": "loader.feed", "resolve": "spec", "streamed_feed": "loader.streaming",
}  # fmt: skip

__all__ = [
    "DATASETS", "Dataset", "Spec", "as_table", "augment", "batch_indices", "epoch_order", "feed_for", "intensities", "load",
    "padded_batches", "prepare", "resident_feed", "resolve", "streamed_feed",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'vaex.data' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"vaex.data.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
