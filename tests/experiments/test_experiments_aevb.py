"""experiments/aevb.py: its figures, small."""

import re

import pytest
from helpers import ROOT
from helpers.scripts import script


@pytest.fixture
def table(tmp_path, capsys, monkeypatch):
    """Draw a figure of the paper on digits: the cells of the table's rows."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))

    def run(figure, *flags):
        assert script("aevb").main([f"--figure={figure}", f"--out={tmp_path}", *flags]) == 0
        assert (tmp_path / f"aevb_{figure}_digits.png").exists()
        lines = capsys.readouterr().out.splitlines()
        return [re.split(r"\s{2,}", line.strip()) for line in lines[1:-1]]

    return run


@pytest.mark.slow
def test_figure_2_has_aevb_above_wake_sleep(table):
    rows = table(2, "--points=60000", "--latents=3", "--hidden=64")
    bounds = {row[1]: float(row[3]) for row in rows}
    assert set(bounds) == {"AEVB", "wake-sleep"} and -150 < bounds["wake-sleep"] < bounds["AEVB"]


@pytest.mark.slow
def test_figure_3_has_all_three_methods(table):
    rows = table(3, "--points=10000", "--places=2", "--examples=200", "--estimated=3", "--hidden=16")
    methods = [row[1] for row in rows]
    assert methods == sorted(methods, key=["AEVB", "wake-sleep", "MCEM"].index) and len(set(methods)) == 3
    for name in set(methods):  # likelihoods rise with the points seen
        values = [float(row[3]) for row in rows if row[1] == name]
        assert len(values) == 2 and values[-1] > values[0]


@pytest.mark.slow
def test_figure_4_is_a_manifold(table):
    (row,) = table(4, "--points=2000", "--hidden=16")
    assert row[0] == "digits" and float(row[3]) == 0.0
