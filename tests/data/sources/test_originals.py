"""Data sets in MNIST's format, without TensorFlow: built, read by the stock reader, verified by checksum.

Small files of the same format stand for the real ones, which are read where they are at hand.
"""

import gzip
import hashlib
import shutil
import struct
import sys
import time

import numpy as np
import pytest

from vaex import data
from vaex.data.sources import originals as module
from vaex.data.sources.formats import FILES
from vaex.data.sources.original_files import OriginalFiles
from vaex.data.sources.originals import ORIGINALS, load_originals
from vaex.data.sources.tfds_writing import write_records
from vaex.errors import UserError


def write_files(folder, seed, train=30, test=12):
    """Four files in idx format with random content, and their OriginalFiles."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    sha256, contents = {}, {}
    for split, n in (("train", train), ("test", test)):
        x, y = rng.integers(0, 256, [n, 9, 7], dtype=np.uint8), rng.integers(0, 3, n, dtype=np.uint8)
        contents[split] = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
        for name, values in zip(FILES[split], (x, y), strict=True):
            header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            (folder / name).write_bytes(gzip.compress(header + values.tobytes(), mtime=0))
            sha256[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return OriginalFiles(
        f"tiny_{seed}", "1.0.0", "https://example.org/", sha256, contents, ("a", "b", "c"), held_out=10
    )


@pytest.fixture
def tiny(tmp_path):
    return write_files(tmp_path / "files", 0)


def raw(folder, split):
    """The files' content, read independently of the code under test."""
    images, labels = (gzip.decompress((folder / name).read_bytes()) for name in FILES[split])
    n = struct.unpack(">I", labels[4:8])[0]
    return np.frombuffer(images[16:], np.uint8).reshape(n, *struct.unpack(">2I", images[8:16]), 1), np.frombuffer(
        labels[8:], np.uint8
    )


def check_splits(dataset, folder, held_out):
    x, y = raw(folder, "train")
    expected = {
        "train": (x[:-held_out], y[:-held_out]),
        "validation": (x[-held_out:], y[-held_out:]),
        "test": raw(folder, "test"),
    }
    assert list(dataset.splits) == list(expected)
    for split, (images, labels) in expected.items():
        assert np.array_equal(dataset.splits[split]["x"], images)
        assert np.array_equal(dataset.splits[split]["y"], labels)
        assert dataset.splits[split]["y"].dtype == np.int32


def test_built_from_files_then_read_from_the_prepared_data_then_from_the_cache(tiny, tmp_path, monkeypatch):
    dataset = load_originals(tiny, tmp_path / "root", tmp_path / "files")
    check_splits(dataset, tmp_path / "files", held_out=10)
    assert dataset.spec == data.Spec(
        "tiny_0", (9, 7, 1), "grey", levels=256, num_classes=3, label_names=("a", "b", "c"),
        protocol="tiny_0_20_10_12 256_levels", data_hash=dataset.spec.data_hash,
    )  # fmt: skip
    shutil.rmtree(tmp_path / "root" / "tiny_0" / "1.0.0" / "vaex_cache")
    assert load_originals(tiny, tmp_path / "root").spec == dataset.spec
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # the cache needs no decoder
    cached = load_originals(tiny, tmp_path / "root")
    assert cached.spec == dataset.spec
    check_splits(cached, tmp_path / "files", held_out=10)


def test_nothing_is_said_to_be_downloaded(tiny, tmp_path, capfd):
    write_records(tiny, tmp_path / "root", tmp_path / "files")
    said = capfd.readouterr()
    assert "ownload" not in said.out and "nothing is downloaded" in said.err


def test_the_stock_reader_reads_it(tiny, tmp_path):
    import tensorflow_datasets

    write_records(tiny, tmp_path / "root", tmp_path / "files")
    source = tensorflow_datasets.data_source("tiny_0:1.0.0", split="train", data_dir=tmp_path / "root", download=False)
    x, y = raw(tmp_path / "files", "train")
    assert len(source) == 30
    assert all(np.array_equal(example["image"], image) for example, image in zip(source, x, strict=True))
    assert [example["label"] for example in source] == y.tolist()
    assert "tensorflow" not in sys.modules


def test_data_in_the_order_of_the_stock_builder_comes_out_the_same(tiny, tmp_path):
    """TFDS's own builder shuffles; arrays, splits and hash must not depend on who prepared the data."""
    import tensorflow_datasets

    write_records(tiny, tmp_path / "shuffled", tmp_path / "files", shuffle=True)
    source = tensorflow_datasets.data_source(
        "tiny_0:1.0.0", split="train", data_dir=tmp_path / "shuffled", download=False
    )
    assert not np.array_equal(np.stack([example["image"] for example in source]), raw(tmp_path / "files", "train")[0])
    check_splits(load_originals(tiny, tmp_path / "shuffled"), tmp_path / "files", held_out=10)


def test_two_data_sets_with_the_same_file_names_stay_apart(tiny, tmp_path):
    other = write_files(tmp_path / "other", 1)
    for originals, folder in ((tiny, "files"), (other, "other")):
        check_splits(load_originals(originals, tmp_path / "root", tmp_path / folder), tmp_path / folder, held_out=10)
    with pytest.raises(UserError, match=r"is not tiny_1's \(its sha256 is"):
        load_originals(other, tmp_path / "fresh", tmp_path / "files")
    assert not (tmp_path / "fresh").exists()


def test_prepared_data_that_is_another_set_is_refused(tiny, tmp_path):
    other = write_files(tmp_path / "other", 1)
    impostor = other._replace(name=tiny.name)
    write_records(impostor, tmp_path / "root", tmp_path / "other")
    with pytest.raises(UserError, match="its train split is not that of tiny_0"):
        load_originals(tiny, tmp_path / "root", tmp_path / "files")


def test_the_wrong_set_of_files_is_named(tmp_path, monkeypatch):
    mine, theirs = write_files(tmp_path / "mine", 0), write_files(tmp_path / "theirs", 1)
    monkeypatch.setattr(module, "ORIGINALS", {"a": mine, "b": theirs})
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz: is not tiny_0's \(it is tiny_1's\)"):
        load_originals(mine, tmp_path / "root", tmp_path / "theirs")


def test_missing_files_are_named_at_once(tiny, tmp_path):
    started = time.monotonic()
    with pytest.raises(
        UserError, match=r"nothing is downloaded. Put train-images-idx3-ubyte.gz, .*example.org.*--manual_dir"
    ):
        load_originals(tiny, tmp_path / "root")
    (tmp_path / "files" / FILES["test"][1]).unlink()
    with pytest.raises(UserError, match=r"lacks t10k-labels-idx1-ubyte.gz; tiny_0 needs"):
        load_originals(tiny, tmp_path / "root", tmp_path / "files")
    with pytest.raises(UserError, match="lacks train-images"):
        load_originals(tiny, tmp_path / "root", tmp_path / "no such folder")
    assert time.monotonic() - started < 5
    assert not (tmp_path / "root").exists()


def test_a_file_cut_short_is_refused(tiny, tmp_path):
    path = tmp_path / "files" / FILES["train"][0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is not tiny_0's"):
        load_originals(tiny, tmp_path / "root", tmp_path / "files")


def test_a_disk_that_refuses_leaves_nothing_half_written(tiny, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vaex.data.sources.tfds_writing.png_examples", full)
    with pytest.raises(UserError, match=r"tiny_0 cannot be written there \(No space left on device\); free space"):
        load_originals(tiny, tmp_path / "root", tmp_path / "files")
    monkeypatch.undo()
    check_splits(load_originals(tiny, tmp_path / "root", tmp_path / "files"), tmp_path / "files", held_out=10)


def test_data_that_cannot_be_cached_is_still_read(tiny, tmp_path, monkeypatch):
    def read_only(*args):
        raise OSError(30, "Read-only file system")

    write_records(tiny, tmp_path / "root", tmp_path / "files")
    monkeypatch.setattr("vaex.data.storage.cache.writing", read_only)
    with pytest.warns(UserWarning, match="Read-only file system.*every start will decode it"):
        dataset = load_originals(tiny, tmp_path / "root")
    check_splits(dataset, tmp_path / "files", held_out=10)


def test_a_missing_package_is_named(tiny, tmp_path, monkeypatch):
    write_records(tiny, tmp_path / "root", tmp_path / "files")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    for root in ("root", "fresh"):
        with pytest.raises(UserError, match=r"needs tensorflow-datasets.*pip install \"vaex-jax\[train\]\""):
            load_originals(tiny, tmp_path / root, tmp_path / "files")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", pytest.param("fashion_mnist", marks=pytest.mark.slow)])
def test_the_real_files(name, shared_data, tmp_path, monkeypatch):
    """All 70,000 images from the original files; afterwards a start needs neither them nor a decoder, and is quick."""
    import tensorflow_datasets

    dataset = data.load(name, data_dir=tmp_path, manual_dir=shared_data / name)
    check_splits(dataset, shared_data / name, held_out=10_000)
    assert dataset.spec.protocol == f"{name}_50000_10000_10000 256_levels"
    assert dataset.spec.shape == (28, 28, 1)
    source = tensorflow_datasets.data_source(name, split="test", data_dir=tmp_path, download=False)
    assert np.array_equal(source[9999]["image"], raw(shared_data / name, "test")[0][9999])
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    started = time.perf_counter()
    assert data.load(name, data_dir=tmp_path).spec == dataset.spec
    assert time.perf_counter() - started < 3  # about 0.4 s on an idle core


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_table_matches_the_real_files(name, shared_data):
    for file, expected in ORIGINALS[name].sha256.items():
        assert hashlib.sha256((shared_data / name / file).read_bytes()).hexdigest() == expected
    for split, expected in ORIGINALS[name].contents.items():
        x, y = raw(shared_data / name, split)
        assert hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() == expected
