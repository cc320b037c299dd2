"""The cache of decoded arrays: what comes back is what was written, or nothing."""

import io
import json
import os
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from vaex.data.storage import cache, checksums
from vaex.errors import UserError

ARRAYS = {"train_x": np.arange(24, dtype=np.uint8).reshape(4, 3, 2), "train_y": np.array([3, 1, 2, 0])}
LONG = np.arange(3000, dtype=np.uint8).reshape(1000, 3)


def write(folder, fingerprint, arrays, step=3, **metadata):
    with cache.writing(folder, fingerprint) as writer:
        writer.metadata.update(metadata)
        for name, values in arrays.items():
            append = writer.array(name, values.shape, values.dtype)
            for start in range(0, len(values), step):
                append(values[start : start + step])


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "cache", "v1", ARRAYS, label_names=["a", "b"])
    return tmp_path / "cache"


def litter(folder):
    return [name for name in os.listdir(folder) if name.startswith(".")]


def test_round_trip(folder):
    kept = cache.read(folder, "v1")
    assert kept.metadata == {"label_names": ["a", "b"]}
    assert list(kept.arrays) == list(ARRAYS)
    for name, values in ARRAYS.items():
        found = kept.arrays[name]
        assert (type(found), found.dtype) == (np.ndarray, values.dtype)
        assert np.array_equal(found, values)
        expected = io.BytesIO()
        np.save(expected, values)
        assert (folder / f"{name}.npy").read_bytes() == expected.getvalue()  # anyone can read and map it


@pytest.mark.parametrize("values", [LONG.astype(">f8"), LONG > 7, LONG[:, 0].astype(np.int64), LONG[:, ::-1]])
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_any_dtype_in_any_steps(tmp_path, values, step):
    write(tmp_path, "v1", {"x": values}, step)
    found = cache.read(tmp_path, "v1").arrays["x"]
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


def test_nothing_under_another_fingerprint_or_in_another_folder(folder, tmp_path):
    assert cache.read(folder, "v2") is None
    assert cache.read(tmp_path / "elsewhere", "v1") is None


def test_writing_again_replaces_and_leaves_nothing_of_before(folder):
    write(folder, "v2", {"train_x": ARRAYS["train_x"] + 1})
    assert cache.read(folder, "v1") is None
    assert np.array_equal(cache.read(folder, "v2").arrays["train_x"], ARRAYS["train_x"] + 1)
    assert sorted(os.listdir(folder)) == [cache.MANIFEST, "train_x.npy"]


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "torn": lambda folder: os.truncate(folder / "train_x.npy", 140),
    "emptied": lambda folder: os.truncate(folder / "train_y.npy", 0),
    "grown": lambda folder: (folder / "train_y.npy").write_bytes((folder / "train_y.npy").read_bytes() + b"0"),
    "one bit of data": lambda folder: flip(folder / "train_x.npy", -1),
    "one bit of header": lambda folder: flip(folder / "train_x.npy", 20),
    "file removed": lambda folder: (folder / "train_y.npy").unlink(),
    "torn manifest": lambda folder: os.truncate(folder / cache.MANIFEST, 30),
    "strange manifest": lambda folder: (folder / cache.MANIFEST).write_text(json.dumps({"fingerprint": "v1"})),
    "manifest is a list": lambda folder: (folder / cache.MANIFEST).write_text("[]"),
    "other arrays": lambda folder: (folder / cache.MANIFEST).write_text('{"fingerprint": "v1", "arrays": {"x": 3}}'),
}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_raises_a_warning(folder, damage, large, monkeypatch):
    monkeypatch.setattr(checksums, "LARGE", 0 if large else 1 << 20)
    DAMAGES[damage](folder)
    with pytest.warns(UserWarning, match="decoded again"):
        assert cache.read(folder, "v1") is None


# --- large files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file in eight pieces, which counts as large."""
    monkeypatch.setattr(checksums, "PIECE", 400)
    monkeypatch.setattr(checksums, "LARGE", 1000)
    write(tmp_path / "large", "v1", {"train_x": LONG, "train_y": LONG[:20, 0]})
    return tmp_path / "large"


def counted(monkeypatch):
    """Return a list that grows by one entry per piece read."""
    read, hashed = [], checksums.hashlib.sha256
    monkeypatch.setattr(checksums.hashlib, "sha256", lambda *content: read.append(content) or hashed(*content))
    return read


def test_a_large_file_is_mapped_and_a_small_one_loaded(large):
    arrays = cache.read(large, "v1").arrays
    assert isinstance(arrays["train_x"], np.memmap) and not isinstance(arrays["train_y"], np.memmap)
    assert np.array_equal(arrays["train_x"], LONG)
    with pytest.raises(ValueError, match="read-only"):
        arrays["train_x"][0] = 0


def test_an_intact_large_file_is_not_read_again(large, monkeypatch):
    read = counted(monkeypatch)
    assert cache.read(large, "v1") is not None
    assert len(read) == 3  # its first and last piece, and the small file


def test_a_large_file_whose_time_changed_is_read_in_full_once(large, monkeypatch):
    os.utime(large / "train_x.npy", ns=(1, 1))
    read = counted(monkeypatch)
    counts = []
    for _ in range(2):
        assert cache.read(large, "v1") is not None
        counts.append(len(read))
        read.clear()
    assert counts == [9, 3]


@pytest.mark.parametrize("position", [5, 1500, -1])
def test_damage_to_a_large_file_is_noticed_wherever_it_is(large, position):
    flip(large / "train_x.npy", position)
    with pytest.warns(UserWarning, match=r"train_x.npy: its sha256 does not match; the data is decoded again"):
        assert cache.read(large, "v1") is None


@pytest.mark.parametrize("position", [5, -1])
def test_damage_to_the_ends_shows_even_where_size_and_time_did_not_change(large, position):
    before = (large / "train_x.npy").stat()
    flip(large / "train_x.npy", position)
    os.utime(large / "train_x.npy", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.warns(UserWarning, match="sha256 does not match"):
        assert cache.read(large, "v1") is None


def test_a_kept_value_is_computed_once(large):
    computed = []
    for _ in range(3):
        assert cache.read(large, "v1").values.get("hash", lambda: computed.append(1) or "b566") == "b566"
    assert computed == [1]
    write(large, "v2", {"train_x": LONG})
    assert cache.read(large, "v2").values.get("hash", lambda: "new") == "new"


def test_a_value_of_replaced_data_is_not_kept(large):
    old = cache.read(large, "v1").values
    write(large, "v2", {"train_x": LONG})
    assert old.get("hash", lambda: "old") == "old"
    assert cache.read(large, "v2").values.get("hash", lambda: "new") == "new"


def test_what_is_mapped_outlives_its_replacement(large):
    """A process that is training goes on with what it mapped."""
    mapped = cache.read(large, "v1").arrays["train_x"]
    write(large, "v2", {"train_x": LONG + 1})
    assert np.array_equal(mapped, LONG)


# --- what goes wrong while writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [50, 200, 1000])
def test_a_disk_that_fills_up_leaves_no_valid_cache(folder, full_disk, size):
    """In the header, in the data, and in the second file; then neither old nor new is taken for whole."""
    with full_disk(size), pytest.raises(cache.DiskRefused, match="File too large"):
        write(folder, "v2", {"train_y": LONG[:20], "train_x": LONG})
    assert cache.read(folder, "v2") is None and cache.read(folder, "v1") is None
    assert os.listdir(folder) == []


def test_a_disk_that_refuses_only_the_manifest_keeps_no_arrays(folder, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_json", refuse)
    with pytest.raises(cache.DiskRefused, match="No space left"):
        write(folder, "v2", ARRAYS)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("count", [999, 1001])
def test_too_few_or_too_many_examples_are_a_mistake(folder, count):
    with pytest.raises(ValueError, match="bytes were written, expected"), cache.writing(folder, "v2") as writer:
        writer.array("train_x", (1000, 3), np.uint8)(np.resize(LONG, (count, 3)))
    assert os.listdir(folder) == []


def test_a_failure_while_decoding_is_passed_on_and_leaves_no_folders(tmp_path):
    def fill(writer):
        writer.array("train_x", LONG.shape, LONG.dtype)(LONG[:5])
        raise UserError("an image cannot be read")

    with pytest.raises(UserError, match="an image cannot be read"):
        cache.read_or_fill(tmp_path / "root" / "cache" / "own", "v1", fill)
    assert os.listdir(tmp_path) == []


FILL = """
import pathlib, sys, time
import numpy as np
from vaex.data.storage import cache

def fill(writer):
    print("filling", flush=True)
    append = writer.array("train_x", (1000, 3), np.uint8)
    for start in range(0, 1000, 100):
        append(np.arange(3 * start, 3 * start + 300).astype(np.uint8).reshape(100, 3))
        time.sleep(float(sys.argv[2]))

print(int(cache.read_or_fill(pathlib.Path(sys.argv[1]), "v1", fill).arrays["train_x"].sum()), flush=True)
"""


def start(folder, pause):
    command = [sys.executable, "-W", "error", "-c", FILL, str(folder), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_no_valid_cache(tmp_path):
    with start(tmp_path / "cache", 60) as process:
        assert process.stdout.readline() == "filling\n"
        deadline = time.monotonic() + 30
        while not litter(tmp_path / "cache") and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert litter(tmp_path / "cache")  # half a file, under a name that nobody reads
    assert cache.read(tmp_path / "cache", "v1") is None
    with start(tmp_path / "cache", 0) as process:
        assert process.communicate()[0] == f"filling\n{LONG.sum()}\n"
    assert sorted(os.listdir(tmp_path / "cache")) == [cache.MANIFEST, "train_x.npy"]


def test_of_two_processes_one_decodes_and_the_other_waits(tmp_path):
    with start(tmp_path / "cache", 0.1) as first:
        assert first.stdout.readline() == "filling\n"
        with start(tmp_path / "cache", 0) as second:
            assert second.communicate()[0] == f"{LONG.sum()}\n"
        assert first.communicate()[0] == f"{LONG.sum()}\n"


def test_without_locks_two_processes_at_once_still_write_the_same(tmp_path, monkeypatch):
    """As on some network file systems: the later rename wins, and both are whole."""
    with cache.writing(tmp_path, "v1") as one:
        append = one.array("train_x", LONG.shape, LONG.dtype)
        append(LONG[:500])
        write(tmp_path, "v1", {"train_x": LONG})
        assert np.array_equal(cache.read(tmp_path, "v1").arrays["train_x"], LONG)
        append(LONG[500:])
    assert np.array_equal(cache.read(tmp_path, "v1").arrays["train_x"], LONG)
    assert not litter(tmp_path)


def test_files_are_readable_by_others(folder):
    mask = os.umask(0)
    os.umask(mask)
    for name in os.listdir(folder):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o666 & ~mask
