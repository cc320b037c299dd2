"""A user's folder of images: what is read, in which order, and one clear line for invalid input."""

import os

import numpy as np
import pytest
from PIL import Image

from vaex import data
from vaex.data import announcement
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
        patch.setattr(image_folder, "read_pixels", None)
        assert load(folder).spec == first.spec
    Image.fromarray(255 - IMAGES[3]).save(folder / "003.png")
    status = (folder / "003.png").stat()
    os.utime(folder / "003.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert load(folder).spec.data_hash != first.spec.data_hash


def test_folders_of_one_name_keep_apart(tmp_path, load, monkeypatch):
    one, other = write(tmp_path / "a" / "own", IMAGES), write(tmp_path / "b" / "own", 255 - IMAGES)
    hashes = [load(folder).spec.data_hash for folder in (one, other)]
    monkeypatch.setattr(image_folder, "read_pixels", None)
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
    with pytest.raises(UserError, match=r"004.png: has transparent pixels; --transparency=keep keeps"):
        load(folder)


def text(path):
    path.write_text("hello")


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


def deep(path):
    Image.fromarray(np.arange(63, dtype=np.uint16).reshape(9, 7) * 1000).save(path)


def floats(path):
    Image.fromarray(np.zeros((9, 7), np.float32)).save(path, format="TIFF")


def moving(path):
    frames = [Image.fromarray(image) for image in IMAGES[:2]]
    frames[0].save(path, format="TIFF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (text, "005.png: cannot be read as an image .*replace or remove it, or leave it out with --skip_unreadable"),
        (cut, "005.png: cannot be read as an image"),
        (lambda path: path.write_bytes(b""), "005.png: cannot be read as an image"),
        (deep, r"005.png: has 16 bits for a value, but .*000.png has 8; save all with as many"),
        (floats, "005.png: has floating-point values"),
        (moving, "005.png: holds 2 images; save each in a file of its own"),
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
    with pytest.raises(UserError, match="empty: holds no PNG, JPEG, WebP or TIFF images; give a folder"):
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


def test_all_unreadable_images_are_named_at_once_or_left_out_and_recorded(tmp_path, load):
    for label, images in (("cat", IMAGES[:6]), ("dog", IMAGES[6:])):
        write(tmp_path / "own" / label, images)
    text(tmp_path / "own" / "cat" / "001.png")
    cut(tmp_path / "own" / "dog" / "002.png")  # its header is whole
    named = r"own: 2 images cannot be read: cat/001.png .*, dog/002.png .*; replace or remove them"
    with pytest.raises(UserError, match=named) as caught:
        load(tmp_path / "own")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "root").exists()
    for _ in range(2):  # the second start reads what the first one kept
        dataset = load(tmp_path / "own", skip_unreadable=True)
        assert dataset.spec.skipped == ("cat/001.png", "dog/002.png")
        assert set(by_bytes(dataset)) == {image.tobytes() for index, image in enumerate(IMAGES) if index not in (1, 8)}
        assert np.bincount(np.concatenate([part["y"] for part in dataset.splits.values()])).tolist() == [5, 5]
    warning = announcement.lines(dataset, dataset.spec, announcement.Choices(None, None, ""))[-1]
    assert warning == (
        "warning: 2 files cannot be read and are left out: cat/001.png, dog/002.png (--skip_unreadable; config.json names all)"
    )
    for path in sorted((tmp_path / "own").rglob("*.png")):
        text(path)
    with pytest.raises(UserError, match="none of its 12 images for train can be read"):
        load(tmp_path / "own", skip_unreadable=True)


GREY = IMAGES[..., 0]
CMYK = RNG.integers(0, 256, [4, 9, 7, 4], dtype=np.uint8)
BITS = RNG.integers(0, 2, [4, 9, 7], dtype=np.uint8)
DEEP = RNG.integers(0, 4096, [4, 9, 7]).astype(np.uint16)


def in_palette(values):
    image = Image.fromarray(values).convert("P")
    image.putdata(values.ravel().tolist())
    image.putpalette([255, 0, 0, 0, 0, 255])
    return image


@pytest.mark.parametrize(
    ("images", "suffix", "expected", "levels"),
    [
        ([Image.frombytes("CMYK", (7, 9), x.tobytes()) for x in CMYK], "tif",
         (255 - CMYK[..., :3].astype(int)) * (255 - CMYK[..., 3:].astype(int)) / 255, 256),
        ([in_palette(x) for x in BITS], "png", np.stack([1 - BITS, 0 * BITS, BITS], -1), 2),
        ([Image.fromarray(x.astype(bool)) for x in BITS], "png", BITS[..., None], 2),
        ([Image.fromarray(x.astype(bool)) for x in BITS], "tiff", BITS[..., None], 2),
        ([Image.fromarray(x) for x in DEEP], "png", DEEP[..., None], 4096),
        ([Image.fromarray(x) for x in DEEP], "tif", DEEP[..., None], 4096),
        ([Image.fromarray(x) for x in GREY[:4]], "tiff", GREY[:4, ..., None], 256),
    ],
    ids=["cmyk", "palette", "1-bit png", "1-bit tiff", "16-bit png", "16-bit tiff", "grey tiff"],
)  # fmt: skip
def test_modes_are_read_as_what_they_show(tmp_path, load, images, suffix, expected, levels):
    (tmp_path / "own").mkdir()
    for index, image in enumerate(images):
        image.save(tmp_path / "own" / f"{index}.{suffix}")
    dataset = load(tmp_path / "own")
    assert (dataset.spec.levels, dataset.spec.shape) == (levels, expected.shape[1:])
    x = np.concatenate([part["x"] for part in dataset.splits.values()]).astype(int)
    order = [int(np.abs(expected - one).sum((1, 2, 3)).argmin()) for one in x]
    assert sorted(order) == [0, 1, 2, 3]
    assert np.abs(x - expected[order]).max() <= 1  # CMYK rounds


def test_deep_images_are_resized_in_full_depth(tmp_path, load):
    (tmp_path / "own").mkdir()
    for index in range(4):
        Image.fromarray(np.full((9, 7), 1000 + index, np.uint16)).save(tmp_path / "own" / f"{index}.png")
    dataset = load(tmp_path / "own", image_size=3)
    assert sorted(int(value) for part in dataset.splits.values() for value in part["x"][:, 1, 1, 0]) == [
        1000,
        1001,
        1002,
        1003,
    ]
    assert (dataset.spec.shape, dataset.spec.levels) == ((3, 3, 1), 1024)


def test_lossless_webp_and_a_turned_tiff_are_read(tmp_path, load):
    (tmp_path / "own").mkdir()
    for index, image in enumerate(IMAGES[:3]):
        Image.fromarray(image).save(tmp_path / "own" / f"{index}.webp", lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(IMAGES[3]).copy()).save(tmp_path / "own" / "turned.tiff", exif=exif)
    assert set(by_bytes(load(tmp_path / "own"))) == {image.tobytes() for image in IMAGES[:4]}


def test_opacity_is_kept_or_put_on_a_background(tmp_path, load):
    see_through = np.concatenate([IMAGES, RNG.integers(0, 256, [12, 9, 7, 1], dtype=np.uint8)], -1)
    folder = write(tmp_path / "own", see_through)
    Image.fromarray(IMAGES[0]).save(folder / "opaque.png")
    kept = load(folder, transparency="keep")
    assert (kept.spec.shape, kept.spec.alpha) == ((9, 7, 4), True)
    full = np.concatenate([IMAGES[0], np.full((9, 7, 1), 255, np.uint8)], -1)
    assert set(by_bytes(kept)) == {x.tobytes() for x in (*see_through, full)}
    line = announcement.lines(kept, kept.spec, announcement.Choices(None, None, ""))[0]
    assert "4 channels, the last of them opacity" in line
    opacity = see_through[..., 3:] / 255
    for colour, background in (("white", [255] * 3), ("#102030", [16, 32, 48])):
        shown = load(folder, transparency=colour)
        assert (shown.spec.shape, shown.spec.alpha) == ((9, 7, 3), False)
        x = np.concatenate([part["x"] for part in shown.splits.values()]).astype(float)
        expected = opacity * IMAGES + (1 - opacity) * background
        assert max(min(np.abs(one - other).max() for other in (*expected, IMAGES[0])) for one in x) <= 1
    with pytest.raises(UserError, match=r"--transparency=wite: did you mean white.*or a colour such as #ff8000"):
        load(folder, transparency="wite")
    for flag, name in (
        ({"transparency": "white"}, "transparency=white"),
        ({"skip_unreadable": True}, "skip_unreadable=True"),
    ):
        with pytest.raises(UserError, match=f"--{name}: is for a folder of images, and digits is none"):
            data.load("digits", **flag)
