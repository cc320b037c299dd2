"""The results of a finished run: what is averaged over seeds, and the printed table."""

import numpy as np
import pytest
from helpers.command import parse

from vaex.configuration.grammar import hyperparameter_texts
from vaex.results import report
from vaex.runs.summary import group_over_seeds

SETTINGS = parse(["--model=contractive_autoencoder", "--contraction=0,1", "--seeds=0:2"])


def members(**columns):
    """Numbers of the four members, as the evaluator gives them: a metric of the objective has a standard error."""
    records = [
        {"seed": member.seed, "hparams": hyperparameter_texts(member.hparams), "log_likelihood": None}
        for member in SETTINGS.members
    ]
    for name, values in columns.items():
        for record, value in zip(records, values, strict=True):
            record |= {name: value, f"{name}_standard_error": 0.1}
    return [record | {"active_units": 3, "knn_accuracy_on_originals": 0.9} for record in records]


def test_a_model_s_own_diagnostics_stand_behind_the_common_numbers():
    records = members(jacobian_norm=[4.0, 6.0, 1.0, 3.0], reconstruction=[80.0, 82.0, 90.0, 90.0])
    results = group_over_seeds(SETTINGS, records)
    assert [record["contraction"] for record in results] == ["0", "1"]
    assert results[0]["jacobian_norm"] == {"mean": 5.0, "standard_error": 1.0}
    assert "knn_accuracy_on_originals" not in results[0]
    lines = report.table({"results": results, "members": records}).splitlines()
    assert lines[0].split() == ["contraction", "seed", "reconstruction", "active_units", "jacobian_norm"]
    assert lines[2].split() == ["0", "1", "82", "±", "0.1", "3", "6", "±", "0.1"]
    assert lines[3].split() == ["0", "mean", "81", "±", "1", "3", "±", "0", "5", "±", "1"]
    assert len(lines) == 7


def test_a_diagnostic_that_is_not_finite_is_a_dash_and_one_that_nobody_has_no_column():
    records = members(jacobian_norm=[None, 6.0, None, None], gap=[None] * 4)
    results = group_over_seeds(SETTINGS, records)
    assert results[0]["jacobian_norm"] == {"mean": 6.0, "standard_error": None}
    assert "jacobian_norm" not in results[1] and "gap" not in results[0]
    lines = report.table({"results": results, "members": records}).splitlines()
    assert lines[0].split() == ["contraction", "seed", "active_units", "jacobian_norm"]
    assert lines[1].split()[-1] == "-" and lines[3].split()[-1] == "6" and lines[6].split()[-1] == "-"


def test_statistics_of_batches_have_their_error_over_batches():
    records = [record | {"mmd": 0.5, "mmd_standard_error_over_batches": 0.02} for record in members(kl=[1.0] * 4)]
    results = group_over_seeds(SETTINGS, records, ("mmd",))
    assert results[0]["mmd"] == {"mean": 0.5, "standard_error": 0.0}
    statistics = {"names": ["mmd"], "batches": 3, "examples": [500, 500]}
    summary = {"results": results, "members": records, "batch_statistics": statistics}
    lines = report.table(summary).splitlines()
    assert lines[0].split()[-1] == "mmd" and lines[1].split()[-3:] == ["0.5", "±", "0.02"]
    single = [record | {"mmd": 0.5} for record in members(kl=[1.0] * 4)]  # of one batch: no error
    summary = {
        "results": group_over_seeds(SETTINGS, single, ("mmd",)),
        "members": single,
        "batch_statistics": statistics,
    }
    assert report.table(summary).splitlines()[1].split()[-1] == "0.5"


@pytest.mark.parametrize("name", report.TABLE)
def test_common_numbers_are_nobody_s_own(name):
    records = members(**{name: list(np.arange(4.0))})
    assert report.diagnostics(records) == []
