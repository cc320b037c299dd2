"""The scripts in experiments/ other than the command line itself."""

import importlib.util
import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"experiments_{name}", ROOT / "experiments" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
