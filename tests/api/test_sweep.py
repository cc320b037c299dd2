"""Options with several values: a run for each combination, resumed one by one, and compared."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from helpers.command import parse
from helpers.trained_runs import vaex as command

import vaex
from vaex.api.arguments import choices_of
from vaex.api.sweep import Sweep
from vaex.cli.parse import parse_all
from vaex.errors import UserError
from vaex.plots import draw
from vaex.results import side_by_side


def test_a_command_line_makes_a_run_of_each_combination():
    asked = parse_all(["--model=beta_vae", "--latent_dim=2,10", "--hidden=512x512,256", "--beta=1,4", "--out=runs/a"])
    assert asked.out == "runs/a"
    assert list(asked.runs) == [f"latent_dim={d}_hidden={h}" for d in (2, 10) for h in ("512x512", "256")]
    for name, settings in asked.runs.items():
        assert settings.run.out == f"runs/a/{name}" and len(settings.members) == 2
    config = asked.runs["latent_dim=10_hidden=512x512"].config
    assert config.latent_dim == 10 and config.hidden == (512, 512)


def test_options_that_are_lists_or_free_texts_stay_one_value():
    settings = parse(["--model=beta_vae", "--hidden=512x512"])
    assert settings.config.hidden == (512, 512)
    assert parse(["--model=hierarchical_vae", "--blocks=8x2,4x2"]).config.blocks == "8x2,4x2"
    assert [choice.values for choice in choices_of("beta_vae", {"hidden": [512, 512]})] == [{}]
    assert [choice.values for choice in choices_of("beta_vae", {"hidden": np.array([512, 512])})] == [{}]
    choices = choices_of("beta_vae", {"hidden": [(512, 512), [256]], "network": ["mlp", "conv"], "beta": [1, 4]})
    assert [choice.name for choice in choices] == [
        f"hidden={hidden}_network={network}" for hidden in ("512x512", "256") for network in ("mlp", "conv")
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--latent_dim=2,02",), "--latent_dim=2,2: a value stands twice"),
        (("--latent_dim=2,x",), "--latent_dim=x: expected a whole number"),
        (("--latent_dim=2,",), "--latent_dim=: expected a whole number"),
        (("--latent_dim=2,0",), "--latent_dim=0: expected at least 1"),
        (("--steps=10,20",), "--steps=10,20: expected a whole number; only hyperparameters"),
        (("--latent_dim=2,3", "--coordinator_address=a:1"), "several processes train one run"),
        (("--latent_dim=2,3", "--distributed"), "several processes train one run"),
    ],
)
def test_invalid_choices_are_refused_before_anything_runs(flags, message):
    with pytest.raises(UserError, match=message):
        parse_all(["--model=beta_vae", *flags])


def summary(beta_elbos, **changes):
    """A summary of two values of beta, with means and standard errors."""
    members = [{"hparams": {"beta": str(beta)}} for beta in beta_elbos]
    results = [
        {"beta": str(beta), "seeds": 3, "elbo": {"mean": mean, "standard_error": error}}
        for beta, (mean, error) in beta_elbos.items()
    ]
    shared = {"dataset": "digits", "protocol": "p", "likelihood": "bernoulli", "steps": 5, "batch_size": 8}
    evaluation = {"split": "test", "importance_samples": 5, "log_likelihood_examples": 9}
    return {**shared, "evaluation": evaluation, "results": results, "members": members, **changes}


SUMMARIES = {
    "runs/a": summary({1: (-90.0, 0.5), 4: (-95.0, None)}, options={"latent_dim": 2}),
    "runs/b": summary({1: (-80.0, 0.25)}, options={"latent_dim": 10}),
    "runs/c": summary({1: (-3.0, 0.1)}, options={"latent_dim": 10}, likelihood="gaussian"),
}


def test_csv_names_what_differs_and_holds_all_numbers():
    rows = list(csv.DictReader(io.StringIO(side_by_side.as_csv(SUMMARIES))))
    columns = ("run", "likelihood", "latent_dim", "beta", "seeds", "elbo", "elbo_standard_error")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        ("runs/a", "bernoulli", "2", "1", "3", "-90.0", "0.5"),
        ("runs/a", "bernoulli", "2", "4", "3", "-95.0", ""),
        ("runs/b", "bernoulli", "10", "1", "3", "-80.0", "0.25"),
        ("runs/c", "gaussian", "10", "1", "3", "-3.0", "0.1"),
    ]
    assert "batch_size" not in rows[0]  # all rows have the same


def test_bars_have_errors_over_seeds_and_a_panel_for_each_likelihood():
    first, second = side_by_side.bars(SUMMARIES)
    assert list(first.heights) == [-90.0, -95.0, -80.0] and list(first.errors) == [0.5, 0.0, 0.25]
    assert set(first.labels) == {"beta=1\nlatent_dim=2", "beta=4\nlatent_dim=2", "beta=1\nlatent_dim=10"}
    assert list(second.heights) == [-3.0]
    (axes, _) = draw([first, second]).axes
    segments = [line for collection in axes.collections for line in collection.get_segments()]
    lengths = sorted(float(np.ptp(segment[:, 1])) for segment in segments)
    np.testing.assert_allclose(lengths, [0.5, 1.0])  # twice the error, and none for a single seed
    with pytest.raises(UserError, match="no run has the metric 'elb'; did you mean elbo"):
        side_by_side.bars(SUMMARIES, "elb")


FLAGS = (
    "--model=beta_vae",
    "--latent_dim=2,3",
    "--seeds=0,1",
    "--steps=6",
    "--log_every=3",
    "--no-figures",
    "--eval_samples=2",
)


@pytest.mark.slow
def test_a_sweep_that_stopped_goes_on_with_what_lacks_and_gives_the_same_numbers(tmp_path):
    out = tmp_path / "whole"
    ended = command(out, *FLAGS)
    assert ended.code == 0, ended.err
    folders = [out / "latent_dim=2", out / "latent_dim=3"]
    assert sorted(path.name for path in out.iterdir()) == ["comparison.csv", "latent_dim=2", "latent_dim=3"]
    table = ended.out.split("run 2 of 2")[1]
    assert "differs" in table and "latent_dim=2" in table.split("differs")[1]
    before = {folder: (folder / "metrics.jsonl").read_text() for folder in folders}
    stamp = (folders[0] / "summary.json").stat().st_mtime_ns
    comparison = (out / "comparison.csv").read_text()
    shutil.rmtree(folders[1])
    again = command(out, *FLAGS)
    assert again.code == 0, again.err
    assert f"{folders[0]} is finished at step 6" in again.out
    assert (folders[0] / "summary.json").stat().st_mtime_ns == stamp
    assert {folder: (folder / "metrics.jsonl").read_text() for folder in folders} == before
    assert (out / "comparison.csv").read_text() == comparison
    # a run of the sweep is the run of that value alone
    alone = command(tmp_path / "alone", *FLAGS[:1], "--latent_dim=3", *FLAGS[2:])
    assert alone.code == 0 and (tmp_path / "alone" / "metrics.jsonl").read_text() == before[folders[1]]
    assert json.loads((folders[1] / "config.json").read_text())["identity"]["config"]["latent_dim"] == 3


@pytest.mark.slow
def test_train_returns_a_sweep(tmp_path):
    x = np.random.default_rng(0).random((60, 6)).astype(np.float32)
    options = {"hidden": (8,), "steps": 3, "eval_samples": 2, "progress": False}
    sweep = vaex.train("vae", x, latent_dim=[1, 2], batch_size=8, out=tmp_path, **options)
    assert isinstance(sweep, Sweep) and sweep.names == ["latent_dim=1", "latent_dim=2"] and len(sweep) == 2
    assert [run.latent_shape for run in sweep] == [(1,), (2,)]
    assert vaex.load(tmp_path / "latent_dim=2").latent_shape == (2,)
    table = sweep.table()
    assert "paired" in table and all(name in table for name in sweep.names)
    assert sweep.save_csv(tmp_path / "all.csv").read_text().count("\n") == 3
    assert len(sweep.figure().axes) == 1
    with pytest.raises(KeyError, match="there are latent_dim=1, latent_dim=2"):
        sweep["latent_dim=3"]
    sizes = vaex.train("vae", x, latent_dim=1, batch_size=[8, 16], **options)
    assert [run.settings.run.batch_size for run in sizes] == [8, 16]
    assert [run.directory for run in sizes] == [None, None] and "batch_size=16" in sizes.table()
