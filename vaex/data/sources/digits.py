"""Handwritten digits of scikit-learn, which need no download."""

from __future__ import annotations

import importlib.util
import pathlib

import numpy as np

from vaex.data.spec import Dataset, Spec, with_protocol
from vaex.data.storage.splits import SPLITS, data_hash, split_order

HELD_OUT_PER_CLASS = 20


def load_digits() -> Dataset:
    """Load 1,797 labelled handwritten digits, 8x8 with 17 grey levels: 1,397 train, 200 validation, 200 test.

    The split is fixed and stratified: all examples are put in ``splits.split_order``; of each class the first 20 are for
    test, the next 20 for validation, the rest for training. Each split keeps this order.

    Returns: x uint8 [n, 8, 8, 1] with level indices 0..16, y int32 [n].
    References: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), its test part.
    Example:
      >>> dataset = load_digits()
      >>> {name: split["x"].shape for name, split in dataset.splits.items()}
      {'train': (1397, 8, 8, 1), 'validation': (200, 8, 8, 1), 'test': (200, 8, 8, 1)}
    """
    table = _table()
    x, y = table[:, :-1].astype(np.uint8).reshape(-1, 8, 8, 1), table[:, -1].astype(np.int32)
    order = split_order(len(x))
    rank = np.empty(len(x), np.int64)  # of each example within its class, in this order
    for label in range(10):
        members = order[y[order] == label]
        rank[members] = np.arange(len(members))
    part = np.digitize(rank[order], [HELD_OUT_PER_CLASS, 2 * HELD_OUT_PER_CLASS])
    chosen = {split: order[part == {"test": 0, "validation": 1, "train": 2}[split]] for split in SPLITS}
    splits = {split: {"x": x[indices], "y": y[indices]} for split, indices in chosen.items()}
    spec = Spec("digits", (8, 8, 1), "grey", levels=17, num_classes=10, label_names=tuple("0123456789"))
    spec = spec._replace(data_hash=data_hash(splits))
    return Dataset(splits, with_protocol(spec, "digits_1397_200_200"))


def _table() -> np.ndarray:
    """Read 64 pixels and a label per row from scikit-learn's folder, since importing scikit-learn takes most of a second."""
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations if package else None) or ():
        path = pathlib.Path(folder, "datasets", "data", "digits.csv.gz")
        if path.exists():
            return np.loadtxt(path, delimiter=",")
    from sklearn import datasets  # another version may keep the file elsewhere

    pixels, target = datasets.load_digits(return_X_y=True)
    return np.column_stack([np.asarray(pixels), np.asarray(target)])
