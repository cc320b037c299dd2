"""Arrays of other names and files: dSprites-like .npz, HDF5, and labels that are texts."""

import sys

import numpy as np
import pytest

from vaex import data
from vaex.data.spec import Dataset
from vaex.errors import MissingPackageError, UserError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 2, (40, 6, 5), dtype=np.uint8)
CLASSES = np.stack([np.zeros(40), *RNG.integers(0, 3, (5, 40))], -1).astype(np.int64)
TEXTS = np.array(["dog", "cat", "", "ant"] * 10)


class Opened:
    """An object that may never be unpickled."""

    def __reduce__(self):
        return sys.exit, ("the metadata was opened",)


@pytest.mark.parametrize("on_disk", [False, True])
def test_dsprites_like_files_keep_their_factors_and_their_pickle_closed(tmp_path, monkeypatch, on_disk):
    if on_disk:
        monkeypatch.setattr("vaex.data.storage.host_memory.free_memory", lambda: 100)
    arrays = {
        "imgs": X,
        "latents_classes": CLASSES,
        "latents_values": CLASSES / 2,
        "metadata": np.array(Opened(), object),
    }
    np.savez_compressed(tmp_path / "own.npz", **arrays)
    said = r"own.npz: reads imgs as x, latents_classes as factors; metadata and latents_values left out"
    with pytest.warns(UserWarning, match=said):
        dataset = data.load(str(tmp_path / "own.npz"), data_dir=tmp_path / "root")
    assert dataset.spec.factor_names == ("color", "shape", "scale", "orientation", "posX", "posY")
    assert (dataset.spec.kind, dataset.spec.shape) == ("binary", (6, 5, 1))
    rows = {x.tobytes(): tuple(factors) for x, factors in zip(X, CLASSES, strict=True)}
    for part in dataset.splits.values():
        assert [rows[np.asarray(x).tobytes()] for x in part["x"][:]] == list(map(tuple, part["factors"]))
    np.savez(tmp_path / "other.npz", x=X, imgs=X)
    with pytest.raises(UserError, match="has an array called 'imgs'"):
        data.load(str(tmp_path / "other.npz"))


@pytest.mark.parametrize("form", ["npz", "texts", "bytes", "objects"])
def test_labels_that_are_texts_are_classes_with_names(tmp_path, form):
    if form == "npz":
        np.savez(tmp_path / "own.npz", x=X, y=TEXTS)
        dataset = data.load(str(tmp_path / "own.npz"))
    else:
        y = {"texts": TEXTS, "bytes": TEXTS.astype("S"), "objects": TEXTS.astype(object)}[form]
        dataset = Dataset.from_arrays(X, y)
    assert (dataset.spec.label_names, dataset.spec.num_classes) == (("ant", "cat", "dog"), 3)
    expected = {x.tobytes(): {"ant": 0, "cat": 1, "dog": 2, "": -1}[text] for x, text in zip(X, TEXTS, strict=True)}
    for part in dataset.splits.values():
        assert [expected[x.tobytes()] for x in part["x"]] == part["y"].tolist()


def test_texts_and_numbers_do_not_mix():
    arrays = {"x_train": X, "y_train": TEXTS, "x_test": X, "y_test": np.zeros(40, int)}
    with pytest.raises(UserError, match="labels of train are texts, those of test numbers; give texts for every split"):
        Dataset.from_arrays(arrays)


def test_hdf5_is_read_as_npz_is(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file.create_dataset("x", data=X, compression="gzip")
        file.create_dataset("y", data=TEXTS.astype(object), dtype=h5py.string_dtype())
    np.savez(tmp_path / "own.npz", x=X, y=TEXTS)
    dataset, same = (data.load(str(tmp_path / f"own.{end}")) for end in ("h5", "npz"))
    assert dataset.spec == same.spec
    for split, part in same.splits.items():
        np.testing.assert_array_equal(dataset.splits[split]["x"], part["x"])
    assert data.load(str(tmp_path / "own.h5"), kind="series").spec.shape == (6, 5)


def test_hdf5_that_cannot_be_used(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_dataset("x/images", data=X)
    with h5py.File(tmp_path / "name.h5", "w") as file:
        file.create_dataset("images", data=X)
    (tmp_path / "text.hdf5").write_text("hello")
    for name, match in (
        ("group.h5", "x is a group, expected an array"),
        ("name.h5", "has an entry called 'images'; "),
        ("text.hdf5", "is not an HDF5 file, or was cut short"),
        ("missing.h5", "no such file"),
    ):
        with pytest.raises(UserError, match=match):
            data.load(str(tmp_path / name))
    monkeypatch.setattr("vaex.data.storage.host_memory.free_memory", lambda: 100)
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("x", data=X)
    with pytest.raises(UserError, match=r"x of 0.0 GB does not fit in memory; write it as an .npy file"):
        data.load(str(tmp_path / "large.h5"))
    monkeypatch.setattr("vaex.data.sources.hdf5.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'needs h5py; run: pip install "vaex-jax\[hdf5\]"'):
        data.load(str(tmp_path / "group.h5"))
