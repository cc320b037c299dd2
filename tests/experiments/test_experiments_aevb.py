"""experiments/aevb.py: its figures, small."""

import re

import pytest
from helpers import ROOT
from helpers.scripts import script


@pytest.fixture
def table(tmp_path, capsys, monkeypatch):
    """Draw a figure of the paper on digits: the cells of the table's rows, and the sentences below."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))

    def run(figure, *flags):
        assert script("aevb").main([f"--figure={figure}", f"--out={tmp_path}", *flags]) == 0
        assert (tmp_path / f"aevb_{figure}_digits.png").exists()
        lines = capsys.readouterr().out.splitlines()
        cells = [re.split(r"\s{2,}", line.strip()) for line in lines[1:-1]]
        return [row for row in cells if len(row) > 1], [row[0] for row in cells if len(row) == 1]

    return run


@pytest.mark.slow
def test_figure_2_has_aevb_above_wake_sleep(table):
    rows, (above, _) = table(2, "--points=60000", "--latents=3", "--hidden=64")
    bounds = {row[1]: float(row[3]) for row in rows}
    assert set(bounds) == {"AEVB", "wake-sleep"} and -150 < bounds["wake-sleep"] < bounds["AEVB"]
    assert re.fullmatch(r"AEVB is above wake-sleep at \d+ of 24 places of the curves", above)


@pytest.mark.slow
def test_figure_3_has_all_three_methods(table):
    rows, (_, cost) = table(3, "--points=10000", "--places=2", "--examples=200", "--estimated=3", "--hidden=16")
    methods = [row[1] for row in rows]
    assert methods == sorted(methods, key=["AEVB", "wake-sleep", "MCEM"].index) and len(set(methods)) == 3
    for name in set(methods):  # likelihoods rise with the points seen
        values = [float(row[3]) for row in rows if row[1] == name]
        assert len(values) == 2 and values[-1] > values[0]
    assert cost.startswith("MCEM takes 205 gradients of the decoder for a point, AEVB 1")


@pytest.mark.slow
def test_figure_4_is_a_manifold(table):
    (row,), _ = table(4, "--points=2000", "--hidden=16")
    assert row[0] == "digits" and float(row[3]) == 0.0


@pytest.mark.slow
def test_weights_with_a_posterior_overfit_less(table):
    rows, findings = table("F", "--points=60000")
    difference = {row[1]: float(row[4]) for row in rows if row[0] == "50"}
    assert difference["full Bayes"] < difference["MAP"] < difference["ML"]
    assert all(float(row[-1]) < float(row[2]) for row in rows if row[1] == "full Bayes") and len(findings) == 2
