"""experiments/aevb.py: its figures, small."""

import re

import numpy as np
import pytest
from helpers import ROOT
from helpers.scripts import script

pytestmark = pytest.mark.nightly


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


@pytest.fixture
def aevb(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    return script("aevb")


@pytest.mark.parametrize(("last", "drawn"), [(-100.0, [0, 1, 1]), (600.0, [0, 0, 1])])
def test_curves_end_as_far_below_the_last_bound_as_that_is_from_zero(aevb, last, drawn):
    """Bounds of densities are positive: the last one is drawn too."""
    lines = aevb.above_floor({"AEVB, validation": np.array([-1e5, -150.0, last])}, last)
    np.testing.assert_array_equal(np.isfinite(lines["AEVB, validation"]), drawn)


def test_findings_are_said_to_hold_or_not(aevb):
    final = {3: aevb.Final(-150.0, -151.0), 20: aevb.Final(-120.0, -120.5)}
    (sentence,) = aevb.superfluous_latents(final)
    assert sentence.startswith("Superfluous latents do not overfit: held;")
    assert sentence.endswith("1.00 with 3, 0.50 with 20 latents; the best validation bound, -120.50, has 20")
    (sentence,) = aevb.superfluous_latents(final | {200: aevb.Final(-100.0, -130.0)})
    assert sentence.startswith("Superfluous latents do not overfit: not held;") and "30.00 with 200" in sentence
    assert aevb.superfluous_latents({3: aevb.Final(-150.0, -151.0)}) == ()
    above = aevb.Above()
    lines = {
        f"{method}, {split}": np.zeros(2) for method in ("AEVB", "wake-sleep") for split in ("training", "validation")
    }
    above.count(lines | {f"AEVB, {split}": np.ones(2) for split in ("training", "validation")})
    assert str(above) == "AEVB above wake-sleep throughout: held, at 4 of 4 places of the curves"
    above.count(lines)
    assert str(above) == "AEVB above wake-sleep throughout: not held, at 4 of 8 places of the curves"


@pytest.mark.slow
def test_figure_2_has_aevb_above_wake_sleep(table):
    rows, (above,) = table(2, "--points=60000", "--latents=3", "--hidden=64", "--learning_rate=0.0001,0.02")
    bounds = {row[1]: float(row[4]) for row in rows}
    assert set(bounds) == {"AEVB", "wake-sleep"} and -150 < bounds["wake-sleep"] < bounds["AEVB"]
    assert {row[2] for row in rows} == {"0.02"}  # the better one after the first steps
    assert re.fullmatch(r"AEVB above wake-sleep throughout: (not )?held, at \d+ of 24 places of the curves", above)


@pytest.mark.slow
def test_figure_3_has_all_three_methods(table):
    rows, (_, online) = table(3, "--points=10000", "--places=2", "--examples=200", "--estimated=3", "--hidden=16")
    methods = [row[1] for row in rows]
    assert methods == sorted(methods, key=["AEVB", "wake-sleep", "MCEM"].index) and len(set(methods)) == 3
    for name in set(methods):  # likelihoods rise with the points seen
        values = [float(row[4]) for row in rows if row[1] == name]
        assert len(values) == 2 and values[-1] > values[0]
    start = "MCEM cannot be run online: held; it takes 205 gradients of the decoder for a point, AEVB 1, and for"
    assert online.startswith(start)


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


def test_several_learning_rates_are_refused_where_none_is_chosen(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    with pytest.raises(SystemExit):
        script("aevb").main(["--figure=4", "--learning_rate=0.01,0.02"])
    assert "figure 4 takes one" in capsys.readouterr().err
