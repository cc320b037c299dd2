"""experiments/disentangling.py: matching by reconstruction, the printed comparison, and the complete experiment on tiny runs."""

import argparse
import json
import pathlib

import numpy as np
import pytest
from helpers import scripts

from vaex.data.synthetic.sprites import sprites

pytestmark = pytest.mark.nightly

script = scripts.script("disentangling")
NOWHERE = pathlib.Path("nowhere")


def setting(model, strength, reconstructions, total_correlations=(0.0, 0.0, 0.0)):
    values = {name: np.zeros(3) for name in script.MEASURES}
    values |= {"reconstruction": np.array(reconstructions), "total_correlation": np.array(total_correlations)}
    return script.Setting(model, strength, values, NOWHERE, (0, 1, 2))


# reconstruction grows by 10 nats where beta doubles
SWEEP = [
    setting("beta_vae", str(beta), [30 + 10 * i - 1, 30 + 10 * i, 30 + 10 * i + 1]) for i, beta in enumerate((1, 2, 4))
]


@pytest.mark.parametrize(
    ("reconstruction", "beta"),
    [(35.0, 2**0.5), (42.5, 2 * 2**0.25), (50.0, 4.0), (28.0, 1 / 1.5), (60.0, 4 * 1.5)],
    ids=["between", "nearer_to_one", "at_the_end", "before_all", "beyond_all"],
)
def test_further_beta_are_interpolated(reconstruction, beta):
    target = setting("factor_vae", "5", [reconstruction] * 3)
    assert float(script.further_beta(target, SWEEP)) == pytest.approx(beta, rel=5e-3)


def test_targets_are_compared_with_the_nearest_reconstruction():
    target = setting("beta_tc_vae", "4", [40.5, 40.7, 40.9], [0.2, 0.3, 0.4])
    sweep = [SWEEP[0], setting("beta_vae", "2", [39.0, 40.0, 41.0], [1.0, 1.1, 1.2]), SWEEP[2]]
    flags = argparse.Namespace(tolerance=1.0)
    (comparison,) = script.comparisons(flags, sweep, [target])
    assert comparison["against"] == "beta_vae beta=2" and comparison["matched"]
    assert comparison["reconstruction_off_by"] == pytest.approx(0.7)
    assert comparison["difference"] == pytest.approx(-0.8)
    # standard errors: 0.1 / sqrt(3) each
    assert comparison["difference_in_standard_errors"] == pytest.approx(-0.8 / (0.1 * np.sqrt(2 / 3)))
    flags = argparse.Namespace(tolerance=0.5)
    (comparison,) = script.comparisons(flags, sweep, [target])
    assert not comparison["matched"]
    assert "NOT matched" in script.sentences(
        [comparison]
    ) and "difference -0.800, -9.8 standard errors" in script.sentences([comparison])


def test_only_what_is_not_matched_is_trained_and_no_beta_twice(monkeypatch):
    trained = []

    def train(flags, model, strengths, folder):
        trained.append((model, strengths, folder))
        return strengths

    def settings_of(flags, strengths, images):
        return [setting("beta_vae", beta, [30 + 10 * np.log2(float(beta))] * 3) for beta in strengths]

    monkeypatch.setattr(script, "train", train)
    monkeypatch.setattr(script, "settings_of", settings_of)
    flags = argparse.Namespace(tolerance=1.0, rounds=3)
    targets = [setting("factor_vae", str(i), [nats] * 3) for i, nats in enumerate((40.4, 45.0, 45.0))]
    sweep = script.refined(flags, SWEEP, targets, None)
    assert trained == [("beta_vae", ["2.83"], "beta_vae_matched_1")]  # one round is enough: both need the same beta
    assert [entry.strength for entry in sweep] == ["1", "2", "2.83", "4"]


@pytest.mark.slow
def test_equal_images_are_stored_once():
    source = sprites(8)
    images = script.all_images(source)
    assert images.which.shape == (737_280,) and len(images.bits) < 100_000
    rows = np.array([0, 1, 100_000, 737_279])
    pixels = np.unpackbits(images.bits[images.which[rows]], axis=1).reshape(-1, 8, 8, 1)
    np.testing.assert_array_equal(pixels, source.observe(source.grid()[rows]))
    assert len(np.unique(images.bits, axis=0)) == len(images.bits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples=1"], "--samples must be at least 2"),
        (["--betas=0,1"], "argument --betas: 0,1: expected positive numbers joined by commas"),
        (["--gammas=many"], "argument --gammas: many: expected numbers joined by commas"),
        (["--rounds=-1"], "--rounds at least 0"),
    ],
)
def test_invalid_flags_are_refused_in_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_unknown_flag_is_refused_before_training(tmp_path, capsys):
    assert script.main([f"--out={tmp_path}", "--hiden=4"]) == 2
    assert "disentangling: --hiden is not a flag; did you mean hidden?" in capsys.readouterr().err


@pytest.mark.slow
def test_the_complete_experiment_on_tiny_runs(tmp_path, capsys):
    arguments = [
        f"--out={tmp_path}",
        "--steps=3",
        "--hidden=4",
        "--latent_dim=2",
        "--image_size=8",
        "--seeds=0:2",
        "--samples=20",
    ]
    arguments += ["--betas=1,2", "--tc_betas=4", "--gammas=5", "--rounds=1", "--tolerance=1000"]
    assert script.main(arguments) == 0
    first = capsys.readouterr().out
    assert "beta_tc_vae beta=4" in first and "factor_vae gamma=5: total correlation" in first
    written = json.loads((tmp_path / "disentangling.json").read_text())
    assert [entry["method"] for entry in written["settings"]] == [
        "beta_vae beta=1", "beta_vae beta=2", "beta_tc_vae beta=4", "factor_vae gamma=5"
    ]  # fmt: skip
    assert all(len(entry["total_correlation"]) == 2 for entry in written["settings"])
    assert all(comparison["matched"] for comparison in written["comparisons"])
    assert (tmp_path / "total_correlation.png").read_bytes()[1:4] == b"PNG"
    assert len(list((tmp_path / "traversals").glob("*.png"))) >= 3
    assert script.main(arguments) == 0  # nothing is trained or measured again
    again, said = capsys.readouterr()
    assert "is finished at step 3" in said and "drawing all images" not in again
    assert again.split("\n\n")[-3:] == first.split("\n\n")[-3:]
