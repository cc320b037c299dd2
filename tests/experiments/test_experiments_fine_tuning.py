"""experiments/fine_tuning.py: the few images, and the complete experiment on tiny runs."""

import numpy as np
import pytest
from helpers.scripts import script

import vaex

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def fine_tuning():
    return script("fine_tuning")


def test_few_images_are_chosen_by_the_seed_and_held_out_ones_are_others(fine_tuning):
    digits = vaex.Dataset.load("digits")
    few, again, other = (fine_tuning.few_images(digits, 50, seed).splits for seed in (0, 0, 1))
    assert [len(few[name]["x"]) for name in ("train", "validation", "test")] == [50, 50, 200]
    np.testing.assert_array_equal(few["train"]["x"], again["train"]["x"])
    assert np.any(few["train"]["x"] != other["train"]["x"])
    rows = {name: {image.tobytes() for image in few[name]["x"]} for name in ("train", "validation")}
    assert not rows["train"] & rows["validation"]


def test_more_images_than_there_are_is_refused_in_one_line(fine_tuning, tmp_path, capsys):
    flags = ["--source=digits", "--target=digits", f"--out={tmp_path}"]
    assert fine_tuning.main([*flags, "--images=700"]) == 2
    assert "fine_tuning: --images=700: expected at most 698" in capsys.readouterr().err


@pytest.mark.slow
def test_the_complete_experiment_on_tiny_runs(fine_tuning, tmp_path, capsys):
    flags = ["--source=digits", "--target=digits", f"--out={tmp_path}", "--images=20", "--source_steps=300"]
    assert fine_tuning.main([*flags, "--steps=100", "--eval_images=20", "--eval_samples=2", "--seeds=0:2"]) == 0
    header, *rows, figure = capsys.readouterr().out.splitlines()
    assert "minus from scratch" in header
    values = {row[: row.index("  ", 24)].strip(): row for row in rows}
    assert list(values) == ["the source model as it is", "from scratch", "fine-tuned"]
    gain = float(values["fine-tuned"].split("±")[1].split()[-1])
    assert gain > 0  # of the same data
    assert figure == str(tmp_path / "digits_20.png") and (tmp_path / "digits_20.png").exists()
