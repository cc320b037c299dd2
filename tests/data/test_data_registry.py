"""Loading by name: flags are checked first, misspelt names find their neighbours, and listing costs no import."""

import importlib
import subprocess
import sys

import pytest

from vaex import data
from vaex.errors import UserError


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("digit", "did you mean digits"),
        ("fashion-mnist", "did you mean fashion_mnist"),
        ("", "no such data set"),
        ("imagenet", "PATH.npz.*tfds:NAME"),
    ],
)
def test_unknown_names(name, match):
    with pytest.raises(UserError, match=match):
        data.load(name)


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ({"binarize": "dynamik"}, "--binarize=dynamik: did you mean dynamic"),
        ({"dequantize": "gauss"}, "--dequantize=gauss: Known: none, uniform"),
    ],
)
def test_flags_are_checked_before_anything_is_read(flags, match):
    with pytest.raises(UserError, match=match):
        data.load("there_is_no_such_file.npz", **flags)


def test_flags_reach_the_spec():
    assert data.load("digits").spec.binarize == "none"
    assert data.load("digits", dequantize="uniform").spec.dequantize == "uniform"
    assert data.load("digits", binarize="threshold").spec.protocol == "digits_1397_200_200 threshold_binarisation"


def imported(statement):
    """Return the heavy packages that a fresh interpreter has imported after the statement."""
    heavy = ("jax", "numpy", "sklearn", "tensorflow_datasets")
    code = f"import sys; from vaex import data; {statement}; print(*[name for name in {heavy} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_listing_the_data_sets_imports_nothing_heavy():
    assert imported("list(data.DATASETS)") == []


def test_loading_imports_no_jax():
    """A wrong file is reported without waiting for jax."""
    assert imported("data.load('digits')") == ["numpy"]


def test_every_public_name_exists():
    for name in data.__all__:
        assert getattr(data, name) is not None
    assert set(data.__all__) <= set(dir(data))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        data.lode  # noqa: B018


@pytest.mark.parametrize("name", ["digits", "mnist", "color_sprites", "a.npz"])
def test_image_size_is_for_images_of_many_sizes(name):
    with pytest.raises(
        UserError, match=f"--image_size=32: is for a folder .*and tfds:NAME, and {name} is none of these"
    ):
        data.load(name, image_size=32)


@pytest.mark.parametrize("size", [0, -1, 5000, 1.5, True, (), (4, 4, 4), (4, 0), "64"])
@pytest.mark.parametrize("name", ["digits", "celeb_a", "tfds:pets", "/nonexistent"])
def test_sizes_that_are_none(name, size):
    with pytest.raises(
        UserError, match=r"--image_size=.*: give the side in pixels, 1 to 4096, such as 64, or height x width"
    ):
        data.load(name, image_size=size)


def test_the_spec_tells_the_number_of_training_examples():
    assert data.load("digits").spec.num_training_examples == 1397
    assert data.load("sprites").spec.num_training_examples == 737_280  # all combinations, not the sample that is kept


def test_every_listed_name_can_be_loaded():
    from vaex.data import registry as loading

    listed = {name for name in data.DATASETS if name.islower() and ":" not in name}
    assert set(loading.NAMES) <= listed
    assert set(loading.ORIGINALS) == set(importlib.import_module("vaex.data.sources.originals").ORIGINALS)
