"""The cache of decoded arrays: what comes back is what was written, or nothing."""

import json
import os
import stat

import numpy as np
import pytest

from vaex.data import cache

ARRAYS = {"train_x": np.arange(24, dtype=np.uint8).reshape(4, 3, 2), "train_y": np.array([3, 1, 2, 0])}


@pytest.fixture
def folder(tmp_path):
    cache.write(tmp_path / "cache", "v1", ARRAYS, {"label_names": ["a", "b"]})
    return tmp_path / "cache"


def test_round_trip(folder):
    arrays, facts = cache.read(folder, "v1")
    assert facts == {"label_names": ["a", "b"]}
    assert list(arrays) == list(ARRAYS)
    for name, values in ARRAYS.items():
        assert arrays[name].dtype == values.dtype
        assert np.array_equal(arrays[name], values)
        assert np.array_equal(np.load(folder / f"{name}.npy", mmap_mode="r"), values)


def test_nothing_under_another_fingerprint_or_in_another_folder(folder, tmp_path):
    assert cache.read(folder, "v2") is None
    assert cache.read(tmp_path / "elsewhere", "v1") is None


def test_writing_again_replaces(folder):
    cache.write(folder, "v2", {"train_x": ARRAYS["train_x"] + 1}, {})
    assert cache.read(folder, "v1") is None
    assert np.array_equal(cache.read(folder, "v2")[0]["train_x"], ARRAYS["train_x"] + 1)
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "torn": lambda folder: os.truncate(folder / "train_x.npy", 140),
    "emptied": lambda folder: os.truncate(folder / "train_y.npy", 0),
    "one bit of data": lambda folder: flip(folder / "train_x.npy", -1),
    "one bit of header": lambda folder: flip(folder / "train_x.npy", 20),
    "file removed": lambda folder: (folder / "train_y.npy").unlink(),
    "torn manifest": lambda folder: os.truncate(folder / cache.MANIFEST, 30),
    "strange manifest": lambda folder: (folder / cache.MANIFEST).write_text(json.dumps({"fingerprint": "v1"})),
    "manifest is a list": lambda folder: (folder / cache.MANIFEST).write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_said(folder, damage):
    DAMAGES[damage](folder)
    with pytest.warns(UserWarning, match="decoded again"):
        assert cache.read(folder, "v1") is None


def test_a_disk_that_fills_up_leaves_no_valid_cache(folder, monkeypatch):
    """The disk fails at the second file of a new version: neither old nor new is taken for whole, and no litter stays."""
    real_save = np.save

    def save(file, values, **options):
        if values.dtype != np.uint8:
            raise OSError(28, "No space left on device")
        real_save(file, values, **options)

    monkeypatch.setattr(np, "save", save)
    changed = {"train_x": ARRAYS["train_x"] + 1, "train_y": ARRAYS["train_y"]}
    with pytest.raises(OSError, match="No space left"):
        cache.write(folder, "v2", changed, {})
    assert cache.read(folder, "v2") is None
    with pytest.warns(UserWarning, match="decoded again"):
        assert cache.read(folder, "v1") is None
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_files_are_readable_by_others(folder):
    mask = os.umask(0)
    os.umask(mask)
    for name in os.listdir(folder):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o666 & ~mask
