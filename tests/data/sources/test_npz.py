"""A user's own files: what is recognised, how missing splits are split off, and one clear line for invalid input."""

import pathlib
import zipfile

import numpy as np
import pytest

from vaex import data
from vaex.errors import UserError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, [30, 9, 7], dtype=np.uint8)
BYTES[0, 0, :2] = 0, 255
BITS = BYTES > 127
UNIT = RNG.random([30, 9, 7], dtype=np.float32)
GRID = BYTES / 255


def save(folder, **arrays):
    path = folder / "own.npz"
    np.savez(path, **arrays)
    return str(path)


def together(dataset, name="x"):
    return np.concatenate([split[name] for split in dataset.splits.values()])


def as_sets(rows):
    return sorted(row.tobytes() for row in np.asarray(rows))


@pytest.mark.parametrize(
    ("x", "expected", "kind", "levels"),
    [
        (BYTES, BYTES, "grey", 256),
        (BYTES[..., None], BYTES, "grey", 256),
        (BYTES.astype(np.int64), BYTES, "grey", 256),
        (BYTES.astype(">i2"), BYTES, "grey", 256),
        (BITS, BITS, "binary", 2),
        (BITS.astype(np.uint8), BITS, "binary", 2),
        (BITS.astype(np.int32) * 255, BITS, "binary", 2),
        (BITS.astype(np.float64), BITS, "binary", 2),
        (GRID, BYTES, "grey", 256),
        (GRID.astype(np.float32), BYTES, "grey", 256),
        (BYTES.astype(np.float32) * np.float32(1 / 255), BYTES, "grey", 256),
        (GRID.astype(np.float16), BYTES, "grey", 256),
        (BITS.astype(np.uint8) * 2, BITS.astype(np.uint8) * 2, "grey", 256),
        (GRID.astype(np.float32) * np.float32(0.99999), None, "grey", None),
        (UNIT, UNIT, "grey", None),
        (UNIT.astype(np.float64), UNIT, "grey", None),
        (RNG.random([30, 9, 7]).astype(np.float16), None, "grey", None),
        (np.float32(0.97) + UNIT.astype(np.float16) * np.float16(0.03), None, "grey", None),
        (BYTES.reshape(30, 63), BYTES.reshape(30, 63), "grey", 256),
        (UNIT.reshape(30, 63), UNIT.reshape(30, 63), "grey", None),
        (UNIT.reshape(30, 63) * 8 - 4, UNIT.reshape(30, 63) * 8 - 4, "real", None),
        (np.repeat(BYTES[..., None], 3, -1), np.repeat(BYTES[..., None], 3, -1), "color", 256),
        (np.repeat(BITS[..., None], 3, -1), np.repeat(BITS[..., None], 3, -1), "binary", 2),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else str(value),
)
def test_values_are_recognised(tmp_path, x, expected, kind, levels):
    dataset = data.load(save(tmp_path, x=x))
    stored = together(dataset)
    assert (dataset.spec.kind, dataset.spec.levels) == (kind, levels)
    assert stored.dtype == (np.uint8 if levels else np.float32)
    assert stored.shape == (30, *dataset.spec.shape)
    assert len(dataset.spec.shape) == (1 if x.ndim == 2 else 3)
    if expected is not None:
        assert as_sets(stored) == as_sets(expected.astype(stored.dtype))


def test_binary_is_decided_over_all_splits(tmp_path):
    black = np.zeros([4, 9, 7], np.uint8)
    dataset = data.load(save(tmp_path, x_train=black, x_validation=black, x_test=BYTES))
    assert dataset.spec.levels == 256
    assert np.array_equal(dataset.splits["test"]["x"][..., 0], BYTES)
    dataset = data.load(save(tmp_path, x_train=black, x_validation=black, x_test=BITS.astype(np.uint8) * 255))
    assert dataset.spec.kind == "binary"
    assert np.array_equal(dataset.splits["test"]["x"][..., 0], BITS)


def test_given_splits_and_labels_are_kept_in_order(tmp_path):
    y = np.arange(30) % 4
    images = {"x_train": BYTES[:20], "x_validation": BYTES[20:25], "x_test": BYTES[25:]}
    dataset = data.load(save(tmp_path, **images, y_train=y[:20].astype(float), y_validation=y[20:25], y_test=y[25:]))
    for split, part in (("train", slice(0, 20)), ("validation", slice(20, 25)), ("test", slice(25, 30))):
        assert np.array_equal(dataset.splits[split]["x"][..., 0], BYTES[part])
        assert np.array_equal(dataset.splits[split]["y"], y[part])
        assert dataset.splits[split]["y"].dtype == np.int32
    assert dataset.spec.protocol == "own_20_5_5 256_levels"
    assert dataset.spec.num_classes == 4


@pytest.mark.parametrize(
    ("given", "sizes", "words"),
    [
        (["x"], (24, 3, 3), "own_24_3_3_carved_validation_test"),
        (["x_train"], (24, 3, 3), "own_24_3_3_carved_validation_test"),
        (["x_train", "x_test"], (27, 3, 30), "own_27_3_30_carved_validation"),
        (["x", "x_validation"], (27, 30, 3), "own_27_30_3_carved_test"),
    ],
)
def test_missing_splits_are_split_off(tmp_path, given, sizes, words):
    x = np.stack([np.full([8], i, np.uint8) for i in range(30)])
    y = np.arange(30) - 1
    arrays = {name: x + 100 * (name not in ("x", "x_train")) for name in given}
    dataset = data.load(save(tmp_path, **arrays, **{name.replace("x", "y"): y for name in given}))
    assert tuple(len(split["x"]) for split in dataset.splits.values()) == sizes
    assert dataset.spec.protocol == f"{words} {1 + max(values.max() for values in arrays.values())}_levels"
    own = [split for split in dataset.splits.values() if split["x"].max() < 100]
    assert sorted(np.concatenate([split["x"][:, 0] for split in own])) == list(range(30))  # disjoint, nothing lost
    for split in own:
        assert np.array_equal(split["x"][:, 0] - 1, split["y"].astype(np.uint8))  # labels went along
    again = data.load(save(tmp_path, **arrays, **{name.replace("x", "y"): y for name in given}))
    assert again.spec == dataset.spec


@pytest.mark.parametrize(("n", "sizes"), [(3, (1, 1, 1)), (9, (7, 1, 1)), (19, (17, 1, 1)), (20, (16, 2, 2))])
def test_splits_that_are_split_off_are_a_tenth_and_never_empty(tmp_path, n, sizes):
    dataset = data.load(save(tmp_path, x=BYTES[:n]))
    assert tuple(len(split["x"]) for split in dataset.splits.values()) == sizes


def test_the_split_that_is_split_off_is_golden(tmp_path):
    dataset = data.load(save(tmp_path, x=np.arange(30, dtype=np.uint8)[:, None] * 8))
    assert [split["x"][:3, 0].tolist() for split in dataset.splits.values()] == [
        [96, 80, 88],
        [104, 64, 128],
        [72, 216, 144],
    ]


def test_the_hash_sees_values_shapes_and_splits(tmp_path):
    variants = [
        {"x": BYTES}, {"x": BYTES[:, ::-1]}, {"x": BYTES.reshape(30, 7, 9)}, {"x": BYTES, "y": np.zeros(30, int)},
        {"x_train": BYTES[:10], "x_validation": BYTES[10:20], "x_test": BYTES[20:]},
        {"x_train": BYTES[:10], "x_validation": BYTES[20:], "x_test": BYTES[10:20]},
    ]  # fmt: skip
    hashes = [data.load(save(tmp_path, **variant)).spec.data_hash for variant in variants]
    assert len(set(hashes)) == len(hashes)
    assert all(len(value) == 16 for value in hashes)


NAN = UNIT.copy()
NAN[3, 4, 5] = np.nan
NAN[7, 0, 0] = np.inf


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({}, "no array x or x_train"),
        ({"x_test": BYTES}, "no array x or x_train"),
        ({"x_trian": BYTES}, "'x_trian'; did you mean x_train"),
        ({"x": BYTES, "labels": np.arange(30)}, "'labels'; Known: .*, x, x_test"),
        ({"x": BYTES, "x_train": BYTES}, "both x and x_train"),
        ({"x": BYTES, "y": np.arange(30), "y_train": np.arange(30)}, "both y and y_train"),
        ({"x": NAN}, r"2 values that are NaN or infinite, the first at index \(3, 4, 5\)"),
        (
            {"x": UNIT * 255},
            "from 0.[0-9]* to 25[0-9.]*, expected 0 to 1; give the possible ones, such as --value_range=0:255",
        ),
        (
            {"x": UNIT - 1},
            r"float images hold values from -.* expected 0 to 1; give the possible ones, --value_range=-1:1, or read",
        ),
        (
            {"x": UNIT * 9 - 3},
            r"such as --value_range=-3:6, or read real numbers as series .n, t, c. with --kind=series, or as vectors with --lay",
        ),
        ({"x": UNIT * 4095}, "such as --value_range=0:4095"),
        ({"x": np.full([3, 4], 1e300)}, "do not fit in float32"),
        (
            {"x": BYTES.reshape(30, 63).astype(int) + 1},
            "int64 with values from 1 to 256, expected 0 to 255; read it as --value_range=real, or rescale it to uint8",
        ),
        ({"x": BYTES.reshape(30, 63).astype(int) - 1}, "from -1 to 254"),
        ({"x": BYTES.astype(int) + 99999}, "declare a window, such as --value_range=-1000:1000"),
        ({"x": BYTES.astype(complex)}, "dtype complex128, expected uint8, bool or float"),
        ({"x": BYTES.astype(str)}, "dtype <U3"),
        ({"x": np.zeros([3], "datetime64[s]")}, "dtype datetime64"),
        ({"x": np.zeros([3], [("a", "f4")])}, "dtype"),
        ({"x": np.array([object(), None])}, "pickled Python objects"),
        ({"x": BYTES[0, 0]}, r"shape \(7,\), expected \[n, h, w\]"),
        ({"x": np.uint8(3)}, r"shape \(\)"),
        (
            {"x": np.zeros([2, 2, 2, 2, 2])},
            r"volumes .n, d, h, w, c., --kind=volume, or sequences .*, --kind=sequence; --layout=vector",
        ),
        ({"x": np.zeros([2, 2, 2, 2, 2, 2])}, "reshape it, or read each example as a vector with --layout=vector"),
        ({"x": BYTES[:0]}, r"is empty \(shape \(0, 9, 7\)\)"),
        ({"x": BYTES[:, :0]}, "is empty"),
        ({"x": np.zeros([5, 3, 32, 32], np.uint8)}, "looks like .n, c, h, w.: --layout=chw reads 3 channels of 32x32"),
        (
            {"x": np.zeros([5, 4, 32, 32], np.uint8)},
            "--layout=hwc 32 channels of 4x32, --kind=volume volumes of one channel, --layout=vector vectors",
        ),
        ({"x": np.zeros([5, 16, 20, 24], np.uint8)}, "--layout=chw reads 16 channels of 20x24"),
        ({"x": BYTES[:2]}, "2 training examples are too few to split_off validation and test"),
        (
            {"x_train": BYTES, "x_test": BYTES[:, 1:]},
            r"x_test has examples of shape \(8, 7, 1\), but x_train of \(9, 7, 1\)",
        ),
        ({"x_train": BYTES, "x_test": UNIT}, "x_test is float32, but x_train is uint8"),
        ({"x": BYTES, "y": np.arange(29)}, "y has 29 labels for 30 examples"),
        ({"x": BYTES, "y": np.eye(30)}, r"store y.argmax\(1\), since its rows are one-hot"),
        ({"x": BYTES, "y": np.ones([30, 3, 2])}, "one class number for each example"),
        ({"x": BYTES, "y": np.zeros([30, 1], int)}, "reshape"),
        ({"x": BYTES, "y": np.full(30, np.nan)}, "not whole numbers"),
        ({"x": BYTES, "y": np.zeros(30, "datetime64[D]")}, "not whole numbers"),
        ({"x": BYTES, "y": np.arange(30) - 2}, "from -2 to 27"),
        ({"x": BYTES, "y": np.arange(30) * 1000}, "largest label is 29000"),
        ({"x": BYTES, "y": np.full(30, 2**40)}, "labels from 1099511627776"),
        ({"x_train": BYTES, "x_test": BYTES, "y_train": np.arange(30)}, "none for x_test; label every split"),
        ({"x": BYTES, "y": np.arange(30), "y_test": np.arange(30)}, "y_test but no x_test"),
    ],
)
def test_invalid_input_gets_one_clear_line(tmp_path, arrays, match):
    path = save(tmp_path, **arrays)
    with pytest.raises(UserError, match=match) as caught:
        data.load(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_a_label_of_minus_one_means_unlabelled(tmp_path):
    dataset = data.load(save(tmp_path, x=BYTES, y=np.where(np.arange(30) < 28, -1, 1)))
    assert dataset.spec.num_classes == 2
    assert sorted(together(dataset, "y").tolist()) == [-1] * 28 + [1, 1]


@pytest.mark.parametrize("size", [0, 10, 400, 2000])
def test_a_file_cut_short_is_refused(tmp_path, size):
    path = pathlib.Path(save(tmp_path, x=BYTES))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"is not an .npz file, or was cut short"):
        data.load(str(path))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_flipped_byte_is_refused(tmp_path, compressed):
    path = tmp_path / "own.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=BYTES)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(UserError, match="is damaged"):
        data.load(str(path))


def test_files_that_are_no_npz(tmp_path):
    npy, text = tmp_path / "renamed.npz", tmp_path / "text.npz"
    with npy.open("wb") as file:
        np.save(file, BYTES)
    text.write_text("hello")
    for path in (npy, text):
        with pytest.raises(UserError, match=r"is not an .npz file"):
            data.load(str(path))
    foreign = tmp_path / "foreign.npz"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("x", "not an array")
    with pytest.raises(UserError, match="x is not an array"):
        data.load(str(foreign))


def test_paths_that_are_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npz").mkdir()
    pathlib.Path("notes.txt").write_text("hello")
    for name, match in (
        ("missing.npz", "missing.npz: no such file; check the path, which starts from"),
        ("folder.npz", "is not a file"),
        ("notes.txt", r"is neither an .npz, .npy, .csv or .parquet file nor a folder; give your own data: PATH.npz"),
    ):
        with pytest.raises(UserError, match=match):
            data.load(name)


VOLUMES = RNG.random([30, 4, 6, 5], dtype=np.float32)


@pytest.mark.parametrize("form", ["npz", "npy", "npz on disk"])
@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("auto", VOLUMES),
        ("hwc", VOLUMES),
        ("chw", np.moveaxis(VOLUMES, 1, 3)),
        ("vector", VOLUMES.reshape(30, 120)),
    ],
)
def test_axes_are_read_as_the_layout_says(tmp_path, monkeypatch, form, layout, expected):
    x = VOLUMES[:, :, :, :4] if layout == "auto" else VOLUMES  # whose axes do not look like [n, c, h, w]
    expected = expected[:, :, :, :4] if layout == "auto" else expected
    path = save(tmp_path, x=x)
    if form == "npy":
        path = str(tmp_path / "own.npy")
        np.save(path, x)
    elif form == "npz on disk":
        monkeypatch.setattr("vaex.data.storage.host_memory.free_memory", lambda: 100)
    dataset = data.load(path, layout=layout, data_dir=tmp_path / "root")
    assert dataset.spec.shape == expected.shape[1:]
    assert as_sets(together(dataset)) == as_sets(expected)
    assert dataset.spec.data_hash == data.load(path, layout=layout, data_dir=tmp_path / "root").spec.data_hash
    if layout != "auto":
        others = [other for other in ("hwc", "chw", "vector") if other != layout]
        hashes = {data.load(path, layout=other, data_dir=tmp_path / "root").spec.data_hash for other in others}
        assert dataset.spec.data_hash not in hashes


@pytest.mark.parametrize("shape", [(24, 24, 24), (30, 30, 12), (4, 32, 3), (1, 9, 1), (2, 7, 4)])
def test_four_axes_that_may_be_images_are_read_as_images(tmp_path, shape):
    assert data.load(save(tmp_path, x=np.zeros([10, *shape], np.uint8))).spec.shape == shape


@pytest.mark.parametrize(
    ("x", "layout", "match"),
    [
        (BYTES, "chw", r"--layout=chw: .* x has shape \(30, 9, 7\), expected \[n, c, h, w\]; leave the flag out"),
        (BYTES.reshape(30, 63), "hwc", r"expected \[n, h, w, c\] or \[n, h, w\]; leave the flag out"),
        (BYTES, "cwh", "--layout=cwh: did you mean chw.*Known: auto, cdhw, chw"),
        (BYTES[0, 0], "vector", "expected .*reshape it"),
    ],
)
def test_layouts_that_do_not_fit(tmp_path, x, layout, match):
    with pytest.raises(UserError, match=match):
        data.load(save(tmp_path, x=x), layout=layout)


def test_layouts_are_for_arrays():
    with pytest.raises(
        UserError, match=r"--layout=chw: is for PATH.npz and PATH.npy, and digits is neither; leave it out"
    ):
        data.load("digits", layout="chw")


def test_vectors_in_fortran_order_stay_on_the_disk(tmp_path):
    np.save(tmp_path / "own.npy", np.asfortranarray(VOLUMES))
    with pytest.raises(UserError, match=r"stored in Fortran order.*store np.ascontiguousarray"):
        data.load(str(tmp_path / "own.npy"), layout="vector")


def test_vectors_of_any_axes(tmp_path):
    x = RNG.normal(size=(30, 2, 3, 2, 2)).astype(np.float32)
    dataset = data.load(save(tmp_path, x=x), layout="vector")
    assert (dataset.spec.shape, dataset.spec.kind) == ((24,), "real")
    assert as_sets(together(dataset)) == as_sets(x.reshape(30, 24))


@pytest.mark.parametrize(
    ("x", "kind", "unit"),
    [
        (UNIT.reshape(30, 63) * 1e-4, "real", 1e-5),  # rates of rare events: a scale of their own
        (UNIT.reshape(30, 63) * 0.05 + 0.5, "real", 1e-2),
        (UNIT.reshape(30, 63) * 0.2, "grey", 1.0),
        (UNIT * 0.05, "grey", 1.0),  # images stay images
    ],
)
def test_vectors_that_fill_little_of_the_interval_are_real(tmp_path, x, kind, unit):
    spec = data.load(save(tmp_path, x=x)).spec
    assert spec.kind == kind and spec.unit == pytest.approx(unit)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_counts_have_the_levels_that_the_largest_needs(tmp_path, monkeypatch, dtype):
    """Of all splits, also where it comes late; images keep the 256 levels of 8 bits."""
    monkeypatch.setattr("vaex.data.storage.splits.CHUNK", 28)
    counts = RNG.poisson(3.0, (30, 7)).clip(0, 9).astype(dtype)
    late = counts.copy()
    late[-1, -1] = 40
    spec = data.load(save(tmp_path, x_train=counts, x_validation=counts, x_test=late)).spec
    assert (spec.kind, spec.levels) == ("grey", 41)
    assert data.load(save(tmp_path, x=late)).spec.levels == 41
    assert data.load(save(tmp_path, x=counts[..., None] + 1)).spec.levels == 256
