"""Data sets that TFDS has prepared: found, decoded, cached, and refused in one clear line where they are invalid."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vaex import data
from vaex.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, [40, 8, 6, 3], dtype=np.uint8)


def prepare(root, called, splits, features=None, version="1.0.0", configs=(), file_format="array_record"):
    """Prepare a small data set; ``splits``: name -> list of examples, arrays standing for images."""
    import tensorflow_datasets as tfds

    features = features or {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    }

    def encoded(value):
        if not isinstance(value, np.ndarray) or value.ndim < 2:
            return value
        png = io.BytesIO()
        Image.fromarray(value[..., 0] if value.shape[-1] == 1 else value).save(png, format="PNG")
        return png.getvalue()

    class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = called
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config, version=version) for config in configs]  # noqa: RUF012

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(examples) for split, examples in splits.items()}

        def _generate_examples(self, examples):
            for index, example in enumerate(examples):
                yield index, {key: encoded(value) for key, value in example.items()}

    for config in configs or (None,):
        Small(data_dir=root, config=config, file_format=file_format).download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    return root / called


def examples(images, first=0):
    return [{"image": image, "label": (first + index) % 2} for index, image in enumerate(images)]


def test_splits_labels_and_names(tmp_path):
    parts = {"train": IMAGES[:20], "valid": IMAGES[20:25], "test": IMAGES[25:], "extra": IMAGES}
    prepare(tmp_path, "pets", {split: examples(images) for split, images in parts.items()})
    dataset = data.load("tfds:pets", data_dir=tmp_path)
    for split, part in (("train", IMAGES[:20]), ("validation", IMAGES[20:25]), ("test", IMAGES[25:])):
        assert np.array_equal(dataset.splits[split]["x"], part)
        assert np.array_equal(dataset.splits[split]["y"], np.arange(len(part)) % 2)
    assert dataset.spec == data.Spec(
        "pets", (8, 6, 3), "color", levels=256, num_classes=2, label_names=("cat", "dog"),
        protocol="tfds_pets_1.0.0_20_5_15 256_levels", data_hash=dataset.spec.data_hash,
        num_training_examples=20, binarization_noise=dataset.spec.binarization_noise,
    )  # fmt: skip


def test_missing_splits_are_split_off(tmp_path):
    prepare(tmp_path, "pets", {"train": examples(IMAGES)})
    dataset = data.load("tfds:pets", data_dir=tmp_path, binarize="dynamic")
    assert dataset.spec.protocol == "tfds_pets_1.0.0_32_4_4_carved_validation_test dynamic_binarisation"
    found = np.concatenate([split["x"] for split in dataset.splits.values()])
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in IMAGES)


def test_an_image_feature_of_another_name_without_labels(tmp_path):
    import tensorflow_datasets as tfds

    masks = (IMAGES[..., :1] > 127).astype(np.uint8)
    features = {"mask": tfds.features.Image(shape=(8, 6, 1)), "id": tfds.features.Scalar(np.int64)}
    prepare(tmp_path, "masks", {"train": [{"mask": mask, "id": 7} for mask in masks]}, features)
    dataset = data.load("tfds:masks", data_dir=tmp_path)
    assert (dataset.spec.kind, dataset.spec.num_classes, dataset.spec.label_names) == ("binary", 0, ())
    assert set(dataset.splits["train"]) == {"x"}


def test_the_newest_version_is_read(tmp_path):
    for version, images in (("1.0.0", IMAGES[:10]), ("1.10.0", IMAGES[:30]), ("1.9.0", IMAGES[:20])):
        prepare(tmp_path, "pets", {"train": examples(images)}, version=version)
    assert data.load("tfds:pets", data_dir=tmp_path).spec.protocol.startswith("tfds_pets_1.10.0_24_3_3")


def test_configs(tmp_path):
    prepare(tmp_path, "pets", {"train": examples(IMAGES)}, configs=["small"])
    assert data.load("tfds:pets", data_dir=tmp_path).spec.name == "pets_small"  # the only one
    prepare(tmp_path, "pets", {"train": examples(IMAGES[:20])}, configs=["large"])
    with pytest.raises(UserError, match="choose one of its configs: tfds:pets:large, tfds:pets:small"):
        data.load("tfds:pets", data_dir=tmp_path)
    for name in ("tfds:pets:large", "tfds:pets/large"):
        assert data.load(name, data_dir=tmp_path).spec.protocol.startswith("tfds_pets_large_1.0.0_16_2_2")
    with pytest.raises(UserError, match="tfds:pets:medium: not prepared"):
        data.load("tfds:pets:medium", data_dir=tmp_path)


def test_the_cache_is_used_then_rebuilt_when_torn_or_stale(tmp_path, monkeypatch):
    folder = prepare(tmp_path, "pets", {"train": examples(IMAGES)}) / "1.0.0"
    first = data.load("tfds:pets", data_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorflow_datasets", None)
        again = data.load("tfds:pets", data_dir=tmp_path)
        assert again.spec == first.spec
        assert np.array_equal(again.splits["test"]["x"], first.splits["test"]["x"])
    os.truncate(folder / "vaex_cache" / "train_x.npy", 200)
    with pytest.warns(UserWarning, match=r"train_x.npy: its sha256 does not match; the data is decoded again"):
        assert data.load("tfds:pets", data_dir=tmp_path).spec == first.spec
    with monkeypatch.context() as patch:  # rebuilt
        patch.setitem(sys.modules, "tensorflow_datasets", None)
        assert data.load("tfds:pets", data_dir=tmp_path).spec == first.spec
    description = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(description | {"description": "prepared anew"}))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match="needs tensorflow-datasets"):  # stale, so it must be decoded
        data.load("tfds:pets", data_dir=tmp_path)


@pytest.mark.slow
def test_two_processes_at_once_do_not_disturb_one_another(tmp_path):
    prepare(tmp_path, "pets", {"train": examples(IMAGES)})
    code = f"from vaex import data; print(data.load('tfds:pets', data_dir={str(tmp_path)!r}).spec.data_hash)"
    running = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    hashes = [process.communicate()[0].strip() for process in running]
    assert hashes == [data.load("tfds:pets", data_dir=tmp_path).spec.data_hash] * 2


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    prepare(tmp_path, "pets", {"train": examples(IMAGES)})
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert data.load("tfds:pets").spec.name == "pets"


@pytest.mark.parametrize("name", ["tfds:", "tfds:a b", "tfds:../x", "tfds:a:b:c", "tfds:a:..", "tfds:a:b/c"])
def test_names_that_are_none(tmp_path, name):
    with pytest.raises(UserError, match="expected tfds:NAME or tfds:NAME:CONFIG"):
        data.load(name, data_dir=tmp_path)


def test_what_is_not_prepared(tmp_path):
    prepare(tmp_path, "pets", {"train": examples(IMAGES)})
    with pytest.raises(
        UserError, match=r"tfds:pet: not prepared in .*did you mean pets\? Known: pets.*download_and_prepare"
    ):
        data.load("tfds:pet", data_dir=tmp_path)
    with pytest.raises(UserError, match="elsewhere does not exist; give --data_dir"):
        data.load("tfds:pets", data_dir=tmp_path / "elsewhere")


def damage_missing_file(folder):
    next(folder.glob("*train*")).unlink()


def damage_torn_file(folder):
    os.truncate(next(folder.glob("*train*")), 500)


def damage_description(folder):
    (folder / "dataset_info.json").write_text("{")


def damage_schema(folder):
    """Another program's: JSON, but not of TFDS's features."""
    (folder / "features.json").write_text('{"pythonClassName": 3, "columns": [{"name": "x"}]}')


def damage_features(folder):
    """Of another data set: text instead of an image."""
    content = json.loads((folder / "features.json").read_text())
    features = content["featuresDict"]["features"]
    features["image"] = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}
    (folder / "features.json").write_text(json.dumps(content))


def damage_format(folder):
    description = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(description | {"fileFormat": "tfrecord"}))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (damage_missing_file, "pets/1.0.0: cannot be read .*remove this folder and prepare it again"),
        (damage_torn_file, "pets/1.0.0: cannot be read .*remove this folder"),
        (damage_schema, r"pets/1\.0\.0: cannot be read .*; remove this folder and prepare it again"),
        (damage_features, "pets"),
        (damage_description, "pets/1.0.0: dataset_info.json cannot be read .*remove this folder"),
        (damage_format, "in a format that only TensorFlow reads.*array_record"),
    ],
)
def test_damaged_data_is_refused(tmp_path, damage, match):
    damage(prepare(tmp_path, "pets", {"train": examples(IMAGES)}) / "1.0.0")
    with pytest.raises(UserError, match=match) as caught:
        data.load("tfds:pets", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_data_that_does_not_fit_is_refused(tmp_path):
    import tensorflow_datasets as tfds

    mixed = examples([*IMAGES[:5], IMAGES[5][:, :4]])
    image = tfds.features.Image(shape=(8, 6, 3))
    cases = {
        "mixed": ({"train": mixed}, None, r"train example 5 has shape \(8, 4, 3\), but example 0 \(8, 6, 3\)"),
        "untrained": ({"test": examples(IMAGES)}, None, "no split called train, only test"),
        "blind": ({"train": [{"id": 1}]}, {"id": tfds.features.Scalar(np.int64)}, "0 image features among id"),
        "stereo": (
            {"train": [{"left": IMAGES[0], "right": IMAGES[1]}]},
            {"left": image, "right": image},
            "2 image features among left, right",
        ),
    }
    for name, (splits, features, match) in cases.items():
        prepare(tmp_path, name, splits, features)
        with pytest.raises(UserError, match=match):
            data.load(f"tfds:{name}", data_dir=tmp_path)


# --- --image_size ---------------------------------------------------------------------------------------------------


def sized(rng, n):
    return [rng.integers(0, 256, [20 + index % 5, 16 + index % 7, 3], dtype=np.uint8) for index in range(n)]


def test_images_of_many_sizes_are_cropped_and_resized_as_those_of_a_folder(tmp_path):
    images = sized(np.random.default_rng(1), 30)
    prepare(tmp_path, "pets", {"train": examples(images)})
    with pytest.raises(UserError, match=r"train example 1 has shape .*give one as --image_size, or save"):
        data.load("tfds:pets", data_dir=tmp_path)
    found = data.load("tfds:pets", data_dir=tmp_path, image_size=(12, 10))
    assert found.spec.shape == (12, 10, 3)
    assert found.spec.protocol == "tfds_pets_1.0.0_12x10_24_3_3_carved_validation_test 256_levels"
    (tmp_path / "folder").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "folder" / f"{index:03d}.png")
    expected = data.load(str(tmp_path / "folder"), data_dir=tmp_path, image_size=(12, 10))
    assert all(np.array_equal(found.splits[s]["x"], expected.splits[s]["x"]) for s in expected.splits)
    originals = {image.tobytes(): index % 2 for index, image in enumerate(_resized(images, (12, 10)))}
    for part in found.splits.values():
        assert [originals[x.tobytes()] for x in part["x"]] == part["y"].tolist()


def _resized(images, size):
    from vaex.data.storage.image_size import fit_pixels

    return [fit_pixels("", image, size) for image in images]


def test_each_size_has_a_cache_of_its_own(tmp_path, monkeypatch):
    prepare(tmp_path, "pets", {"train": examples(IMAGES)})
    sizes = (None, 4, (4,), (6, 4))
    specs = [data.load("tfds:pets", data_dir=tmp_path, image_size=size).spec for size in sizes]
    assert [spec.shape for spec in specs] == [(8, 6, 3), (4, 4, 3), (4, 4, 3), (6, 4, 3)]
    assert specs[1] == specs[2] and len({spec.protocol for spec in specs}) == 3
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert [data.load("tfds:pets", data_dir=tmp_path, image_size=size).spec for size in sizes] == specs


@pytest.mark.parametrize("name", ["celeb_a", "dsprites"])
def test_stock_sets_take_a_size(tmp_path, name):
    prepare(tmp_path, name, {"train": examples(IMAGES[..., :1])}, grey())
    dataset = data.load(name, data_dir=tmp_path, image_size=4)
    assert (dataset.spec.shape, dataset.spec.name) == ((4, 4, 1), name)
    assert dataset.spec.protocol.startswith(f"tfds_{name}_1.0.0_4x4_32_4_4_")


def grey():
    import tensorflow_datasets as tfds

    label = tfds.features.ClassLabel(names=["cat", "dog"])
    return {"image": tfds.features.Image(shape=(None, None, 1)), "label": label}


def test_images_with_more_channels_are_not_resized(tmp_path):
    import tensorflow_datasets as tfds

    clear = np.concatenate([IMAGES, IMAGES[..., :1]], -1)
    features = {"image": tfds.features.Image(shape=(None, None, 4))}
    prepare(tmp_path, "clear", {"train": [{"image": image} for image in clear]}, features)
    assert data.load("tfds:clear", data_dir=tmp_path).spec.shape == (8, 6, 4)
    with pytest.raises(
        UserError, match=r"train example 0 has shape \(8, 6, 4\) and dtype uint8; --image_size takes 8-bit"
    ):
        data.load("tfds:clear", data_dir=tmp_path, image_size=4)
    assert not list(tmp_path.rglob("vaex_cache_*"))


def test_a_disk_that_fills_up_raises_a_warning_and_the_data_is_still_read(tmp_path, full_disk):
    folder = prepare(tmp_path, "pets", {"train": examples(IMAGES)}) / "1.0.0"
    with full_disk(1000), pytest.warns(UserWarning, match=r"File too large\); every start will decode it"):
        dataset = data.load("tfds:pets", data_dir=tmp_path)
    assert np.array_equal(dataset.splits["train"]["x"], data.load("tfds:pets", data_dir=tmp_path).splits["train"]["x"])
    assert (folder / "vaex_cache" / "manifest.json").exists()


def test_data_that_fits_neither_on_the_disk_nor_in_memory_is_refused(tmp_path, full_disk, monkeypatch):
    prepare(tmp_path, "pets", {"train": examples(IMAGES)})
    monkeypatch.setattr("vaex.data.storage.host_memory.free_memory", lambda: 100.0)
    with (
        full_disk(1000),
        pytest.raises(UserError, match="does not fit in memory, and cannot be kept on the disk; free"),
    ):
        data.load("tfds:pets", data_dir=tmp_path)
