"""The embedded digits: the split is fixed, stratified, disjoint and complete."""

import collections
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from vaex import data


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_spec(digits):
    assert digits.spec == data.Spec(
        "digits", (8, 8, 1), "grey", levels=17, num_classes=10, label_names=tuple("0123456789"),
        protocol="digits_1397_200_200 17_levels", data_hash="302a5aeddae14567",
        num_training_examples=1397, binarization_noise=0.34, least_scale=0.19,
    )  # fmt: skip


def test_splits_are_stratified_and_stored_as_levels(digits):
    assert list(digits.splits) == ["train", "validation", "test"]
    for split, size in (("train", 1397), ("validation", 200), ("test", 200)):
        x, y = digits.splits[split]["x"], digits.splits[split]["y"]
        assert x.shape == (size, 8, 8, 1)
        assert (x.dtype, y.dtype) == (np.uint8, np.int32)
        assert (x.min(), x.max()) == (0, 16)
        counts = np.bincount(y, minlength=10)
        assert counts.min() >= (134 if split == "train" else 20)
        assert np.ptp(y[:50]) == 9  # mixed, not sorted by class


def test_splits_together_are_the_original(digits):
    from sklearn import datasets

    original = datasets.load_digits()
    expected = collections.Counter(
        (x.astype(np.uint8).tobytes(), int(y)) for x, y in zip(original.images, original.target, strict=True)
    )
    found = collections.Counter(
        (x.tobytes(), int(y)) for split in digits.splits.values() for x, y in zip(split["x"], split["y"], strict=True)
    )
    assert found == expected


def test_scikit_learn_is_not_imported():
    code = "import sys; from vaex import data; data.load('digits'); print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_file_kept_elsewhere(digits, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "exists", lambda path: False)
    assert data.load("digits").spec == digits.spec
