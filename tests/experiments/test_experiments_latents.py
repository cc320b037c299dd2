"""experiments/latents.py and disentanglement_scores.py: complete on tiny runs, and what they refuse."""

import json

import numpy as np
import pytest
from helpers.scripts import script
from helpers.trained_runs import vaex as command

from vaex.errors import UserError

pytestmark = pytest.mark.nightly

latents = script("latents")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("label:7", ("label", 7, "h")),
        ("label:h", ("label", 7, "h")),
        ("factor:shape:1", ("shape", 1, "1")),
        ("factor:0:1", ("shape", 1, "1")),
    ],
)
def test_attributes_are_read(text, expected):
    known = {"label": np.arange(10), "shape": np.array([0, 1, 0])}
    assert tuple(latents.attribute(text, known, tuple("abcdefghij"))) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smile", "expected label:VALUE or factor:NAME:VALUE"),
        ("label:12", "label has the values 0, 1, 2"),
        ("factor:hat:1", "the data has no 'hat'; it has label"),
    ],
)
def test_other_attributes_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        latents.attribute(text, {"label": np.arange(3)})


@pytest.mark.slow
def test_a_run_of_labelled_images_is_measured_and_drawn(trained_runs, tmp_path, capsys):
    directory = trained_runs("--model=vae", "--steps=800", "--hidden=64", "--latent_dim=3", "--no-figures")
    flags = ["--attribute=label:0", "--embedding=pca", f"--out={tmp_path}", "--examples=400", "--tested=100"]
    assert latents.main([str(directory), *flags]) == 0
    printed = capsys.readouterr().out
    assert (
        "label = 0: share of images to which the classifier gives it" in printed and "length of paths in x" in printed
    )
    numbers = json.loads((tmp_path / "latents.json").read_text())
    assert numbers["attribute_label_0"]["add 2"]["success"][0] > numbers["attribute_label_0"]["add 2"]["before"][0]
    lengths = {name: np.mean(of) for name, of in numbers["path_lengths"].items()}
    assert lengths["geodesic"] <= 1.001 * lengths["linear"]
    assert np.shape(numbers["perturbations"]["changed"]) == (3, 1)
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    assert drawn == {"attribute_label_0", "interpolations", "prior_fit", "embedding"}
    assert latents.main([str(directory), "--attribute=label:12"]) == 2
    assert "label has the values" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_of_labelled_faces_has_attribute_vectors(tmp_path, capsys):
    """Faces that are darker across the eyes where their folder says so: the vector adds the bar, by the name of the folder."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16]
    face = (rows - 8) ** 2 / 49 + (columns - 8) ** 2 / 36 < 1
    for label in ("glasses", "none"):
        (tmp_path / "faces" / label).mkdir(parents=True)
        for index in range(80):
            pixels = np.where(face, rng.integers(150, 220), 30).astype(np.uint8)
            if label == "glasses":
                pixels[5:8, 3:14] = rng.integers(0, 40)
            image.fromarray(pixels).save(tmp_path / "faces" / label / f"{index}.png")
    flags = ["--model=vae", f"--dataset={tmp_path / 'faces'}", f"--data_dir={tmp_path / 'cache'}", "--steps=600"]
    flags += ["--hidden=64", "--latent_dim=3", "--batch_size=32", "--eval_images=1", "--no-figures"]
    assert command(tmp_path / "run", *flags).code == 0
    given = [f"--data_dir={tmp_path / 'cache'}", "--attribute=label:glasses", f"--out={tmp_path / 'out'}"]
    assert latents.main([str(tmp_path / "run"), *given]) == 0
    assert "label = glasses: share of images" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "out" / "latents.json").read_text())["attribute_label_0"]
    assert numbers["add 2"]["before"][0] < 0.2 and numbers["add 2"]["success"][0] > 0.8
    assert (tmp_path / "out" / "attribute_label_0.png").is_file()
    assert latents.main([str(tmp_path / "run"), given[0], "--attribute=label:hat"]) == 2
    assert "label has the values glasses, none" in capsys.readouterr().err


@pytest.mark.slow
def test_factors_of_rendered_data_are_attributes(tmp_path, capsys):
    flags = ("--model=vae", "--dataset=sprites", "--image_size=16", "--no-figures", "--eval_images=1")
    assert command(tmp_path / "run", *flags).code == 0
    given = ["--attribute=factor:shape:2", "--examples=500", "--tested=60"]
    assert latents.main([str(tmp_path / "run"), *given]) == 0
    printed = capsys.readouterr().out
    assert "shape = 2" in printed and "scale changed" in printed


@pytest.mark.slow
def test_populations_are_trained_and_scored_by_one_command(tmp_path, capsys):
    scores = script("disentanglement_scores")
    flags = [
        "--betas=1,4",
        "--seeds=0:2",
        "--steps=5",
        "--hidden=8",
        "--latent_dim=3",
        "--image_size=16",
        "--examples=400",
    ]
    assert scores.main([f"--out={tmp_path}", *flags]) == 0
    printed = capsys.readouterr().out
    assert "mig: factor_vae gamma=20 is " in printed and "udr" in printed
    content = json.loads((tmp_path / "scores.json").read_text())
    assert len(content["settings"]) == 4 and len(content["settings"]["beta_vae beta=4"]["mig"]) == 2
    assert (tmp_path / "scores.png").is_file()
    assert scores.main([f"--out={tmp_path}", *flags]) == 0  # from what was kept
    assert "scoring" not in capsys.readouterr().out


def test_flags_of_no_model_are_refused_before_training(tmp_path, capsys):
    assert script("disentanglement_scores").main([f"--out={tmp_path}", "--hiden=4"]) == 2
    assert "disentanglement_scores: --hiden is not a flag; did you mean hidden?" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
