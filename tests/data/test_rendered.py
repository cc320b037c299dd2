"""Rendered data sets through the whole command: training draws images inside the step, splits hold a fixed few."""

import json

import numpy as np
import pytest

from vaex import cli, data
from vaex.data import rendered
from vaex.data.sprites import SIZES
from vaex.errors import UserError


def test_splits_are_fixed_disjoint_and_rendered_from_their_factors():
    one, other = (data.load("sprites") for _ in range(2))
    seen = set()
    for split, arrays in one.splits.items():
        assert arrays["x"].shape == (2000, 64, 64, 1) and arrays["x"].dtype == np.uint8
        np.testing.assert_array_equal(arrays["x"], other.splits[split]["x"])
        indices = set(np.asarray(one.source.factors_to_index(arrays["factors"])).tolist())
        assert len(indices) == 2000 and not indices & seen
        seen |= indices
    np.testing.assert_array_equal(one.splits["test"]["x"][:3], one.source.observe(one.splits["test"]["factors"][:3]))
    assert one.num_training_examples == 737280
    assert one.spec.protocol == "sprites_737280_of_which_2000_test binary"


def test_sprites_are_drawn_at_the_size_that_is_asked_for():
    default, small = data.load("sprites"), data.load("sprites", image_size=32)
    assert small.spec.shape == (32, 32, 1)
    assert small.spec.protocol == "sprites_32x32_737280_of_which_2000_test binary"  # never in one table with 64x64
    assert small.spec.data_hash != default.spec.data_hash
    np.testing.assert_array_equal(small.splits["test"]["factors"], default.splits["test"]["factors"])
    assert data.load("sprites", image_size=(64, 64)).spec == default.spec
    with pytest.raises(UserError, match="--image_size=32x16: sprites are square; give one side"):
        data.load("sprites", image_size=(32, 16))


@pytest.mark.optimised
def test_a_run_on_sprites_trains_evaluates_and_resumes_to_the_bit(tmp_path, capsys):
    flags = ["--model=vae", "--dataset=sprites", "--hidden=8", "--batch_size=16", "--log_every=2"]
    flags += ["--no-figures", "--eval_samples=2", "--eval_images=4"]
    assert cli.main([*flags, "--steps=6", f"--out={tmp_path / 'whole'}"]) == 0
    assert cli.main([*flags, "--steps=3", f"--out={tmp_path / 'cut'}"]) == 0
    assert cli.main([*flags, "--steps=6", f"--out={tmp_path / 'cut'}"]) == 0
    whole, cut = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut"))
    assert whole == cut and len(whole.splitlines()) == 3
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["protocol"].startswith("sprites_737280")
    capsys.readouterr()
    assert cli.main([*flags, "--steps=6", "--labels=10", f"--out={tmp_path / 'labels'}"]) == 2
    assert "has factors, not labels" in capsys.readouterr().err


def test_color_sprites_take_the_file_or_its_folder(shared_data):
    folder = shared_data / "lpc_sprites"
    one, other = (data.load("color_sprites", manual_dir=path) for path in (folder, folder / rendered.LAYERS))
    assert one.spec == other.spec and one.spec.shape == (64, 64, 3) and one.num_training_examples == 31104
    with pytest.raises(UserError, match="give the file of layers"):
        data.load("color_sprites")
    with pytest.raises(UserError, match="no such file"):
        data.load("color_sprites", manual_dir=folder / "missing.npz")


def test_a_folder_of_images_is_resized_by_flag(tmp_path, capsys):
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        values = rng.integers(0, 256, (20 + number % 3, 24), np.uint8)
        Image.fromarray(values).save(tmp_path / "pictures" / f"{number}.png")
    flags = ["--model=vae", f"--dataset={tmp_path / 'pictures'}", f"--data_dir={tmp_path / 'kept'}", "--hidden=8"]
    flags += ["--steps=2", "--batch_size=8", "--no-figures", "--eval_samples=2", f"--out={tmp_path / 'run'}"]
    assert cli.main(flags) == 2
    assert "--image_size" in capsys.readouterr().err
    assert cli.main([*flags, "--image_size=12x16"]) == 0
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert facts["data"]["shape"] == [12, 16, 1] and facts["identity"]["dataset"] == "pictures"
    assert cli.main([*flags, "--image_size=16"]) == 2
    assert "image_size: [12, 16] -> [16]" in capsys.readouterr().err
    assert cli.main([*flags, "--image_size=1x2x3", "--overwrite"]) == 2
    assert "give the side in pixels, 1 to 4096, such as 64, or height x width" in capsys.readouterr().err


def test_flips_and_crops_are_part_of_training_and_of_the_identity(tmp_path, capsys):
    flags = ["--model=vae", "--hidden=8", "--steps=4", "--log_every=2", "--no-figures", "--eval_samples=2"]
    assert cli.main([*flags, f"--out={tmp_path / 'plain'}"]) == 0
    assert cli.main([*flags, "--flip", "--crop=1", f"--out={tmp_path / 'moved'}"]) == 0
    plain, moved = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("plain", "moved"))
    assert plain != moved
    assert cli.main([*flags, f"--out={tmp_path / 'moved'}"]) == 2
    assert "flip: True -> None; crop: 1 -> None" in capsys.readouterr().err
    assert cli.main([*flags, "--crop=8", f"--out={tmp_path / 'other'}"]) == 2
    assert "--crop=8: expected less than the side" in capsys.readouterr().err
    np.savez(tmp_path / "vectors.npz", x=np.random.default_rng(0).random((40, 5)))
    assert cli.main([*flags, "--flip", f"--dataset={tmp_path / 'vectors.npz'}", f"--out={tmp_path / 'other'}"]) == 2
    assert "--flip and --crop are for images" in capsys.readouterr().err


def test_the_first_images_of_a_split_are_a_sample_of_all():
    factors = data.load("sprites").splits["test"]["factors"][:100]
    assert [len(np.unique(factors[:, place])) for place in (0, 1)] == [3, 6]  # shapes and scales
    # the mean of 100 uniform draws lies within four standard errors of the middle
    assert np.all(
        np.abs(factors.mean(0) - (np.array(SIZES) - 1) / 2) < 4 * np.sqrt((np.array(SIZES) ** 2 - 1) / 12 / 100)
    )
