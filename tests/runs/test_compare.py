"""Paired differences of log-likelihoods against NumPy, which runs are paired, and files that are not what they should be."""

import json
import math

import numpy as np
import pytest
from helpers.trained_runs import TWO_MEMBERS, vaex

from vaex.results import compare as comparison
from vaex.results.compare import LOG_LIKELIHOODS, compare, paired_difference, read_log_likelihoods, read_runs
from vaex.runs import directory

RNG = np.random.default_rng(0)


def write(folder, values, members=({},), varied=(), rows=None, **changes):
    """A run directory of these log-likelihoods [p, n], a member for each row; returns its name."""
    folder.mkdir()
    values = np.asarray(values, np.float32)
    means = values.astype(np.float64).mean(axis=1)
    members = [{"hparams": h, "log_likelihood": float(m)} for h, m in zip(members, means, strict=True)]
    kinds = list(dict.fromkeys(tuple(m["hparams"].get(name) for name in varied) for m in members))
    results = []
    for kind in kinds:
        same = [m["log_likelihood"] for m in members if tuple(m["hparams"].get(name) for name in varied) == kind]
        metrics = {"log_likelihood": {"mean": float(np.mean(same)), "standard_error": None}}
        results.append({**dict(zip(varied, kind, strict=True)), "seeds": len(same), **metrics})
    evaluation = {"split": "test", "log_likelihood_examples": values.shape[1], "importance_samples": 50}
    summary = {
        "dataset": "digits",
        "protocol": "p",
        "likelihood": "bernoulli",
        "data_hash": "a",
        "steps": 5,
        "evaluation": evaluation | changes.pop("evaluation", {}),
        "results": results,
        "members": members,
        **changes,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    np.savez(folder / LOG_LIKELIHOODS, log_likelihood=values, **({} if rows is None else {"rows": np.asarray(rows)}))
    return str(folder)


def text_of(*folders):
    summaries = read_runs(folders)
    return compare(summaries, read_log_likelihoods(summaries))


def paired_rows(text):
    """run, varied -> (seeds, difference, error, ratio) of the last paired table."""
    lines = text.split("in standard errors\n")[1].splitlines()
    rows = [line.split() for line in lines if "±" in line and not line.startswith(("Above", "Of"))]
    return {(row[0], row[1]): (int(row[2]), float(row[3]), float(row[5]), float(row[6])) for row in rows}


def test_differences_are_paired_and_seeds_are_averaged_by_example(tmp_path):
    hard = 10 * RNG.normal(size=40)  # the examples differ by much more than the runs do
    base = write(tmp_path / "base", [-90 + hard])
    members = [{"beta": b, "other": "1"} for b in ("1", "1", "4", "4")]
    swept = -90 + hard + np.array([[1.0], [2.0], [-3.0], [-4.0]]) + RNG.normal(size=(4, 40))
    other = write(tmp_path / "other", swept, members, ("beta",))
    text = text_of(base, other)
    rows = paired_rows(text)
    assert rows.keys() == {("other", "beta=1"), ("other", "beta=4")}
    for beta, chosen in (("1", swept[:2]), ("4", swept[2:])):
        difference = chosen.mean(axis=0) - (-90 + hard)
        mean, error = difference.mean(), difference.std(ddof=1) / math.sqrt(40)
        row = rows["other", f"beta={beta}"]
        assert row[0] == 2 and row[3] == pytest.approx(mean / error, abs=0.06)
        assert row[1] == pytest.approx(mean, rel=0.01) and row[2] == pytest.approx(error, rel=0.06)
        assert error < 0.3 < np.std(hard) / math.sqrt(40)  # what pairing is for
    assert "each row minus base" in text and "averaged over the seeds first" in text and "40 examples" in text


def test_runs_without_several_seeds_say_nothing_of_seeds(tmp_path):
    text = text_of(write(tmp_path / "a", [[-1.0, -2.0]]), write(tmp_path / "b", [[-1.5, -3.5]]))
    assert "averaged over the seeds" not in text
    assert paired_rows(text) == {("b", "-"): (1, -1.0, 0.5, -2.0)}


def test_equal_runs_and_single_examples_have_no_ratio(tmp_path):
    text = text_of(write(tmp_path / "a", [[-1.0, -2.0]]), write(tmp_path / "b", [[-1.0, -2.0]]))
    assert text.split("in standard errors\n")[1].splitlines()[0].split() == ["b", "-", "1", "+0", "±", "0", "-"]
    text = text_of(write(tmp_path / "c", [[-1.0]]), write(tmp_path / "d", [[-2.0]]))
    assert text.split("in standard errors\n")[1].splitlines()[0].split() == ["d", "-", "1", "-1", "-"]
    assert math.isnan(paired_difference(np.ones(1), np.zeros(1))[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"data_hash": "b"},
        {"protocol": "q"},
        {"likelihood": "gaussian"},
        {"dataset": "mnist"},
        {"given": "label"},
        {"evaluation": {"split": "validation"}},
        {"evaluation": {"importance_samples": 51}},
    ],
    ids=str,
)
def test_what_does_not_compare_is_not_paired(tmp_path, changes):
    first = write(tmp_path / "first", RNG.normal(size=(1, 5)))
    assert "paired" not in text_of(first, write(tmp_path / "second", RNG.normal(size=(1, 5)), **changes))
    assert "paired" in text_of(first, write(tmp_path / "third", RNG.normal(size=(1, 5))))


def test_other_numbers_of_examples_are_not_paired(tmp_path):
    first, second = write(tmp_path / "a", RNG.normal(size=(1, 5))), write(tmp_path / "b", RNG.normal(size=(1, 6)))
    assert "paired" not in text_of(first, second)


def test_other_examples_are_not_paired_and_that_is_told(tmp_path):
    """Of as many examples, but others: chosen at random since version 2 of the evaluation, the first before."""
    values = RNG.normal(size=(1, 3))
    new = {"evaluation": {"examples_version": 2}}
    first = write(tmp_path / "a", values, rows=[4, 0, 9], **new)
    same = write(tmp_path / "b", RNG.normal(size=(1, 3)), rows=[4, 0, 9], **new)
    other = write(tmp_path / "c", values, rows=[4, 0, 8], **new)
    old = write(tmp_path / "d", values)
    text = text_of(first, same, other, old)
    assert paired_rows(text).keys() == {("b", "-")}
    assert "not paired with a: c, d (evaluated on other examples, or other draws of them)" in text
    assert "log_likelihood (K=50, n=3)" in text and "log_likelihood (K=50, n=first 3)" in text
    assert "not paired" not in text_of(first, same)
    # version 1 binarised with other draws, so its log-likelihoods of all examples are not paired either
    entire = write(tmp_path / "e", values, rows=[0, 1, 2], **new)
    assert "not paired with e: d" in text_of(entire, old)


def test_settings_that_differ_are_shown(tmp_path):
    """Hyperparameters, options of the model and the batch size; not what all rows have, nor what one alone has."""
    first = write(tmp_path / "first", [[-1.0, -2.0]], [{"beta": "1", "learning_rate": "0.001"}], batch_size=64)
    second = write(tmp_path / "second", [[-1.5, -3.5]], [{"beta": "4", "learning_rate": "0.001"}], batch_size=128)
    third = write(tmp_path / "third", [[-1.5, -3.0]], [{"learning_rate": "0.001", "alpha": "2"}], batch_size=64)
    for name, hidden in (("first", [64]), ("second", [64, 32]), ("third", [64])):
        config = {"identity": {"config": {"hidden": hidden, "network": "mlp"}}}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    rows = [line.split() for line in text_of(first, second, third).splitlines()]
    shown = {row[0]: set(row[1:4]) for row in rows if row and row[0] in ("first", "second", "third")}
    assert shown["second"] == {"beta=4", "hidden=64x32", "batch_size=128"}
    assert {"hidden=64", "batch_size=64"} <= shown["third"]
    assert "learning_rate" not in text_of(first, second, third) and "alpha" not in text_of(first, second, third)


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "no archive": lambda path: path.write_text("text"),
    "an array": lambda path: path.write_bytes(b"\x93NUMPY"),
    "other names": lambda path: np.savez(path, x=np.zeros((1, 5))),
    "another shape": lambda path: np.savez(path, log_likelihood=np.zeros((2, 5))),
    "of another evaluation": lambda path: np.savez(path, log_likelihood=np.ones((1, 5))),
    "words": lambda path: np.savez(path, log_likelihood=np.array([["a"] * 5])),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_that_do_not_belong_are_named_and_left_out(tmp_path, damage):
    folders = [write(tmp_path / name, RNG.normal(size=(1, 5))) for name in ("a", "b", "c")]
    DAMAGES[damage](tmp_path / "b" / LOG_LIKELIHOODS)
    text = text_of(*folders)
    assert "not paired: b (no log_likelihood.npz" in text and paired_rows(text).keys() == {("c", "-")}


def test_runs_without_a_density_are_no_matter(tmp_path):
    first, second = (write(tmp_path / name, RNG.normal(size=(1, 5))) for name in ("a", "b"))
    third = write(tmp_path / "c", RNG.normal(size=(1, 5)))
    summary = json.loads((tmp_path / "c" / "summary.json").read_text())
    summary["members"][0]["log_likelihood"] = None
    del summary["results"][0]["log_likelihood"]
    (tmp_path / "c" / "summary.json").write_text(json.dumps(summary))
    text = text_of(first, second, third)
    assert "not paired" not in text and paired_rows(text).keys() == {("b", "-")}


# --- a run keeps them ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_keeps_the_log_likelihood_of_each_example(trained_runs, tmp_path):
    folder = trained_runs.copied(tmp_path / "run", *TWO_MEMBERS)
    summaries = read_runs([folder])
    assert read_log_likelihoods(summaries)[str(folder)].values.shape == (2, 20)
    (folder / LOG_LIKELIHOODS).unlink()
    for entry in summaries[str(folder)]["members"]:
        assert math.isfinite(entry["log_likelihood"])
    summary = json.loads((folder / "summary.json").read_text())
    del summary["evaluation"]["log_likelihood_file"], summary["digest"]  # as earlier versions wrote it
    (folder / "summary.json").write_text(json.dumps(summary))
    assert vaex(folder, *TWO_MEMBERS).code == 0
    assert comparison.read_log_likelihoods(read_runs([folder]))[str(folder)].values.shape == (2, 20)
    directory.clear(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_run_without_a_density_keeps_none(trained_runs):
    assert not (trained_runs("--model=autoencoder", "--no-figures") / LOG_LIKELIHOODS).exists()
