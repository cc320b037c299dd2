"""A user's folder of images: what is read, in which order, and one clear line for invalid input."""

import os

import numpy as np
import pytest
from PIL import Image

from vaex import data
from vaex.data.sources import image_folder
from vaex.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, [12, 9, 7, 3], dtype=np.uint8)


def write(folder, images, names=None, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        name = names[index] if names else f"{index:03d}.{suffix}"
        Image.fromarray(image).save(folder / name)
    return folder


@pytest.fixture
def load(tmp_path):
    return lambda folder, **flags: data.load(str(folder), data_dir=tmp_path / "root", **flags)


def by_bytes(dataset):
    return {x.tobytes(): split for split, part in dataset.splits.items() for x in part["x"]}


def test_a_flat_folder_is_unlabelled_and_split(tmp_path, load):
    dataset = load(write(tmp_path / "own", IMAGES))
    assert dataset.spec.protocol == "own_10_1_1_carved_validation_test 256_levels"
    assert (dataset.spec.shape, dataset.spec.kind, dataset.spec.num_classes) == ((9, 7, 3), "color", 0)
    assert set(by_bytes(dataset)) == {image.tobytes() for image in IMAGES}
    np.savez(tmp_path / "own.npz", x=IMAGES)
    assert load(tmp_path / "own.npz").spec.data_hash == dataset.spec.data_hash


def test_class_folders_give_labels(tmp_path, load):
    write(tmp_path / "own" / "dog" / "brown", IMAGES[:5])
    write(tmp_path / "own" / "cat", IMAGES[5:])
    dataset = load(tmp_path / "own")
    assert (dataset.spec.label_names, dataset.spec.num_classes) == (("cat", "dog"), 2)
    expected = {image.tobytes(): int(index < 5) for index, image in enumerate(IMAGES)}
    for part in dataset.splits.values():
        assert [expected[x.tobytes()] for x in part["x"]] == part["y"].tolist()


def test_split_folders(tmp_path, load):
    for split, images in (("train", IMAGES[:6]), ("val", IMAGES[6:9]), ("test", IMAGES[9:])):
        write(tmp_path / "own" / split / "b", images[:1])
        write(tmp_path / "own" / split / "a", images[1:])
    dataset = load(tmp_path / "own")
    assert dataset.spec.protocol == "own_6_3_3 256_levels"
    assert np.array_equal(dataset.splits["validation"]["x"], IMAGES[[7, 8, 6]])
    assert dataset.splits["validation"]["y"].tolist() == [0, 0, 1]


def test_grey_images_stay_grey_and_one_in_color_makes_all_color(tmp_path, load):
    folder = write(tmp_path / "own", IMAGES[..., 0])
    assert load(folder).spec.shape == (9, 7, 1)
    Image.fromarray(IMAGES[0]).save(folder / "zzz.png")
    dataset = load(folder)
    assert dataset.spec.shape == (9, 7, 3)
    assert np.repeat(IMAGES[1, ..., :1], 3, -1).tobytes() in by_bytes(dataset)
    assert IMAGES[0].tobytes() in by_bytes(dataset)


def test_resizing_crops_about_the_centre(tmp_path, load):
    wide = np.full([6, 10, 10], 0, np.uint8)
    wide[:, :, 3:7] = 200  # a band that fills what is left, 10x4; without the cut its mean would be 80
    folder = write(tmp_path / "own", wide)
    with pytest.raises(UserError, match="-image_size=0: give the side"):
        load(folder, image_size=0)
    dataset = load(folder, image_size=(5, 2))
    assert dataset.spec.shape == (5, 2, 1)
    assert dataset.spec.protocol == "own_5x2_4_1_1_carved_validation_test 256_levels"
    assert all(part["x"].min() > 180 for part in dataset.splits.values())
    assert load(folder, image_size=4).spec.shape == (4, 4, 1)


def test_sizes_that_differ_need_a_flag(tmp_path, load):
    folder = write(tmp_path / "own", [IMAGES[0], IMAGES[1], IMAGES[2], IMAGES[3][:, :5]])
    with pytest.raises(UserError, match=r"003.png: is 9x5, but .*000.png is 9x7 .*--image_size=7"):
        load(folder)
    assert load(folder, image_size=8).spec.shape == (8, 8, 3)
    assert not [path for path in (tmp_path / "root").rglob("*") if path.name.startswith(".")]


def test_a_camera_on_its_side_is_turned(tmp_path, load):
    folder = write(tmp_path / "own", [IMAGES[0], IMAGES[1], IMAGES[2]])
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    Image.fromarray(np.rot90(IMAGES[3]).copy()).save(folder / "turned.png", exif=exif)
    assert IMAGES[3].tobytes() in by_bytes(load(folder))


def test_a_second_start_decodes_nothing_and_a_change_is_noticed(tmp_path, load, monkeypatch):
    folder = write(tmp_path / "own", IMAGES)
    first = load(folder)
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "_read", None)
        assert load(folder).spec == first.spec
    Image.fromarray(255 - IMAGES[3]).save(folder / "003.png")
    status = (folder / "003.png").stat()
    os.utime(folder / "003.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert load(folder).spec.data_hash != first.spec.data_hash


def test_folders_of_one_name_keep_apart(tmp_path, load, monkeypatch):
    one, other = write(tmp_path / "a" / "own", IMAGES), write(tmp_path / "b" / "own", 255 - IMAGES)
    hashes = [load(folder).spec.data_hash for folder in (one, other)]
    monkeypatch.setattr(image_folder, "_read", None)
    assert [load(folder).spec.data_hash for folder in (one, other)] == hashes
    assert len(set(hashes)) == 2


def test_other_files_are_named_once(tmp_path, load):
    folder = write(tmp_path / "own" / "cat", IMAGES)
    for name in ("notes.txt", "a.gif", "cat/b.csv", "cat/c.csv", ".DS_Store", "cat/._000.png"):
        (tmp_path / "own" / name).write_text("x")
    with pytest.warns(UserWarning, match=r"a.gif, notes.txt, cat/b.csv and 1 more ignored") as caught:
        dataset = load(tmp_path / "own")
    assert len(caught) == 1
    assert len(by_bytes(dataset)) == len(IMAGES)
    assert folder.is_dir()


def test_jpegs_are_read(tmp_path, load):
    dataset = load(write(tmp_path / "own", np.full([4, 8, 8, 3], 90, np.uint8), suffix="JPEG"))
    assert np.abs(dataset.splits["train"]["x"].astype(int) - 90).max() <= 2


def test_transparency(tmp_path, load):
    opaque = np.concatenate([IMAGES, np.full([12, 9, 7, 1], 255, np.uint8)], -1)
    folder = write(tmp_path / "own", opaque)
    assert set(by_bytes(load(folder))) == {image.tobytes() for image in IMAGES}
    opaque[4, 0, 0, 3] = 254
    write(folder, opaque)
    with pytest.raises(UserError, match=r"004.png: has transparent pixels; flatten it"):
        load(folder)


def text(path):
    path.write_text("hello")


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


def deep(path):
    Image.fromarray(np.arange(63, dtype=np.uint16).reshape(9, 7) * 1000).save(path)


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (text, "005.png: cannot be read as an image .*replace or remove it"),
        (cut, "005.png: cannot be read as an image"),
        (lambda path: path.write_bytes(b""), "005.png: cannot be read as an image"),
        (deep, "005.png: has more than 8 bits per value"),
    ],
)
def test_unreadable_images_are_named(tmp_path, load, damage, match):
    folder = write(tmp_path / "own", IMAGES)
    damage(folder / "005.png")
    with pytest.raises(UserError, match=match) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "root").exists()


def test_folders_that_cannot_be_used(tmp_path, load):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no PNG or JPEG images; give a folder"):
        load(tmp_path / "empty")
    write(tmp_path / "mixed" / "cat", IMAGES)
    write(tmp_path / "mixed", IMAGES[:1])
    with pytest.raises(UserError, match=r"000.png: lies beside class folders \(cat, ...\)"):
        load(tmp_path / "mixed")


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, load, full_disk):
    folder = write(tmp_path / "own", IMAGES)
    with (
        full_disk(1000),
        pytest.raises(UserError, match=r"cannot be written there \(File too large\); free space or give another"),
    ):
        load(folder)
    assert not (tmp_path / "root").exists()
