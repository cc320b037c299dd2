"""A user's array on the disk: the same data as an .npz file of it, read row by row."""

import numpy as np
import pytest

from vaex import data
from vaex.data.storage import splits
from vaex.data.storage.mapped_rows import MappedRows
from vaex.errors import UserError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, [40, 9, 7], dtype=np.uint8)
BITS = BYTES > 127
UNIT = RNG.random([40, 9, 7], dtype=np.float32)
LATE_BYTE, LATE_OFF_GRID = np.zeros_like(BYTES), np.round(UNIT * 255) / np.float32(255)
LATE_BYTE[-1, -1, -1] = 77  # only the last chunk tells that this is not binary
LATE_OFF_GRID[-2, 3, 4] = 0.1234567
LATE_GREY = BITS.astype(np.uint8) * 255
LATE_GREY[-1, 2, 2] = 77  # neither the least nor the largest, and other examples look binary
ARRAYS = {
    "bytes": BYTES,
    "bools": BITS,
    "0 and 1": BITS.astype(np.uint8),
    "0 and 255": BITS.astype(np.uint8) * 255,
    "0, 1 and 255": np.where(BITS, 255, BYTES % 2).astype(np.uint8),
    "int64": BYTES.astype(np.int64),
    "big-endian": BYTES.astype(">i2"),
    "binary floats": BITS.astype(np.float64),
    "grid": BYTES / 255,
    "float16 grid": (BYTES / 255).astype(np.float16),
    "floats": UNIT,
    "doubles": UNIT.astype(np.float64),
    "late byte": LATE_BYTE,
    "late off grid": LATE_OFF_GRID,
    "late off grid, doubles": LATE_OFF_GRID.astype(np.float64),
    "late grey": LATE_GREY,
    "late grey, int64": LATE_GREY.astype(np.int64),
    "vectors": BYTES.reshape(40, 63),
    "real": UNIT.reshape(40, 63) * 8 - 4,
    "late real": np.concatenate([UNIT[:39].reshape(39, 63), UNIT[39:].reshape(1, 63) - 4]),
    "color": np.repeat(BYTES[..., None], 3, -1),
    "Fortran": np.asfortranarray(BYTES),
}


@pytest.fixture(autouse=True, params=[6 * 63, 6 * 63 * 4])
def small_chunks(request, monkeypatch):
    monkeypatch.setattr(splits, "CHUNK", request.param)
    monkeypatch.setattr("vaex.data.storage.mapped_rows.CHUNK", request.param)
    return request.param


def save(folder, x, name="own"):
    np.save(folder / f"{name}.npy", x)
    return str(folder / f"{name}.npy")


@pytest.mark.parametrize("name", ARRAYS)
def test_the_same_data_as_from_an_npz_file(tmp_path, name):
    np.savez(tmp_path / "own.npz", x=ARRAYS[name])
    expected = data.load(str(tmp_path / "own.npz"))
    found = data.load(save(tmp_path, ARRAYS[name]))
    assert found.spec._replace(data_hash="") == expected.spec._replace(data_hash="")
    for split, arrays in expected.splits.items():
        rows, x = found.splits[split]["x"], arrays["x"]
        assert isinstance(rows, MappedRows)
        assert (rows.shape, rows.dtype, rows.ndim, rows.nbytes, len(rows)) == (
            x.shape,
            x.dtype,
            x.ndim,
            x.nbytes,
            len(x),
        )
        assert np.array_equal(np.asarray(rows), x)
        assert all(np.array_equal(rows[i], x[i]) for i in (0, -1))
        assert np.array_equal(rows[1:3], x[1:3])
        if len(x) > 6:
            table = np.array([[5, 0, 1], [3, 3, 2]])
            assert np.array_equal(rows[table], x[table])
            assert np.array_equal(rows[np.arange(len(x)) % 2 == 1], x[1::2])
            out = np.empty_like(x[:2])
            assert np.take(rows, [4, 2], axis=0, out=out, mode="clip") is out
            assert np.array_equal(out, x[[4, 2]])


def test_only_the_rows_asked_for_are_read(small_chunks):
    """Rows read their base only where rows are taken, and never more than a chunk at a time."""
    read = []

    class Base:
        shape, dtype = BYTES.shape, BYTES.dtype

        def __getitem__(self, key):
            read.append(np.asarray(key).tolist())
            return BYTES[key]

    chosen = np.random.default_rng(0).permutation(len(BYTES))[:32]
    rows = MappedRows(Base(), chosen, lambda raw: raw, BYTES.shape[1:], BYTES.dtype)
    rows[2:4]
    assert read == [chosen[2:4].tolist()]
    read.clear()
    assert len(rows[:]) == 32 and [row for piece in read for row in piece] == chosen.tolist()
    assert max(map(len, read)) == small_chunks // 63


@pytest.mark.parametrize("name", ["bytes", "grid"])
def test_feeds_and_evaluation_take_them(tmp_path, name):
    np.savez(tmp_path / "own.npz", x=ARRAYS[name])
    expected = data.load(str(tmp_path / "own.npz")).splits["train"]
    found = data.load(save(tmp_path, ARRAYS[name])).splits["train"]
    for one, other in zip(data.padded_batches(found, 5), data.padded_batches(expected, 5), strict=True):
        assert np.array_equal(one["x"], other["x"])
    streams = [data.feed_for("host", arrays, 4, data_seed=1).plan(3, 2)["x"] for arrays in (found, expected)]
    assert np.array_equal(*streams)
    feeds = [data.resident_feed(arrays, 4, data_seed=1) for arrays in (found, expected)]
    batches = [feed.batch(feed.resident, feed.plan(3, 1)[0])["x"] for feed in feeds]
    assert np.array_equal(*batches)


def test_the_hash_sees_values_dtype_and_shape(tmp_path):
    changed = BYTES.copy()
    changed[-1, -1, -1] ^= 1
    variants = [BYTES, changed, BYTES.astype(np.int16), BYTES.reshape(40, 7, 9)]
    hashes = [data.load(save(tmp_path, x)).spec.data_hash for x in variants]
    assert len(set(hashes)) == len(variants)
    assert data.load(save(tmp_path, BYTES)).spec.data_hash == hashes[0]
    assert data.load(save(tmp_path, np.asfortranarray(BYTES))).spec.data_hash == hashes[0]


NAN = UNIT.copy()
NAN[33, 4, 5] = np.nan


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (NAN, r"1 values that are NaN or infinite, the first at index \(33, 4, 5\); remove"),
        (UNIT * 255, "expected 0 to 1; give the possible ones, such as --value_range=0:255"),
        (np.concatenate([UNIT[:39], UNIT[39:] + 3]), "expected 0 to 1"),
        (BYTES.astype(int) + 99999, "expected 0 to 255"),
        (BYTES.astype(int) * -999, "expected 0 to 255; declare a window, such as --value_range"),
        (BYTES.astype(complex), "dtype complex128"),
        (np.zeros([3], "datetime64[s]"), "dtype datetime64"),
        (np.array([[object()]]), "is not an .npy file of numbers"),
        (BYTES[0, 0], r"shape \(7,\), expected \[n, h, w\]"),
        (BYTES[:0], "is empty"),
        (np.zeros([5, 3, 32, 32], np.uint8), "looks like .n, c, h, w."),
        (BYTES[:2], "2 training examples are too few"),
    ],
)
def test_invalid_input_gets_one_clear_line(tmp_path, x, match):
    path = save(tmp_path, x)
    with pytest.raises(UserError, match=match) as caught:
        data.load(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 100, 1000])
def test_a_file_cut_short_is_refused(tmp_path, size):
    path = save(tmp_path, BYTES)
    with open(path, "r+b") as file:
        file.truncate(size)
    with pytest.raises(UserError, match=r"is not an .npy file of numbers, or was cut short"):
        data.load(path)


def test_files_that_are_no_npy(tmp_path):
    with (tmp_path / "renamed.npy").open("wb") as file:
        np.savez(file, x=BYTES)
    with pytest.raises(UserError, match=r"renamed.npy: is not an .npy file"):
        data.load(str(tmp_path / "renamed.npy"))
    with pytest.raises(UserError, match=r"missing.npy: no such file"):
        data.load(str(tmp_path / "missing.npy"))
    with pytest.raises(UserError, match="--image_size=8: is for a folder of images"):
        data.load(save(tmp_path, BYTES), image_size=8)
