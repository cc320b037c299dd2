"""Rendered data sets through the whole command: training draws images inside the step, splits hold a fixed few."""

import json

import numpy as np
import pytest

from vaex import data
from vaex.cli import main as cli
from vaex.data.synthetic import rendered
from vaex.data.synthetic.sprites import SIZES
from vaex.errors import UserError


@pytest.mark.slow
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


@pytest.mark.slow
def test_sprites_are_drawn_at_the_size_that_is_asked_for():
    default, small = data.load("sprites"), data.load("sprites", image_size=32)
    assert small.spec.shape == (32, 32, 1)
    assert small.spec.protocol == "sprites_32x32_737280_of_which_2000_test binary"  # never in one table with 64x64
    assert small.spec.data_hash != default.spec.data_hash
    np.testing.assert_array_equal(small.splits["test"]["factors"], default.splits["test"]["factors"])
    assert data.load("sprites", image_size=(64, 64)).spec == default.spec
    with pytest.raises(UserError, match="--image_size=32x16: sprites are square; give one side"):
        data.load("sprites", image_size=(32, 16))


@pytest.mark.slow
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


@pytest.mark.slow
def test_color_sprites_take_the_file_or_its_folder(shared_data):
    folder = shared_data / "lpc_sprites"
    one, other = (data.load("color_sprites", manual_dir=path) for path in (folder, folder / rendered.LAYERS))
    assert one.spec == other.spec and one.spec.shape == (64, 64, 3) and one.num_training_examples == 31104
    with pytest.raises(UserError, match="give the file of layers"):
        data.load("color_sprites")
    with pytest.raises(UserError, match="no such file"):
        data.load("color_sprites", manual_dir=folder / "missing.npz")


@pytest.mark.slow
def test_a_folder_of_images_is_resized_by_flag(tmp_path, capsys):
    from PIL import Image

    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        values = rng.integers(0, 256, (20 + number % 3, 24), np.uint8)
        Image.fromarray(values).save(tmp_path / "images" / f"{number}.png")
    flags = ["--model=vae", f"--dataset={tmp_path / 'images'}", f"--data_dir={tmp_path / 'kept'}", "--hidden=8"]
    flags += ["--steps=2", "--batch_size=8", "--no-figures", "--eval_samples=2", f"--out={tmp_path / 'run'}"]
    assert cli.main(flags) == 2
    assert "--image_size" in capsys.readouterr().err
    assert cli.main([*flags, "--image_size=12x16"]) == 0
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert facts["data"]["shape"] == [12, 16, 1] and facts["identity"]["dataset"] == "images"
    assert cli.main([*flags, "--image_size=16"]) == 2
    assert "image_size: 12,16 -> 16" in capsys.readouterr().err
    assert cli.main([*flags, "--image_size=1x2x3", "--overwrite"]) == 2
    assert "give the side in pixels, 1 to 4096, such as 64, or height x width" in capsys.readouterr().err


@pytest.mark.slow
def test_flips_and_crops_are_part_of_training_and_of_the_identity(tmp_path, capsys):
    flags = ["--model=vae", "--hidden=8", "--steps=4", "--log_every=2", "--no-figures", "--eval_samples=2"]
    assert cli.main([*flags, f"--out={tmp_path / 'plain'}"]) == 0
    assert cli.main([*flags, "--flip", "--crop=1", f"--out={tmp_path / 'moved'}"]) == 0
    plain, moved = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("plain", "moved"))
    assert plain != moved
    assert cli.main([*flags, f"--out={tmp_path / 'moved'}"]) == 2
    assert "flip: True -> False; crop: 1 -> 0" in capsys.readouterr().err
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


@pytest.mark.slow
def test_sequences_are_drawn_anew_in_training_and_fixed_in_evaluation():
    one, other = (data.load("bouncing_sprites", image_size=16, sequence_length=4) for _ in range(2))
    splits = [arrays["x"] for arrays in one.splits.values()]
    assert [x.shape for x in splits] == [(1000, 4, 16, 16, 1)] * 3
    for split, arrays in other.splits.items():
        np.testing.assert_array_equal(arrays["x"], one.splits[split]["x"])
    feed = one.source.feed(1000)
    drawn = [np.asarray(feed.batch(feed.resident, row)["x"]) for row in feed.plan(0, 2)]
    everything = [*splits, *drawn]
    firsts = {x.astype(np.uint8).tobytes() for part in everything for x in part}
    assert len(firsts) > 0.95 * sum(map(len, everything))  # small images: a few look the same
    assert not any(np.array_equal(a, b) for i, a in enumerate(everything) for b in everything[:i])
    assert (
        one.spec.protocol == "bouncing_sprites_16x16_4_frames_1000_test binary" and one.num_training_examples == 100_000
    )
    assert data.load("rotating_sprites", image_size=16, sequence_length=4).spec.data_hash != one.spec.data_hash


@pytest.mark.slow
def test_a_run_on_sequences_trains_reports_predictions_and_resumes_to_the_bit(tmp_path, capsys):
    flags = ["--model=td_vae", "--image_size=8", "--sequence_length=7", "--max_jump=3", "--hidden=8", "--recurrent=4"]
    flags += [
        "--latent_dim=2",
        "--network=mlp",
        "--batch_size=4",
        "--log_every=2",
        "--eval_samples=2",
        "--eval_images=4",
    ]
    assert cli.main([*flags, "--steps=6", "--seeds=0:2", f"--out={tmp_path / 'whole'}"]) == 0
    assert cli.main([*flags, "--steps=3", "--seeds=0:2", "--no-figures", f"--out={tmp_path / 'cut'}"]) == 0
    assert cli.main([*flags, "--steps=6", "--seeds=0:2", "--no-figures", f"--out={tmp_path / 'cut'}"]) == 0
    whole, cut = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut"))
    assert whole == cut and len(whole.splitlines()) == 3
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    for name in ("log_p", "copy_last", "mean_frame"):
        for steps in (1, 5):
            assert summary["members"][0][f"{name}_{steps}_ahead"] < 0
            assert summary["members"][0][f"{name}_{steps}_ahead_standard_error"] > 0
    assert summary["members"][0]["copy_last_1_ahead"] == summary["members"][1]["copy_last_1_ahead"]
    assert "log_p_5_ahead" in capsys.readouterr().out
    drawn = {path.name for path in (tmp_path / "whole" / "figures" / "seed=0").glob("*.png")}
    assert drawn == {"reconstructions.png", "samples.png", "predictions.png", "roll_outs.png", "beliefs.png"}
    import vaex

    run = vaex.load(tmp_path / "whole", member=0)
    x = data.load("bouncing_sprites", image_size=8, sequence_length=7).splits["test"]["x"][:2]
    assert run.reconstruct(x).shape == (2, 7, 8, 8, 1) and run.encode(x).mean.shape == (2, 14)
    for wrong, words in [("--sequence_length=0", "expected at least 1"), ("--image_size=8x9", "sprites are square")]:
        other = [flag for flag in flags if not flag.startswith(wrong.split("=")[0])]
        assert cli.main([*other, wrong, f"--out={tmp_path / 'other'}"]) == 2
        assert words in capsys.readouterr().err
