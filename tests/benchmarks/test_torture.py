"""benchmarks/torture.py: what it compares, and the table that it prints."""

import collections
import importlib
import json
import shutil
import types

import pytest

torture = importlib.import_module("torture")


@pytest.mark.slow
def test_differences_of_a_run_are_named(trained_runs, tmp_path):
    whole = trained_runs("--model=vae", "--no-figures")
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    assert torture.differences(whole, other) == []
    (other / ".metrics.0123456789abcdef0123456789abcdef.jsonl").write_text("")
    (other / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()
    (other / "checkpoints" / "9.orbax-checkpoint-tmp" / "_METADATA").write_text("")
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps(summary | {"results": []}))
    rows = (other / "metrics.jsonl").read_text()
    (other / "metrics.jsonl").write_text(rows[: len(rows) // 2])
    found = torture.differences(whole, other)
    assert [text.split(" ")[-2:] for text in found[:2]] == [["left", "over"]] * 2
    assert found[2:] == [".: metrics.jsonl differs", "summary.json: results differs"]


@pytest.mark.slow
def test_other_values_in_a_checkpoint_are_a_difference(trained_runs, tmp_path):
    whole = trained_runs("--model=vae", "--no-figures")
    longer = trained_runs("--model=vae", "--no-figures", "--seeds=1")
    shutil.copytree(whole, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "checkpoints")
    shutil.copytree(longer / "checkpoints", tmp_path / "other" / "checkpoints")
    assert any("has other bits" in text for text in torture.differences(whole, tmp_path / "other"))
    shutil.rmtree(tmp_path / "other" / "checkpoints" / "20")
    assert ".: step 0, expected 20" in torture.differences(whole, tmp_path / "other")


def test_the_table_counts_kills_by_phase_and_signal():
    ended = collections.Counter({("SIGKILL", "train"): 3, ("SIGTERM", "train"): 1, ("SIGTERM", "start"): 2})
    problems = ["directory 1: metrics.jsonl differs"]
    done = types.SimpleNamespace(name="population", seconds=12.34, compared=2, problems=problems, ended=ended)
    last = torture.table([done]).splitlines()[-1]
    assert last == "| population | 12.3 | 6 | 2 | 0 | 4 | 0 | KILL 3, TERM 3 | 2 | 1 |"


def test_runs_that_are_not_there(capsys):
    with pytest.raises(SystemExit):
        torture.main(["--runs=no_such_run"])
    assert "'no_such_run' is none of population" in capsys.readouterr().err
