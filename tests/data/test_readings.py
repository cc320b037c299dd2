"""Arrays that can mean two things: what is read by default, and by each flag."""

import re

import numpy as np
import pytest

from vaex import data
from vaex.data import announcement
from vaex.data.loader.user_examples import checked_examples
from vaex.data.spec import Dataset
from vaex.data.storage.splits import SPLITS
from vaex.errors import UserError

RNG = np.random.default_rng(0)
UNIT = RNG.random((40, 6, 5, 4, 3)).astype(np.float32)
TWELVE_BITS = RNG.integers(0, 4096, (40, 8, 8)).astype(np.uint16)
SCAN = RNG.integers(-1024, 3072, (40, 8, 8)).astype(np.int16)
SCAN[0, 0, :2] = -1024, 3071
LABELS = np.tile(np.arange(1, 6), 8)


def every(dataset):
    return np.concatenate([np.asarray(dataset.splits[split]["x"]) for split in SPLITS])


def said(dataset, layout="auto"):
    return announcement.lines(dataset, dataset.spec, announcement.Choices(layout, None, ""))


def sets(x):
    return sorted(example.tobytes() for example in np.ascontiguousarray(x))


@pytest.mark.parametrize("form", ["memory", "npz", "npy"])
@pytest.mark.parametrize(
    ("x", "flags", "expected", "text"),
    [
        (UNIT[..., 0, 0], {"kind": "series"}, UNIT[..., 0, 0], "series of 6 steps, 5 channels"),
        (UNIT[:, :, 0, 0, 0], {"layout": "tc"}, UNIT[:, :, 0, 0, :1], "series of 6 steps, 1 channel"),
        (UNIT[..., 0, 0], {"layout": "ct"}, UNIT[..., 0, 0].transpose(0, 2, 1), "series of 5 steps, 6 channels"),
        (UNIT[..., 0], {"kind": "volume"}, UNIT[..., :1], "volumes 6x5x4 (depth x height x width), 1 channel"),
        (UNIT, {"layout": "dhwc"}, UNIT, "volumes 6x5x4 (depth x height x width), 3 channels"),
        (UNIT, {"layout": "cdhw"}, UNIT.transpose(0, 2, 3, 4, 1), "volumes 5x4x3 (depth x height x width), 6 channels"),
        (UNIT, {"kind": "sequence"}, UNIT, "sequences of 6 frames, 5x4 (height x width), 3 channels"),
        (UNIT, {"kind": "table"}, UNIT.reshape(40, -1), "vectors of 360 values"),
        (UNIT[..., 0, 0], {"kind": "image"}, UNIT[..., :1, 0], "images 6x5 (height x width), 1 channel"),
    ],
)
def test_axes_by_kind_and_layout(tmp_path, form, x, flags, expected, text):
    if form == "memory":
        dataset = Dataset.from_arrays(x, **flags)
    else:
        path = tmp_path / f"own.{form}"
        np.savez(path, x=x) if form == "npz" else np.save(path, x)
        dataset = data.load(str(path), **flags)
        images = data.load(str(path), layout="vector")
        assert flags.get("kind") == "table" or dataset.spec.data_hash != images.spec.data_hash
    assert dataset.spec.shape == expected.shape[1:]
    assert sets(every(dataset)) == sets(expected)
    assert dataset.spec.volume == text.startswith("volumes")
    assert text in said(dataset)[0]


@pytest.mark.parametrize(
    ("x", "flags", "levels", "value_range", "stored", "text"),
    [
        (TWELVE_BITS, {}, 4096, (), TWELVE_BITS, "levels . to 409. of 0 to 4095"),
        (TWELVE_BITS / np.float32(4095), {}, 4096, (), TWELVE_BITS, "of 0 to 4095, divided by 4095"),
        (TWELVE_BITS // 4, {}, 1024, (), TWELVE_BITS // 4, "of 0 to 1023"),
        (TWELVE_BITS * 16 / 65535, {}, 65536, (), TWELVE_BITS * 16, "of 0 to 65535"),
        (SCAN, {}, 4096, (-1024.0, 3071.0), SCAN.astype(int) + 1024, "where -1024 to 3071 became 0 to 1"),
        (SCAN, {"value_range": "-100:155"}, 256, (-100.0, 155.0), SCAN.clip(-100, 155) + 100, "-100 to 155 became 0 to 1"),
        (TWELVE_BITS % 256 / 127.5 - 1, {"value_range": "-1:1"}, 256, (-1.0, 1.0), TWELVE_BITS % 256, "-1 to 1 became"),
        (UNIT[..., 0, 0, 0], {}, None, (), UNIT[..., 0, 0, 0], "continuous from .* .--value_range=real reads measurements."),
        (UNIT[..., 0, 0, 0], {"value_range": "real"}, None, (), UNIT[..., 0, 0, 0], "real numbers from"),
        (UNIT[..., 0, 0], {"kind": "series", "value_range": "real"}, None, (), UNIT[..., 0, 0], "series .* real numbers from"),
        (LABELS[:, None] + [0, 1], {"value_range": "real"}, None, (), LABELS[:, None] + [0, 1], "real numbers from 1 to 6"),
    ],
)  # fmt: skip
def test_values_by_range(x, flags, levels, value_range, stored, text):
    dataset = Dataset.from_arrays(x, **flags)
    spec = dataset.spec
    assert (spec.levels, spec.value_range) == (levels, value_range)
    assert (spec.kind == "real") == (flags.get("value_range") == "real")
    dtype = np.float32 if levels is None else np.uint8 if levels <= 256 else np.uint16
    assert every(dataset).dtype == dtype
    assert sets(every(dataset)) == sets(np.asarray(stored).reshape(-1, *spec.shape).astype(dtype))
    assert re.search(text, said(dataset)[0])


def test_few_values_are_no_grid_of_many_bits():
    sevenths = RNG.integers(0, 8, (40, 8, 8)) / 7  # 7 divides 4095
    assert Dataset.from_arrays(sevenths).spec.levels is None


def test_examples_of_a_window_are_given_in_its_numbers():
    spec = Dataset.from_arrays(SCAN).spec
    np.testing.assert_array_equal(checked_examples(spec, "encode", SCAN)[..., 0], SCAN.astype(int) + 1024)
    with pytest.raises(ValueError, match="integers from -2000 to 0, expected levels -1024 to 3071"):
        checked_examples(spec, "encode", np.array([[-2000, 0]]).repeat(32).reshape(1, 8, 8))


def test_batches_are_read_by_kind_and_range():
    def batch(step):
        return np.random.default_rng(step).normal(size=(8, 6, 2))

    series = Dataset.from_batches(batch, kind="series")
    assert (series.spec.shape, series.spec.kind) == ((6, 2), "real")
    scans = Dataset.from_batches(lambda step: SCAN[:8], layout="hwc", value_range="-100:100")
    assert (scans.spec.levels, scans.spec.value_range) == (201, (-100.0, 100.0))


def test_labels_that_count_from_one():
    x = UNIT[..., 0, 0, 0]
    plain = Dataset.from_arrays(x, LABELS)
    assert plain.spec.num_classes == 6
    assert (
        "labels are 1 to 5: no example is of class 0; where classes count from 1, say --first_label=1"
        in said(plain)[-1]
    )
    counted = Dataset.from_arrays(x, LABELS, first_label=1)
    assert (counted.spec.num_classes, counted.spec.label_names) == (5, ("1", "2", "3", "4", "5"))
    assert not [line for line in said(counted) if "first_label" in line]
    assert set(np.concatenate([arrays["y"] for arrays in counted.splits.values()])) == set(range(5))
    assert Dataset.from_arrays(x, np.where(LABELS == 5, -1, LABELS), first_label=1).spec.num_classes == 4
    with pytest.raises(UserError, match=r"--first_label=2: .*labels from 1 on"):
        Dataset.from_arrays(x, LABELS, first_label=2)


@pytest.mark.parametrize(
    ("x", "flags", "match"),
    [
        (UNIT, {}, "--kind=volume, or sequences of images .* --kind=sequence"),
        (
            np.zeros((5, 64, 8, 8), np.uint8),
            {},
            "--layout=chw reads 64 channels of 8x8, --layout=hwc 8 channels of 64x8",
        ),
        (UNIT, {"layout": "ct", "kind": "image"}, "--layout=ct is for --kind=series, not for image"),
        (UNIT, {"kind": "cube"}, "--kind=cube: Known: auto, image"),
        (UNIT[:, 0, 0], {"value_range": "3:1"}, "--value_range=3:1: expected LOW:HIGH"),
        (UNIT[:, 0, 0], {"value_range": "real", "kind": "image"}, "is for vectors and series"),
        (
            UNIT[:, 0, 0],
            {"kind": "volume"},
            r"--layout=dhwc: .* expected .n, d, h, w, c. or .n, d, h, w.; leave the flag out",
        ),
    ],
)
def test_refused_readings(x, flags, match):
    with pytest.raises(UserError, match=match):
        Dataset.from_arrays(x, **flags)


def test_flags_of_arrays_are_refused_elsewhere():
    for flag in ({"kind": "image"}, {"value_range": "0:1"}, {"first_label": 1}):
        with pytest.raises(
            UserError, match=rf"--{next(iter(flag))}=.*: is for PATH.npz and PATH.npy, and digits is neither"
        ):
            data.load("digits", **flag)
