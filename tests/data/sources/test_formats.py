"""Original files of every format: what the readers return, and one clear line for invalid files.

Small files of the published formats stand for the real ones, which are read where they are at hand.
"""

import hashlib
import io
import shutil
import sys
import tarfile
import time

import numpy as np
import pytest

from vaex import data
from vaex.data.sources import formats
from vaex.data.sources.originals import ORIGINALS, load_originals
from vaex.data.sources.tfds_writing import write_records
from vaex.errors import UserError

RNG = np.random.default_rng(0)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def amat(x):
    """The text of an .amat file, written line by line."""
    return "".join(" ".join(map(str, row)) + "\n" for row in x.reshape(len(x), -1).tolist()).encode()


@pytest.fixture
def tiny_binarized(tmp_path):
    """Write a few binary images as text in files/ and packed in packed/; return their OriginalFiles."""
    splits = {split: RNG.integers(0, 2, [n, 28, 28], dtype=np.uint8) for split, n in
              (("train", 12), ("validation", 5), ("test", 4))}  # fmt: skip
    for folder in ("files", "packed"):
        (tmp_path / folder).mkdir()
    for split, name in formats.AMAT.items():
        (tmp_path / "files" / name).write_bytes(amat(splits[split]))
    np.savez_compressed(tmp_path / "packed" / "binarized_mnist.npz", **splits)
    originals = ORIGINALS["binarized_mnist"]._replace(
        sha256={name: sha256(tmp_path / "files" / name) for name in formats.AMAT.values()},
        contents={split: hashlib.sha256(x.tobytes()).hexdigest() for split, x in splits.items()},
    )
    return originals, splits


@pytest.mark.parametrize("folder", ["files", "packed"])
def test_binarized_mnist_from_text_or_packed(tiny_binarized, tmp_path, folder):
    import tensorflow_datasets

    originals, splits = tiny_binarized
    dataset = load_originals(originals, tmp_path / "root", tmp_path / folder)
    for split, x in splits.items():
        assert np.array_equal(dataset.splits[split]["x"][..., 0], x)
        assert set(dataset.splits[split]) == {"x"}
    assert dataset.spec.protocol == "static_mnist_larochelle_12_5_4 binary"
    source = tensorflow_datasets.data_source(
        "binarized_mnist", split="validation", data_dir=tmp_path / "root", download=False
    )
    assert np.array_equal(np.stack([example["image"] for example in source])[..., 0], splits["validation"])
    assert "tensorflow" not in sys.modules
    assert load_originals(originals, tmp_path / "root").spec == dataset.spec


def test_binarized_mnist_in_the_stock_order_comes_out_the_same(tiny_binarized, tmp_path):
    originals, splits = tiny_binarized
    write_records(originals, tmp_path / "root", tmp_path / "files", shuffle=True)
    dataset = load_originals(originals, tmp_path / "root")
    assert all(np.array_equal(dataset.splits[split]["x"][..., 0], x) for split, x in splits.items())


def test_packed_images_with_one_other_value_are_refused(tiny_binarized, tmp_path):
    originals, splits = tiny_binarized
    splits["test"][3, 27, 27] ^= 1
    np.savez(tmp_path / "packed" / "binarized_mnist.npz", **splits)
    with pytest.raises(UserError, match=r"binarized_mnist.npz: is not binarized_mnist's \(the checksum of its test"):
        load_originals(originals, tmp_path / "root", tmp_path / "packed")
    assert not (tmp_path / "root").exists()


def test_what_is_missing_names_both_forms(tiny_binarized, tmp_path):
    originals, _ = tiny_binarized
    (tmp_path / "files" / "binarized_mnist_valid.amat").unlink()
    for folder in (tmp_path / "files", None):
        with pytest.raises(UserError, match=r"binarized_mnist_valid.amat.*\(from http.*\), or binarized_mnist.npz"):
            load_originals(originals, tmp_path / "root", folder)


@pytest.mark.parametrize("content", [b"", b"hello", "cut"])
def test_a_packed_file_that_is_damaged(tiny_binarized, tmp_path, content):
    originals, _ = tiny_binarized
    path = tmp_path / "packed" / "binarized_mnist.npz"
    path.write_bytes(path.read_bytes()[:-30] if content == "cut" else content)
    with pytest.raises(UserError, match=r"the files of binarized_mnist cannot be read .*download them again from"):
        load_originals(originals, tmp_path / "root", tmp_path / "packed")


def write_cifar(folder, x, y):
    """An archive in CIFAR-10's format: five files for training, one for test, in an odd order, and its OriginalFiles."""
    folder.mkdir()
    pieces = [*zip(np.split(x["train"], 5), np.split(y["train"], 5), strict=True), (x["test"], y["test"])]
    names = [*formats.CIFAR["train"], *formats.CIFAR["test"]]
    raw = [
        b"".join(bytes([label]) + b"".join(image[..., c].tobytes() for c in range(3)) for image, label in zip(*piece, strict=True))
        for piece in pieces
    ]  # fmt: skip
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for index in (5, 3, 0, 4, 1, 2):
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{names[index]}")
            entry.size = len(raw[index])
            archive.addfile(entry, io.BytesIO(raw[index]))
    return ORIGINALS["cifar10"]._replace(
        sha256={"cifar-10-binary.tar.gz": sha256(folder / "cifar-10-binary.tar.gz")},
        contents={"train": hashlib.md5(b"".join(raw[:5])).hexdigest(), "test": hashlib.md5(raw[5]).hexdigest()},
        held_out=6,
    )


def cifar_arrays(highest=9):
    sizes = {"train": 20, "test": 7}
    x = {split: RNG.integers(0, 256, [n, 32, 32, 3], dtype=np.uint8) for split, n in sizes.items()}
    return x, {split: np.arange(n, dtype=np.uint8) % (highest + 1) for split, n in sizes.items()}


@pytest.mark.parametrize("shuffle", [False, True])
def test_cifar10_from_its_archive(tmp_path, shuffle):
    import tensorflow_datasets

    x, y = cifar_arrays()
    originals = write_cifar(tmp_path / "files", x, y)
    if shuffle:
        write_records(originals, tmp_path / "root", tmp_path / "files", shuffle=True)
    dataset = load_originals(originals, tmp_path / "root", tmp_path / "files")
    for split, images, labels in (
        ("train", x["train"][:14], y["train"][:14]),
        ("validation", x["train"][14:], y["train"][14:]),
        ("test", x["test"], y["test"]),
    ):
        assert np.array_equal(dataset.splits[split]["x"], images)
        assert np.array_equal(dataset.splits[split]["y"], labels)
    assert (dataset.spec.kind, dataset.spec.protocol) == ("color", "cifar10_14_6_7 256_levels")
    assert dataset.spec.label_names[3] == "cat"
    source = tensorflow_datasets.data_source("cifar10", split="test", data_dir=tmp_path / "root", download=False)
    assert sorted(example["id"].decode() for example in source) == [f"test_{index:05d}" for index in range(7)]
    assert all(np.array_equal(e["image"], x["test"][int(e["id"][-5:])]) for e in source)
    assert [e["label"] for e in source] == [y["test"][int(e["id"][-5:])] for e in source]
    assert "tensorflow" not in sys.modules


def test_a_label_out_of_range_is_refused(tmp_path):
    originals = write_cifar(tmp_path / "files", *cifar_arrays(highest=10))
    with pytest.raises(UserError, match="the train split of cifar10 has label 10, expected 0 to 9"):
        load_originals(originals, tmp_path / "root", tmp_path / "files")
    assert not (tmp_path / "root").exists()


def test_another_archive_is_refused(tmp_path):
    write_cifar(tmp_path / "files", *cifar_arrays())
    with pytest.raises(
        UserError, match=r"cifar-10-binary.tar.gz: is not cifar10's \(its sha256 is .*expected c4a38c50"
    ):
        data.load("cifar10", data_dir=tmp_path / "root", manual_dir=tmp_path / "files")
    assert not (tmp_path / "root").exists()


def test_a_disk_that_fills_up_while_records_are_written(tmp_path, monkeypatch):
    from vaex.data.sources import tfds_writing

    png_examples = tfds_writing.png_examples

    def full(*arguments):
        for index, example in enumerate(png_examples(*arguments)):
            if index == 5:
                raise OSError(28, "No space left on device")
            yield example

    originals = write_cifar(tmp_path / "files", *cifar_arrays())
    monkeypatch.setattr(tfds_writing, "png_examples", full)
    with pytest.raises(UserError, match=r"cifar10 cannot be written there \(No space left on device\); free space"):
        load_originals(originals, tmp_path / "root", tmp_path / "files")
    assert not [path for path in (tmp_path / "root").rglob("*") if path.is_file()]


def test_stock_checksums_are_those_of_tfds():
    """The table against what the installed tensorflow-datasets expects of the same files."""
    import pathlib

    import tensorflow_datasets

    package = pathlib.Path(tensorflow_datasets.__file__).parent
    for name, listed in (
        ("cifar10", "url_checksums/cifar10.txt"),
        ("binarized_mnist", "datasets/binarized_mnist/checksums.tsv"),
    ):
        rows = [line.split() for line in (package / listed).read_text().splitlines()]
        assert {url.rsplit("/", 1)[1]: known for url, _, known, *_ in rows} == ORIGINALS[name].sha256


def test_cifar10_digests_are_those_of_the_real_images(shared_data):
    """The first of the five files is at hand, as arrays."""
    with np.load(shared_data / "cifar10_part" / "cifar10_train_first10000.npz") as archive:
        found = formats.digest_cifar(archive["images"], archive["labels"])
    assert found == ORIGINALS["cifar10"].contents["train"].split()[0]


@pytest.mark.slow
def test_the_real_binarized_mnist(shared_data, tmp_path, monkeypatch):
    with np.load(shared_data / "binarized_mnist" / "binarized_mnist.npz") as archive:
        arrays = {split: archive[split] for split in formats.AMAT}
    dataset = data.load("binarized_mnist", data_dir=tmp_path, manual_dir=shared_data / "binarized_mnist")
    for split, x in arrays.items():
        assert np.array_equal(dataset.splits[split]["x"][..., 0], x)
    assert dataset.spec.protocol == "static_mnist_larochelle_50000_10000_10000 binary"
    again(dataset, "binarized_mnist", tmp_path, monkeypatch)


def test_the_real_text_has_the_known_checksums(shared_data, tmp_path):
    """The text of the published arrays is what the table and the reader know."""
    with np.load(shared_data / "binarized_mnist" / "binarized_mnist.npz") as archive:
        x = archive["test"]
    (tmp_path / formats.AMAT["test"]).write_bytes(amat(x))
    assert sha256(tmp_path / formats.AMAT["test"]) == ORIGINALS["binarized_mnist"].sha256[formats.AMAT["test"]]
    assert np.array_equal(formats.read_amat(tmp_path, "test")[0][..., 0], x)


def again(dataset, name, root, monkeypatch):
    """A second start needs neither the files nor a decoder."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorflow_datasets", None)
        started = time.perf_counter()
        second = data.load(name, data_dir=root)
        assert time.perf_counter() - started < 3
    assert second.spec == dataset.spec
    for split, arrays in dataset.splits.items():
        assert all(np.array_equal(second.splits[split][key], values) for key, values in arrays.items())


@pytest.mark.slow
def test_the_real_omniglot(shared_data, tmp_path, monkeypatch):
    dataset = data.load("omniglot", data_dir=tmp_path, manual_dir=shared_data / "omniglot")
    assert dataset.spec.protocol == "omniglot_28x28_area_mean_17352_1928_13180_carved_validation 256_levels"
    assert (dataset.spec.shape, dataset.spec.num_classes) == ((28, 28, 1), 50)
    with np.load(shared_data / "omniglot" / "omniglot_105_packed.npz") as archive:
        evaluation, names = archive["evaluation"], [str(name).replace("_", " ") for name in archive["alphabet_names"]]
        packed, alphabet = archive["packed"][evaluation], archive["alphabet"][evaluation]
    assert list(dataset.spec.label_names) == names
    test = dataset.splits["test"]
    assert np.array_equal(test["y"], alphabet)
    assert not set(test["y"].tolist()) & {
        *dataset.splits["train"]["y"].tolist(),
        *dataset.splits["validation"]["y"].tolist(),
    }
    ink = np.unpackbits(packed[::500], axis=1, count=105 * 105).reshape(-1, 105, 105)
    small = np.pad(ink, ((0, 0), (3, 4), (3, 4))).reshape(-1, 28, 4, 28, 4).mean((2, 4))
    assert np.abs(test["x"][::500, ..., 0] / 255 - small).max() <= 0.5 / 255 + 1e-9
    again(dataset, "omniglot", tmp_path, monkeypatch)


def test_the_real_freyfaces(shared_data, tmp_path, monkeypatch):
    dataset = data.load("freyfaces", data_dir=tmp_path, manual_dir=shared_data / "freyfaces")
    assert dataset.spec.protocol == "freyfaces_1573_196_196_carved_validation_test 256_levels"
    assert (dataset.spec.shape, dataset.spec.num_classes, dataset.spec.label_names) == ((28, 20, 1), 0, ())
    with np.load(shared_data / "freyfaces" / "freyfaces.npz") as archive:
        images = archive["images"]
    found = np.concatenate([split["x"] for split in dataset.splits.values()])
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in images)
    again(dataset, "freyfaces", tmp_path, monkeypatch)


def test_a_cache_of_direct_files_that_is_damaged_is_made_again(shared_data, tmp_path):
    whole = data.load("freyfaces", data_dir=tmp_path, manual_dir=shared_data / "freyfaces")
    path = tmp_path / "vaex_cache" / "freyfaces" / "train_x.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match="sha256 does not match"), pytest.raises(UserError, match="--manual_dir"):
        data.load("freyfaces", data_dir=tmp_path)
    with pytest.warns(UserWarning, match="sha256 does not match"):
        assert data.load("freyfaces", data_dir=tmp_path, manual_dir=shared_data / "freyfaces").spec == whole.spec


@pytest.mark.slow
def test_a_disk_that_fills_up_while_arrays_are_kept(shared_data, tmp_path, full_disk):
    with (
        full_disk(1_000_000),
        pytest.raises(UserError, match=r"omniglot cannot be written there \(File too large\); free space"),
    ):
        data.load("omniglot", data_dir=tmp_path, manual_dir=shared_data / "omniglot")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_files_of_another_set_do_not_pass(shared_data, tmp_path):
    shutil.copy(shared_data / "freyfaces" / "freyfaces.npz", tmp_path / "omniglot_105_packed.npz")
    with pytest.raises(UserError, match="the files of omniglot cannot be read"):
        data.load("omniglot", data_dir=tmp_path / "root", manual_dir=tmp_path)
    with pytest.raises(UserError, match=r"lacks freyfaces.npz; freyfaces needs freyfaces.npz"):
        data.load("freyfaces", data_dir=tmp_path / "root", manual_dir=tmp_path)


@pytest.mark.parametrize("name", ["celeb_a", "dsprites", "shapes3d"])
def test_stock_sets_say_how_to_prepare_them(name, tmp_path):
    started = time.perf_counter()
    with pytest.raises(
        UserError, match=rf"vaex-jax\[tensorflow\].*tfds.builder\(.{name}.*download_and_prepare"
    ) as caught:
        data.load(name, data_dir=tmp_path)
    assert time.perf_counter() - started < 1
    assert "\n" not in str(caught.value)
