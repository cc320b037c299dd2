"""The scripts in experiments/ other than the command line itself."""

import json

import pytest
from helpers.scripts import script

from vaex.cli import main as cli

pytestmark = pytest.mark.nightly


@pytest.mark.slow
def test_the_estimators_table_shows_the_known_results(tmp_path, capsys):
    assert script("estimators").main(["--draws=400", "--samples=1,10,100", f"--out={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "| reparameterized | 100 |" in printed and "straight_through_gumbel" in printed
    written = json.loads((tmp_path / "estimators.json").read_text())
    ratio = {(row["estimator"], row["k"]): row["encoder_signal_to_noise"] for row in written["linear_gaussian"]}
    assert ratio["reparameterized", 1] > 1.5 * ratio["reparameterized", 10] > 1.5**2 * ratio["reparameterized", 100]
    assert ratio["doubly_reparameterized", 100] > ratio["doubly_reparameterized", 1]
    off = {(row["estimator"], row["k"]): row["off_in_standard_errors"] for row in written["linear_gaussian"]}
    assert off["reparameterized", 10] < 2 < 10 < off["sticking_the_landing", 10]
    bias = {row["estimator"]: row["relative_bias"] for row in written["discrete"]}
    assert bias["vimco"] < 0.1 < bias["straight_through_gumbel, temperature 4"]
    assert (tmp_path / "signal_to_noise.png").read_bytes()[1:4] == b"PNG"


def test_the_estimators_script_refuses_in_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        script("estimators").main(["--draws=1"])
    assert stop.value.code == 2
    assert "--draws must be at least 2" in capsys.readouterr().err


# --- sequences -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_models_of_sequences_stand_beside_baselines(capsys):
    flags = ["--data=bouncing_sprites", "--models=sequence_vae", "--options=beta=0.5", "--seeds=2", "--steps=2"]
    script("sequences").main([*flags, "--batch_size=2", "--sequences=3"])
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line[0] for line in table] == ["| last frame with flips", "| mean frame", "| sequence_vae beta=0.5"]
    assert [len(line) for line in table] == [4, 4, 5]  # of a model also the time
    assert "nan" not in "".join(table[-1])


# --- compare ---------------------------------------------------------------------------------------------------------


def run(tmp_path, name, *flags):
    quick = [
        "--steps=3",
        "--hidden=8",
        "--no-figures",
        "--eval_images=10",
        f"--out={tmp_path / name}",
    ]
    assert cli.main([*quick, *flags]) == 0
    return str(tmp_path / name)


@pytest.mark.slow
def test_runs_share_a_table_only_where_their_numbers_compare(tmp_path, capsys):
    plain = run(tmp_path, "plain", "--model=vae", "--eval_samples=2")
    swept = run(tmp_path, "swept", "--model=beta_vae", "--beta=1,4", "--seeds=0:2", "--eval_samples=2")
    binary = run(
        tmp_path, "binary", "--model=vae", "--binarize=threshold", "--likelihood=bernoulli", "--eval_samples=2"
    )
    other = run(tmp_path, "other", "--model=vae", "--likelihood=gaussian", "--eval_samples=2")
    more = run(tmp_path, "more", "--model=vae", "--eval_samples=3")
    capsys.readouterr()
    assert script("compare").main([plain, swept, binary, other, more]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert len(tables) == 4
    first = tables[0].splitlines()
    assert "protocol: digits_1397_200_200 17_levels" in first[0] and "discretized logistic" in first[0]
    assert [line.split()[0] for line in first[2:]] == ["plain", "swept", "swept", "more"]
    assert "log_likelihood (K=2, n=10)" in first[1] and "log_likelihood (K=3, n=10)" in first[1]
    assert "beta=4" in first[4] and "±" in first[4]
    paired = tables[1].splitlines()
    assert paired[0].startswith("log_likelihood (K=2, n=10), paired: each row minus plain")
    assert [line.split()[:3] for line in paired[2:4]] == [["swept", "beta=1", "2"], ["swept", "beta=4", "2"]]
    assert "threshold_binarisation" in tables[2] and "likelihood: gaussian" in tables[3]


def test_comparing_what_is_no_run_is_refused_in_one_line(tmp_path, capsys):
    assert script("compare").main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"compare: {tmp_path}: holds no finished run (no summary.json that can be read)\n"
