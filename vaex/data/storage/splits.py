"""Splits of a data set: held-out examples, labels, and the hash of all arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np

from vaex.data.order import epoch_order
from vaex.data.storage.mapped_rows import MappedRows
from vaex.errors import UserError

Splits = dict[str, dict[str, np.ndarray]]
SPLITS = ("train", "validation", "test")
CHUNK = 1 << 24  # bytes of examples per chunk
SPLIT_SEED = 2**64 - 1  # of the order in which splits are split off; unlikely as the data seed of a run


def split_order(n: int) -> np.ndarray:
    """Return the fixed permutation of n examples from which splits are split off: the same on every machine and in every version.

    Example:
      >>> split_order(4).tolist()
      [0, 2, 3, 1]
    """
    return epoch_order(SPLIT_SEED, 0, n)


def split_off(arrays: Mapping[str, np.ndarray], missing: tuple[str, ...], where: str) -> Splits:
    """Split the missing splits off the training arrays, a tenth of the examples each (at least one).

    The examples are put in ``split_order``; the first tenth becomes the first missing split, and so on; the rest is for training.

    Args:
      arrays: name -> [n, ...], all of one n.
      missing: "validation", "test", both or none; with none the arrays are returned as they are.
      where: the file or data set, named in the error.
    Returns: "train" and the missing splits; those of ``MappedRows`` are ``MappedRows``.
    Raises: UserError for too few examples.
    Example:
      >>> splits = split_off({"x": np.arange(10)}, ("validation", "test"), "a.npz")
      >>> {name: arrays["x"].tolist() for name, arrays in splits.items()}
      {'validation': [8], 'test': [9], 'train': [0, 7, 4, 2, 6, 3, 1, 5]}
    """
    n = len(next(iter(arrays.values())))
    if not missing:
        return {"train": dict(arrays)}
    if n <= len(missing):
        raise UserError(
            f"{where}: {n} training examples are too few to split_off {' and '.join(missing)} from; give these splits or more "
            "examples"
        )
    size = max(1, n // 10)
    order = split_order(n)
    cuts = {split: order[i * size : (i + 1) * size] for i, split in enumerate(missing)}
    cuts["train"] = order[len(missing) * size :]
    return {split: {name: select(values, rows) for name, values in arrays.items()} for split, rows in cuts.items()}


def select(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Select examples of an array; those of ``MappedRows`` stay on the disk.

    Example:
      >>> select(np.array([5, 6, 7]), np.array([2, 0])).tolist()
      [7, 5]
    """
    return cast(np.ndarray, values.select(rows)) if isinstance(values, MappedRows) else values[rows]


def in_chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield consecutive examples, about CHUNK bytes at a time, so that a memory-mapped array is never read at once.

    Example:
      >>> [chunk.tolist() for chunk in in_chunks(np.arange(3))]
      [[0, 1, 2]]
    """
    n = len(values)
    size = max(1, CHUNK // max(1, values.nbytes // max(1, n)))
    for start in range(0, n, size):
        yield values[start : start + size]


def class_labels(where: str, y: np.ndarray, n: int, first: int = 0) -> np.ndarray:
    """Return labels as int32 [n], counted from 0; -1 means unlabelled.

    Args:
      where: named in errors.
      y: labels as they are given.
      n: number of examples.
      first: label of the first class.
    Raises: UserError for labels that are not whole numbers from ``first`` on, or -1, one per example.
    Example:
      >>> class_labels("a.npz: y", np.array([2.0, 0.0]), 2)
      array([2, 0], dtype=int32)
    """
    if y.ndim != 1:
        raise UserError(f"{where} has shape {y.shape}, expected one label per example, shape ({n},); {_one_label(y)}")
    if len(y) != n:
        raise UserError(f"{where} has {len(y)} labels for {n} examples; give one label per example")
    integral = y.dtype.kind in "iub" or (y.dtype.kind == "f" and bool(np.all(np.isfinite(y) & (y == np.round(y)))))
    if not integral:
        raise UserError(
            f"{where} has dtype {y.dtype} and values that are not whole numbers; store class numbers 0, 1, 2, ..."
        )
    if y.size and (y.min() < -1 or y.max() >= 2**31 - 1):
        raise UserError(
            f"{where} has labels from {y.min()} to {y.max()}; class numbers start at 0, and -1 means unlabelled"
        )
    if first and np.any((y >= 0) & (y < first)):
        raise UserError(f"--first_label={first}: {where} has labels from {y.min()} on; give the least one of a class")
    return np.where(y < 0, -1, y.astype(np.int64) - first).astype(np.int32)


def _one_label(y: np.ndarray) -> str:
    """Say how labels of several axes become one for each example."""
    if y.ndim != 2 or y.shape[1] < 2:
        classes = "store y.reshape(-1), or floats for a condition"
        return classes if y.size == len(y) else "store one class number for each example, or leave y out"
    return "store y.argmax(1), since its rows are one-hot" if y.dtype.kind in "biuf" else "store numbers"


def numbered_classes(where: str, labels: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return labels that are texts as class numbers, in the order of their names; an empty text is unlabelled.

    Args:
      where: named in errors.
      labels: split -> its labels.
    Returns: the labels, and the names of the classes; labels that are numbers are returned as they are, with ().
    Raises: UserError where some splits have texts and others numbers.
    Example:
      >>> numbered, names = numbered_classes("a.npz", {"train": np.array(["dog", "", "cat"])})
      >>> numbered["train"].tolist(), names
      ([1, -1, 0], ('cat', 'dog'))
    """
    texts = [split for split, y in labels.items() if y.dtype.kind in "US"]
    if not texts:
        return dict(labels), ()
    if len(texts) < len(labels):
        other = next(split for split in labels if split not in texts)
        raise UserError(
            f"{where}: labels of {texts[0]} are texts, those of {other} numbers; give texts for every split"
        )
    decoded = {split: np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y for split, y in labels.items()}
    names = np.unique(np.concatenate([y.ravel() for y in decoded.values()]))
    names = names[names != ""]
    numbered = {split: np.where(y == "", -1, np.searchsorted(names, y)) for split, y in decoded.items()}
    return numbered, tuple(map(str, names))


def count_classes(where: str, splits: Splits) -> int:
    """Return the number of classes, one more than the largest label; 0 without labels.

    Raises: UserError where labels are too sparse to be class numbers.
    Example:
      >>> count_classes("a.npz", {"train": {"x": np.zeros(3), "y": np.array([0, 2, -1])}})
      3
    """
    classes = max((int(arrays["y"].max()) + 1 for arrays in splits.values() if "y" in arrays), default=0)
    examples = sum(len(arrays["x"]) for arrays in splits.values())
    if classes > max(examples, 1000):
        raise UserError(
            f"{where}: the largest label is {classes - 1} with {examples} examples; number the classes 0, 1, 2, ..., "
            "as np.unique(y, return_inverse=True)[1] does"
        )
    return classes


def data_hash(splits: Splits) -> str:
    """Return the first 16 hexadecimal digits of the sha256 of all arrays: names, dtypes, shapes and bytes.

    Example:
      >>> data_hash({"train": {"x": np.zeros([2, 2], np.uint8)}})
      'b566c0e9a2b9e9dc'
    """
    digest = hashlib.sha256()
    for split in sorted(splits):
        for name, values in sorted(splits[split].items()):
            little_endian = values.dtype.newbyteorder("<")
            digest.update(f"{split}/{name} {little_endian.str} {values.shape}\n".encode())
            for chunk in in_chunks(values):
                digest.update(np.ascontiguousarray(chunk, little_endian).data)
    return digest.hexdigest()[:16]
