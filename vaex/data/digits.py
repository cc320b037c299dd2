"""The data set that needs no download: scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np

from vaex.data import arrays
from vaex.data.spec import Dataset, Spec, with_protocol

HELD_OUT_PER_CLASS = 20


def load_digits() -> Dataset:
    """1,797 handwritten digits, 8x8 with 17 grey levels, labelled: 1,397 train, 200 validation, 200 test.

    The split is fixed and stratified: all examples are put in ``arrays.split_order``; of each class the first 20 are for
    test, the next 20 for validation, the rest for training, and each split keeps that order.

    Returns: x uint8 [n, 8, 8, 1] with level indices 0..16, y int32 [n].
    References: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), its test part.
    Example:
      >>> dataset = load_digits()
      >>> {name: split["x"].shape for name, split in dataset.splits.items()}
      {'train': (1397, 8, 8, 1), 'validation': (200, 8, 8, 1), 'test': (200, 8, 8, 1)}
    """
    from sklearn import datasets

    pixels, target = datasets.load_digits(return_X_y=True)
    x, y = np.asarray(pixels, np.uint8).reshape(-1, 8, 8, 1), np.asarray(target, np.int32)
    order = arrays.split_order(len(x))
    rank = np.empty(len(x), np.int64)  # of each example among those of its class, in that order
    for label in range(10):
        members = order[y[order] == label]
        rank[members] = np.arange(len(members))
    part = np.digitize(rank[order], [HELD_OUT_PER_CLASS, 2 * HELD_OUT_PER_CLASS])
    chosen = {split: order[part == {"test": 0, "validation": 1, "train": 2}[split]] for split in arrays.SPLITS}
    splits = {split: {"x": x[indices], "y": y[indices]} for split, indices in chosen.items()}
    spec = Spec("digits", (8, 8, 1), "grey", levels=17, num_classes=10, label_names=tuple("0123456789"))
    spec = spec._replace(data_hash=arrays.data_hash(splits))
    return Dataset(splits, with_protocol(spec, "digits_1397_200_200"))
