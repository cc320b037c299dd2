"""The command line end to end, on runs of a few steps: the run directory, going on, starting again, and what stops it."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zlib
from typing import NamedTuple

import jax
import matplotlib.image
import numpy as np
import pytest
from helpers import ROOT
from helpers.checkpoints import assert_same_arrays, stored
from jax.experimental.compilation_cache import compilation_cache

from vaex import __version__, files
from vaex.cli import main as cli
from vaex.runs import lifecycle
from vaex.runs.config_file import config_content
from vaex.runs.directory import clear, finished_summary
from vaex.training.metrics import read_rows

QUICK = {
    "hidden": "8", "latent_dim": "2", "log_every": "5", "eval_samples": "4", "eval_images": "20", "devices": "1",
}  # fmt: skip
SOLO = ("--steps=20",)
POPULATION = ("--steps=20", "--beta=1,2", "--seeds=0:2", "--population_strategy=members")
FIGURES = {"reconstructions", "samples", "traversals", "kl_per_latent", "training_curves", "manifold"}


class Done(NamedTuple):
    """A command that ended: its exit code, what it printed, and its run directory."""

    code: int
    out: str
    err: str
    directory: pathlib.Path

    @property
    def summary(self) -> dict:
        content = json.loads((self.directory / "summary.json").read_text())
        return {name: value for name, value in content.items() if name != "digest"}

    @property
    def rows(self) -> list[dict]:
        return read_rows(self.directory / "metrics.jsonl")


def vaex(directory: pathlib.Path, *flags: str, model: str = "beta_vae") -> Done:
    """The command with these flags, and those of QUICK that they leave out."""
    present = {flag[2:].split("=")[0] for flag in flags}
    quick = [f"--{name}={value}" for name, value in QUICK.items() if name not in present]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([f"--model={model}", f"--out={directory}", *quick, *flags])
    return Done(code, out.getvalue(), err.getvalue(), directory)


def train(directory: pathlib.Path, *flags: str, model: str = "beta_vae", figures: bool = False) -> Done:
    """A run that must end well."""
    done = vaex(directory, *flags, *(() if figures else ("--no-figures",)), model=model)
    assert done.code == 0, done.err
    return done


def copied(done: Done, to: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(done.directory, to))


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Runs of one program share what XLA makes of it; they trace, train and evaluate each for itself."""
    cached = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in cached}
    for settings in (cached, before):
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if settings is cached:
            yield


@pytest.fixture
def untrained(monkeypatch):
    """Reaching the training or the evaluation is a failure."""
    monkeypatch.setattr(lifecycle, "train", lambda *args, **kwargs: pytest.fail("this reached training"))
    monkeypatch.setattr(lifecycle, "summarize", lambda *args, **kwargs: pytest.fail("this reached the evaluation"))


@pytest.fixture(scope="module")
def solo(tmp_path_factory) -> Done:
    """A run of 20 steps with figures, in a directory with a space and an accent."""
    return train(tmp_path_factory.mktemp("runs") / "a solo rün", *SOLO, figures=True)


@pytest.fixture(scope="module")
def population(tmp_path_factory) -> Done:
    """Two betas times two seeds."""
    return train(tmp_path_factory.mktemp("runs") / "population", *POPULATION)


# --- the run directory --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_run_directory_holds_the_files_of_a_run(solo):
    names = {path.name for path in solo.directory.iterdir()}
    files = {"config.json", "metrics.jsonl", "timings.jsonl", "summary.json", "log_likelihood.npz"}
    assert names == {*files, "checkpoints", "figures"}
    assert {path.name for path in (solo.directory / "checkpoints").iterdir()} == {"0", "20", "digests.json"}


@pytest.mark.slow
def test_figures_are_drawn_and_not_blank(solo):
    drawn = {path.stem: path for path in (solo.directory / "figures").glob("*.png")}
    assert drawn.keys() == FIGURES
    for name, path in drawn.items():
        pixels = matplotlib.image.imread(path)
        assert min(pixels.shape[:2]) > 50 and np.std(pixels[..., :3]) > 0.01, name


def test_metrics_hold_a_row_per_window_and_no_clock(solo):
    assert [row["step"] for row in solo.rows] == [5, 10, 15, 20]
    for row in solo.rows:
        assert row.keys() == {"step", "elbo", "kl", "loss", "reconstruction"}
        assert all(len(values) == 1 and np.isfinite(values).all() for name, values in row.items() if name != "step")
        assert row["elbo"][0] == pytest.approx(-row["reconstruction"][0] - row["kl"][0], rel=1e-5)
        assert row["loss"][0] == pytest.approx(row["reconstruction"][0] + 2 * row["kl"][0], rel=1e-5)
    timings = [json.loads(line) for line in (solo.directory / "timings.jsonl").read_text().splitlines()]
    assert sum(row["steps"] for row in timings) == timings[-1]["step"] == 20
    assert all(row["seconds"] > 0 and row["time"] > 1.7e9 for row in timings)


def test_the_summary_says_all_that_is_promised(solo):
    summary = solo.summary
    assert (summary["model"], summary["dataset"], summary["steps"], summary["batch_size"]) == (
        "beta_vae",
        "digits",
        20,
        128,
    )
    assert summary["step_traces"] == 1
    assert summary["likelihood"].startswith("discretized logistic") and "digits_1397" in summary["protocol"]
    assert len(summary["data_hash"]) >= 8 and summary["data_seed"] == 0
    assert summary["evaluation"]["importance_samples"] == 4 and summary["evaluation"]["log_likelihood_examples"] == 20
    assert summary["device"]["platform"] == jax.default_backend() and summary["versions"]["jax"] == jax.__version__
    assert summary["compile_seconds"] > 0 and summary["steps_per_second"] > 0 and summary["peak_memory_bytes"] > 1e7
    [member] = summary["members"]
    assert member["seed"] == 0 and member["hparams"]["beta"] == "2"
    assert member["elbo"] == pytest.approx(-member["reconstruction"] - member["kl"], rel=1e-5)
    assert sum(member["kl_per_latent"]) == pytest.approx(member["kl"], rel=0.5) and len(member["kl_per_latent"]) == 2
    assert member["log_likelihood_standard_error"] > 0 and member["active_units"] in (0, 1, 2)
    bits = -member["log_likelihood"] / 64 / np.log(2)
    assert member["bits_per_dimension"] == pytest.approx(bits, rel=1e-6)
    assert 0 <= member["knn_label_agreement"] <= 1


def test_the_terminal_says_where_and_how(solo):
    assert f"beta_vae on digits: 20 steps, in {solo.directory}" in solo.out
    _, data, likelihood, *_ = solo.out.splitlines()
    assert data == (
        "data: 1,397 training examples; images 8x8 (height x width), 1 channel; levels 0 to 16 of 0 to 16, divided by 16; "
        "not binarised (--binarize=dynamic)"
    )
    assert likelihood == "likelihood: discretized logistic, one learned scale, the default for levels (--likelihood)"
    assert "log_likelihood: importance-weighted, K = 4, on 20 examples" in solo.out
    assert "vaex.load(" in solo.out
    assert "step 20/20" in solo.err and "steps/s" in solo.err and "elbo" in solo.err


def test_config_json_names_everything_needed(solo):
    content = json.loads((solo.directory / "config.json").read_text())
    assert content["identity"]["config"]["hidden"] == [8] and content["data"]["shape"] == [8, 8, 1]
    assert content["population_strategy"] == "solo" and content["vaex"]


# --- going on -----------------------------------------------------------------------------------------------------


def test_a_finished_run_says_so_and_changes_nothing(solo, untrained):
    before = {path: path.stat().st_mtime_ns for path in solo.directory.rglob("*") if path.is_file()}
    again = train(solo.directory, "--steps=20", "--log_every=3", "--checkpoint_every=7", figures=True)
    assert "is finished at step 20" in again.out and "a larger --steps goes on" in again.out and "elbo" in again.out
    assert {path: path.stat().st_mtime_ns for path in solo.directory.rglob("*") if path.is_file()} == before


def test_fewer_steps_than_there_are_is_refused(solo, untrained):
    done = vaex(solo.directory, "--steps=10")
    assert done.code == 2 and "trained to step 20 already" in done.err and "--overwrite" in done.err


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> tuple[Done, Done, pathlib.Path]:
    """A run of 12 steps, the same taken on to 20, and a copy of it as it was at 12."""
    folder = tmp_path_factory.mktemp("runs")
    first = train(folder / "extended", "--steps=12")
    copy = copied(first, folder / "copy")
    return first, train(first.directory, "--steps=20"), copy


@pytest.mark.slow
def test_a_run_that_was_extended_equals_one_that_was_not(solo, extended):
    first, second, _ = extended
    assert "continuing" not in first.out and f"continuing {second.directory} at step 12 of 20" in second.out
    assert_same_arrays(solo.directory, second.directory)
    assert (solo.directory / "metrics.jsonl").read_bytes() == (second.directory / "metrics.jsonl").read_bytes()
    numbers = {"elbo", "kl", "reconstruction", "log_likelihood", "bits_per_dimension", "kl_per_latent"}
    for name in numbers:
        assert solo.summary["members"][0][name] == second.summary["members"][0][name], name


@pytest.mark.slow
def test_rows_beyond_the_checkpoint_and_a_torn_line_are_cut(solo, extended, tmp_path, monkeypatch):
    """As a kill leaves them that came after the rows were written and before the checkpoint was."""
    directory = tmp_path / "run"
    shutil.copytree(extended[2], directory)
    lines = (solo.directory / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert (directory / "metrics.jsonl").read_text() == "".join(lines[:2])
    beyond = {name: value for name, value in json.loads(lines[2]).items() if name != "crc32"} | {"elbo": [7.0]}
    checksum = zlib.crc32(json.dumps(beyond).encode())
    beyond_line = json.dumps(beyond | {"crc32": f"{checksum:08x}"}) + "\n"
    (directory / "metrics.jsonl").write_text("".join(lines[:2]) + beyond_line + lines[3][:20])
    with (directory / "timings.jsonl").open("a") as file:
        file.write('{"step": 17, "steps": 5, "seconds": 1.0, "time"')
    monkeypatch.setattr(lifecycle, "summarize", lambda *args: solo.summary)
    train(directory, "--steps=20")
    assert (directory / "metrics.jsonl").read_bytes() == (solo.directory / "metrics.jsonl").read_bytes()
    timings = [json.loads(line) for line in (directory / "timings.jsonl").read_text().splitlines()]
    assert sum(row["steps"] for row in timings) == timings[-1]["step"] == 20


@pytest.mark.slow
def test_a_changed_evaluation_is_done_again_alone(solo, extended, tmp_path):
    before = extended[1].summary
    directory = copied(extended[1], tmp_path / "run")
    after = train(directory, "--steps=20", "--eval_samples=8", "--eval_split=validation", "--show=sample", figures=True)
    assert_same_arrays(extended[1].directory, directory)
    assert (
        after.summary["evaluation"]["importance_samples"] == 8 and after.summary["evaluation"]["split"] == "validation"
    )
    assert after.summary["evaluation"]["figures"] == "sample"
    assert after.summary["members"][0]["elbo"] != before["members"][0]["elbo"]
    for name in ("compile_seconds", "steps_per_second", "step_traces"):
        assert after.summary[name] == before[name]
    assert {path.stem for path in (directory / "figures").glob("*.png")} == FIGURES
    samples, means = (matplotlib.image.imread(run / "figures" / "samples.png") for run in (directory, solo.directory))
    assert samples.shape == means.shape and np.std(samples) > np.std(means)  # draws are noisier than means
    mean = train(directory, "--steps=20", "--eval_samples=8", "--eval_split=validation")  # figures are there already
    assert "is finished" in mean.out


@pytest.mark.slow
def test_rows_are_means_over_the_steps_since_the_last_one(extended, tmp_path, monkeypatch):
    """Also where a run goes on with another --log_every: rows of 5 up to 10, then one of steps 11 to 16."""
    monkeypatch.setattr(lifecycle, "summarize", lambda *args: extended[0].summary)
    directory = tmp_path / "run"
    shutil.copytree(extended[2], directory)
    done = train(directory, "--steps=16", "--log_every=8")
    assert [row["step"] for row in done.rows] == [5, 10, 16]
    fine = [row["elbo"][0] for row in train(tmp_path / "fine", "--steps=16", "--log_every=1").rows]
    for row, window in zip(done.rows, (fine[:5], fine[5:10], fine[10:]), strict=True):
        assert row["elbo"][0] == pytest.approx(np.mean(window), rel=1e-6)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": 20}', "\x00", '{"steps": "20", "evaluation": {}}'])
def test_a_damaged_summary_is_none(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    assert finished_summary(tmp_path / "summary.json") is None
    assert finished_summary(tmp_path / "missing.json") is None


def test_a_missing_summary_is_written_anew(solo, tmp_path, monkeypatch):
    assert finished_summary(solo.directory / "summary.json") == solo.summary
    directory = copied(solo, tmp_path / "run")
    (directory / "summary.json").unlink()
    monkeypatch.setattr(lifecycle, "summarize", lambda *args: solo.summary)  # that it is asked for is what counts
    done = train(directory, "--steps=20")
    assert "is finished" not in done.out and done.summary == solo.summary
    assert_same_arrays(solo.directory, directory)


def test_a_stopped_run_is_never_taken_for_a_shorter_one(solo, tmp_path):
    directory = copied(solo, tmp_path / "run")
    (directory / "summary.json").unlink()
    done = vaex(directory, "--steps=10")
    assert done.code == 2 and "trained to step 20 already" in done.err
    assert not (directory / "summary.json").exists()


@pytest.mark.slow
def test_a_run_without_its_checkpoints_starts_again_and_says_so(solo, tmp_path):
    directory = copied(solo, tmp_path / "run")
    shutil.rmtree(directory / "checkpoints")
    (directory / "summary.json").unlink()
    done = train(directory, "--steps=20")
    assert "holds no checkpoint: starting again at step 0" in done.out
    assert_same_arrays(solo.directory, directory)
    assert (solo.directory / "metrics.jsonl").read_bytes() == (directory / "metrics.jsonl").read_bytes()


# --- another configuration, and starting again --------------------------------------------------------------------


def test_a_changed_configuration_is_refused_by_its_names(solo, untrained):
    done = vaex(solo.directory, "--steps=20", "--beta=3", "--seeds=1", "--activation=tanh")
    assert done.code == 2 and done.err.count("\n") == 1
    assert "activation: relu -> tanh; seeds: 0 -> 1; beta: 2 -> 3." in done.err and "--overwrite" in done.err
    assert "learning_rate" not in done.err


@pytest.mark.slow
def test_overwrite_starts_again_and_removes_only_what_a_run_wrote(solo, tmp_path):
    directory = copied(solo, tmp_path / "run")
    (directory / "notes.txt").write_text("mine")
    figures, beside = directory / "figures", tmp_path / "beside"
    (figures / "mine.png").write_bytes(b"mine")
    (figures / "old member").mkdir()
    (figures / "old member" / "samples.png").write_bytes(b"")
    beside.mkdir()
    for place in (beside, figures / "gone"):  # through links or upwards, nothing is reached
        place.mkdir(exist_ok=True)
        (place / "samples.png").write_bytes(b"mine")
    (figures / "linked").symlink_to(beside)
    names = ["old member/samples.png", "linked/samples.png", "../../beside/samples.png"]
    drawn = json.loads((figures / "drawn.json").read_text())
    assert {pathlib.Path(name).stem for name in drawn} == FIGURES
    (figures / "drawn.json").write_text(json.dumps([*drawn, *names]))
    done = train(directory, "--steps=5", "--beta=3", "--overwrite")
    assert done.summary["steps"] == 5 and [row["step"] for row in done.rows] == [5]
    assert stored(directory)[0] == 5
    assert sorted(path.name for path in figures.iterdir()) == ["gone", "linked", "mine.png"]
    assert (beside / "samples.png").read_bytes() == b"mine"
    assert (directory / "notes.txt").read_text() == "mine"


def test_linked_figures_and_checkpoints_of_another_program_are_left_alone(solo, tmp_path, untrained):
    foreign, linked = tmp_path / "foreign", tmp_path / "linked"
    (foreign / "checkpoints" / "5").mkdir(parents=True)
    (foreign / "config.json").write_text("{ not JSON")
    done = vaex(foreign, "--overwrite")
    assert done.code == 2 and "not that of a run" in done.err and (foreign / "checkpoints" / "5").is_dir()
    (linked / "figures").mkdir(parents=True)
    (linked / "figures" / "a.png").write_bytes(b"")
    (linked / "figures" / "drawn.json").write_text('["a.png"]')
    (foreign / "figures").symlink_to(linked / "figures")
    shutil.copy(solo.directory / "config.json", foreign)
    clear(foreign)
    assert (linked / "figures" / "a.png").exists() and (foreign / "figures").is_symlink()
    assert not (foreign / "config.json").exists()


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_a_directory_of_another_kind_is_left_alone(tmp_path, untrained, flags):
    """Neither one without config.json nor one whose config.json is another program's; not even with --overwrite."""
    for name, text in (
        ("paper.tex", "x"),
        ("config.json", '{"architectures": ["other"]}'),
        ("config.json", "// other {"),
    ):
        directory = tmp_path / name / str(len(text))
        (directory / "figures").mkdir(parents=True)
        (directory / "figures" / "plot.png").write_bytes(b"")
        (directory / "weights.bin").write_bytes(b"")
        (directory / name).write_text(text)
        before = sorted(directory.rglob("*"))
        done = vaex(directory, *flags)
        assert done.code == 2 and done.err.count("\n") == 1
        assert "choose another directory" in done.err or ("cannot be read" in done.err and not flags)
        assert sorted(directory.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "{", "\x00\x01", "[1, 2]", "3"])
def test_a_damaged_config_is_refused(solo, tmp_path, untrained, text):
    directory = copied(solo, tmp_path / "run")
    (directory / "config.json").write_text(text)
    done = vaex(directory, "--steps=20")
    assert done.code == 2 and done.err.count("\n") == 1 and "config.json" in done.err


@pytest.mark.slow
def test_overwrite_mends_a_damaged_config(solo, tmp_path):
    directory = copied(solo, tmp_path / "run")
    (directory / "config.json").write_text("{")
    assert train(directory, "--steps=5", "--overwrite").summary["steps"] == 5


def test_data_that_changed_between_runs_is_refused(tmp_path, untrained, monkeypatch):
    path = tmp_path / "my data.npz"
    np.savez(path, x=np.linspace(0, 1, 640, dtype=np.float32).reshape(10, 8, 8))

    def configured(experiment, **others):
        experiment.store.write_config(config_content(experiment.settings, experiment.spec, "solo", str(path)))
        raise KeyboardInterrupt

    monkeypatch.setattr(lifecycle, "train", configured)
    flags = (f"--dataset={path}", "--steps=5")
    assert vaex(tmp_path / "run", *flags).code == 130
    np.savez(path, x=np.linspace(0, 0.9, 640, dtype=np.float32).reshape(10, 8, 8))
    done = vaex(tmp_path / "run", *flags)
    assert done.code == 2 and "data: " in done.err and "beta" not in done.err.replace("beta_vae", "")


# --- populations --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_population_is_one_run_with_a_table(population):
    summary = population.summary
    assert summary["step_traces"] == 1 and len(summary["members"]) == 4
    assert [(m["hparams"]["beta"], m["seed"]) for m in summary["members"]] == [("1", 0), ("1", 1), ("2", 0), ("2", 1)]
    assert [(record["beta"], record["seeds"]) for record in summary["results"]] == [("1", 2), ("2", 2)]
    for record, pair in zip(summary["results"], (summary["members"][:2], summary["members"][2:]), strict=True):
        elbos = [member["elbo"] for member in pair]
        assert record["elbo"]["mean"] == pytest.approx(np.mean(elbos))
        assert record["elbo"]["standard_error"] == pytest.approx(np.std(elbos, ddof=1) / np.sqrt(2))
    assert all(len(row["elbo"]) == 4 for row in population.rows)
    [header, *lines] = [line.split() for line in population.out.splitlines()[3:10]]
    assert header[:3] == ["beta", "seed", "elbo"]
    assert [line[:2] for line in lines] == [[beta, seed] for beta in "12" for seed in ("0", "1", "mean")]
    error = population.summary["members"][0]["elbo_standard_error"]
    assert lines[0][3:5] == ["±", f"{error:.2g}"] and all("±" in line for line in lines)
    pair = summary["results"][0]["elbo"]
    assert lines[2][2:5] == [f"{pair['mean']:.4g}", "±", f"{pair['standard_error']:.2g}"]


@pytest.mark.slow
@pytest.mark.optimised
def test_a_member_equals_its_solo_run(tmp_path):
    """Member 2 is beta 2, seed 0. Its noise and start are its own; the batches are everyone's."""
    solo, population = (train(tmp_path / name, *flags) for name, flags in (("solo", SOLO), ("population", POPULATION)))
    assert_same_arrays(population.directory, solo.directory, member=2)
    for row, expected in zip(population.rows, solo.rows, strict=True):
        assert {name: row[name][2:3] for name in row if name != "step"} == {
            key: expected[key] for key in expected if key != "step"
        }
    for name in ("elbo", "kl", "log_likelihood", "active_units"):
        assert population.summary["members"][2][name] == solo.summary["members"][0][name]


@pytest.mark.slow
def test_a_strategy_may_not_change_when_a_population_goes_on(population):
    done = vaex(
        population.directory, "--steps=30", "--beta=1,2", "--seeds=0:2", "--population_strategy=vmap", "--no-figures"
    )
    assert done.code == 2 and "began as members" in done.err and "leave the flag out" in done.err


# --- other models, likelihoods and data ---------------------------------------------------------------------------


@pytest.mark.slow
def test_an_autoencoder_claims_no_bound(tmp_path):
    done = train(tmp_path / "run", "--steps=5", model="autoencoder", figures=True)
    [member] = done.summary["members"]
    assert member["log_likelihood"] is None and "elbo" not in member and "bits_per_dimension" not in member
    assert np.isfinite(member["reconstruction"]) and "importance-weighted" not in done.out
    assert {"reconstructions", "samples", "manifold"} <= {
        path.stem for path in (done.directory / "figures").glob("*.png")
    }


@pytest.mark.slow
def test_bernoulli_on_grey_values_is_a_cross_entropy(tmp_path):
    done = train(tmp_path / "run", "--steps=5", "--binarize=none", "--likelihood=bernoulli")
    [member] = done.summary["members"]
    assert "cross-entropy" in done.summary["likelihood"] and "cross-entropy" in done.out
    assert member["log_likelihood"] is None and "bits_per_dimension" not in member and "elbo" not in member
    assert member["cross_entropy"] > 0 and "cross_entropy" in done.rows[0] and "elbo" not in done.rows[0]


@pytest.mark.slow
def test_vectors_of_real_numbers(tmp_path):
    np.savez(tmp_path / "wine.npz", x=np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32) * 3)
    flags = (f"--dataset={tmp_path / 'wine.npz'}", "--epochs=2", "--log_every=1")
    done = train(tmp_path / "run", *flags, "--likelihood_scale=fixed", figures=True)
    [member] = done.summary["members"]
    assert done.summary["batch_size"] == 48 and done.summary["steps"] == 2  # a batch no larger than the training data
    assert done.summary["likelihood"] == "gaussian, fixed scale" and "bits_per_dimension" not in member
    assert np.isfinite(member["log_likelihood"]) and "knn_label_agreement" not in member
    assert (done.directory / "figures" / "reconstructions.png").exists()
    assert not (done.directory / "figures" / "samples.png").exists()


@pytest.mark.slow
def test_three_examples_without_labels(tmp_path):
    """One to test on: what takes two, or labels, is left out."""
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "few.npz", x=x, y=np.full(3, -1))
    done = train(tmp_path / "run", f"--dataset={tmp_path / 'few.npz'}", "--steps=2")
    [member] = done.summary["members"]
    assert done.summary["batch_size"] == 1 and np.isfinite(member["elbo"])
    assert (
        member["elbo_standard_error"] is None and member["active_units"] is None and "knn_label_agreement" not in member
    )


# --- what stops a run ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_step_member_and_term(tmp_path):
    flags = ("--learning_rate=1e30", "--optimizer=sgd", "--checkpoint_every=1")
    done = vaex(tmp_path / "run", "--steps=20", *flags)
    assert done.code == 3 and done.err.count("vaex: ") == 1 and "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert "member 0 at step" in last and "--learning_rate" in last
    step, arrays = stored(tmp_path / "run")
    assert f"the checkpoint of step {step} is kept" in last
    assert all(np.isfinite(values).all() for name, values in arrays.items() if "variables" in name)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_an_interrupt_is_reported_in_one_line(tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(lifecycle, "train", interrupted)
    done = vaex(tmp_path / "run")
    assert done.code == 130 and done.err == "vaex: interrupted; the same command continues from the last checkpoint\n"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device", "x"), "No space left on device"),
        (MemoryError("64 GiB"), "--batch_size"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore"), "--batch_size"),
    ],
)
def test_a_full_disk_or_memory_is_reported_in_one_line(tmp_path, monkeypatch, error, says):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(lifecycle, "train", fails)
    done = vaex(tmp_path / "run")
    assert done.code == 2 and done.err.count("\n") == 1 and says in done.err


def test_a_defect_is_not_hidden(tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(lifecycle, "train", fails)
    with pytest.raises(RuntimeError, match="a bug"):
        vaex(tmp_path / "run")


def test_a_directory_serves_one_process_at_a_time(solo, untrained):
    code = (
        "import pathlib, sys, time; from vaex.files import held\n"
        "with held(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(solo.directory)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        done = vaex(solo.directory, "--steps=20", "--overwrite")
        assert done.code == 2 and "another process is at work there" in done.err
        assert (solo.directory / "summary.json").exists()
    finally:
        other.kill()
        other.communicate()
    assert "is finished" in vaex(solo.directory, "--steps=20").out


@pytest.mark.slow
def test_what_killed_writes_left_is_swept(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.atomic_path(tmp_path / "summary.json") as temporary:
        temporary.write_text("half")
        kept = temporary.with_name("." + temporary.name)
        shutil.copy(temporary, kept)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]  # as after kill -9
    (tmp_path / ".mine").write_text("")
    with files.held(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".mine"]


@pytest.mark.slow
def test_results_survive_a_terminal_that_knows_no_unicode(solo):
    """The table's plus-minus and an accent in the path must not end a finished run in a traceback."""
    quick = [f"--{name}={value}" for name, value in QUICK.items()]
    done = subprocess.run(
        [sys.executable, "experiments/run.py", "--model=beta_vae", f"--out={solo.directory}", *quick, "--steps=20"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "XLA_FLAGS": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "is finished" in done.stdout and "\\xfc" in done.stdout, done.stderr


@pytest.mark.slow
def test_cached_programs_change_no_number(tmp_path):
    """A run stopped at half, and gone on by programs from the cache, equals one that compiled everything."""
    fresh = train(tmp_path / "fresh", "--steps=20", "--compile_cache=off")
    kept = f"--compile_cache={tmp_path / 'programs'}"
    train(tmp_path / "first", "--steps=20", kept)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "programs").glob("*-cache")}
    train(tmp_path / "cut", "--steps=10", kept)
    cut = train(tmp_path / "cut", "--steps=20", kept)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # they were loaded
    assert cut.rows == fresh.rows and cut.summary["members"] == fresh.summary["members"]
    assert_same_arrays(fresh.directory, cut.directory)
    assert "compile_cache" not in (tmp_path / "cut" / "config.json").read_text()


def test_the_version_is_printed_also_where_the_extra_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)  # what an import of a missing package finds
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vaex {__version__}\n"
