"""experiments/imputation.py: what is removed, how errors are counted, and the complete experiment on a tiny run."""

import numpy as np
import pytest
from helpers.scripts import script

pytestmark = pytest.mark.nightly

X = np.random.default_rng(0).normal(size=(400, 5)) * [1e-5, 1.0, 10.0, 1e6, 3.0] + 7.0


@pytest.fixture(scope="module")
def imputation():
    return script("imputation")


def test_entries_are_removed_by_the_seed_and_errors_are_those_of_the_removed_ones(imputation):
    gaps = imputation.with_gaps(X, 0.2, 0)
    assert 0.14 < np.isnan(gaps).mean() < 0.2 and not np.isnan(gaps).all(axis=1).any()
    np.testing.assert_array_equal(gaps, imputation.with_gaps(X, 0.2, 0))
    assert imputation.error(np.where(np.isnan(gaps), X + 2 * X.std(axis=0), np.nan), X, gaps) == pytest.approx(2.0)
    assert imputation.error(imputation.by_means(gaps), X, gaps) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("flags", [["--tables=wines"], ["--share=1"], ["--draws=0"]])
def test_invalid_input_is_refused_in_one_line(imputation, flags, capsys):
    assert imputation.main(flags) == 2
    assert capsys.readouterr().err.startswith("imputation: --")


@pytest.mark.slow
def test_the_complete_experiment_on_a_tiny_run(imputation, tmp_path, capsys):
    figure = tmp_path / "imputed.png"
    flags = ["--tables=wine", "--draws=2", "--steps=200", "--samples=100", f"--figure={figure}"]
    assert imputation.main(flags) == 0
    header, row, path = capsys.readouterr().out.splitlines()
    assert header.split() == ["table", "vae", "iterative", "mean"] and path == str(figure) and figure.exists()
    by_vae, by_regressions, by_means = (float(cell.split()[-1]) for cell in row.split(" ± ")[:3])
    assert max(by_vae, by_regressions) < by_means - 0.1
