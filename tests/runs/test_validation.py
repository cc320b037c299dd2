"""Validation during training: its rows, the best state of each member, early stopping, and resuming all of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaex
from vaex.errors import UserError
from vaex.evaluation.training_curves import training_curves
from vaex.runs import summary
from vaex.runs.validation import Best
from vaex.schedules import ramp
from vaex.training.step import averaged_variables

X = np.random.default_rng(0).integers(0, 17, (60, 8, 8), np.uint8)
QUICK = {"hidden": (8,), "latent_dim": 2, "log_every": 5, "devices": 1, "progress": False}


def validation(run, name="elbo"):
    return {row["step"]: row[f"validation_{name}"] for row in run.rows() if f"validation_{name}" in row}


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_equal(first, second):
    for left, right in zip(leaves(first), leaves(second), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.slow
def test_rows_are_the_objective_on_the_validation_split():
    """An autoencoder's objective draws nothing, so its value is known; the test split is another one."""
    splits = {"x": X, "x_validation": X[:23], "x_test": np.zeros_like(X[:9])}
    run = vaex.train("autoencoder", splits, likelihood="gaussian", steps=6, validate_every=3, seeds=range(2), **QUICK)
    assert list(validation(run, "reconstruction")) == [3, 6]
    spec = run.spec
    batch = {"x": vaex.data.intensities(spec, X[:23, ..., None])}
    for index, model in enumerate(run):
        objective = run.recipe.model.objective
        metrics = objective(jax.random.key(0), model.variables, model.hparams, batch, train=False).metrics
        expected = float(jnp.mean(metrics["reconstruction"]))
        assert validation(run, "reconstruction")[6][index] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.optimised
def test_validation_changes_no_bit_of_training():
    plain = vaex.train("vae", X, steps=12, **QUICK)
    run = vaex.train("vae", X, steps=12, validate_every=4, **QUICK)
    assert_equal(plain.state.variables, run.state.variables)
    assert plain.rows() == [row for row in run.rows() if "elbo" in row]
    assert list(validation(run)) == [4, 8, 12]


def too_fast(steps=40, **options):
    """A run whose members diverge at different steps, so that their best is not their last."""
    return vaex.train(
        "vae",
        X,
        steps=steps,
        validate_every=4,
        learning_rate=[0.05, 0.2],
        optimizer="sgd",
        keep="best:elbo",
        population_strategy="members",  # each equals its solo run bit for bit
        **options,
        **QUICK,
    )


@pytest.mark.slow
@pytest.mark.optimised
def test_each_member_ends_as_it_was_where_it_was_best():
    run = too_fast()
    scores = np.array(list(validation(run).values()))
    best = np.array(list(validation(run)))[np.argmax(scores, axis=0)]
    assert np.asarray(run.state.step).tolist() == best.tolist()
    for index, step in enumerate(best):
        rate = float(run.settings.members[index].hparams.learning_rate)
        alone = vaex.train("vae", X, steps=int(step), learning_rate=rate, optimizer="sgd", **QUICK)
        for left, right in zip(leaves(averaged_variables(alone.state)), leaves(run[index].variables), strict=True):
            np.testing.assert_array_equal(left[0], right)


@pytest.mark.slow
@pytest.mark.optimised
def test_a_stopped_run_goes_on_to_the_same_best(tmp_path):
    straight = too_fast()
    half = too_fast(steps=10, out=tmp_path / "run")
    assert half.step <= 8 or 10 in validation(half)
    resumed = too_fast(out=tmp_path / "run")
    ignored = [
        row for row in resumed.rows() if row["step"] == 10 and "validation_elbo" in row
    ]  # the end of the first part
    assert [row for row in resumed.rows() if row not in ignored] == straight.rows()
    assert_equal(straight.state.variables, resumed.state.variables)
    assert_equal(straight.state.opt_state, resumed.state.opt_state)
    loaded = vaex.load(tmp_path / "run")
    assert_equal(straight.state.variables, loaded.state.variables)
    saved = straight.save(tmp_path / "saved")
    assert_equal(straight.state.variables, vaex.load(saved).state.variables)
    too_fast(steps=10, out=tmp_path / "other")
    continued = vaex.load(tmp_path / "other").continue_to(40, X, progress=False)
    assert_equal(straight.state.variables, continued.state.variables)
    with pytest.raises(UserError, match="began with --keep=best:elbo"):
        vaex.train("vae", X, steps=50, learning_rate=[0.05, 0.2], optimizer="sgd", out=tmp_path / "run", **QUICK)


@pytest.mark.slow
def test_the_best_is_evaluated_with_hyperparameters_as_they_were_there(monkeypatch):
    scheduled = {"beta": ramp(0.0, 40.0, 40), "learning_rate": 0.05, "optimizer": "sgd"}
    run = vaex.train("beta_vae", X, steps=40, validate_every=4, keep="best:elbo", **scheduled, **QUICK)
    assert run.step < 40 and float(run.hparams.beta) == run.step
    betas = []

    class Recorded(summary.MemberEvaluation):
        def __init__(self, evaluator, variables, hparams, progress):
            betas.append(float(hparams.beta))
            super().__init__(evaluator, variables, hparams, progress)

    monkeypatch.setattr(summary, "MemberEvaluation", Recorded)
    run.evaluate(eval_samples=2, progress=False)
    assert betas == [run.step]


@pytest.mark.slow
def test_patience_ends_the_run(capsys):
    options = QUICK | {"progress": True}
    run = vaex.train("vae", X, steps=4000, validate_every=5, learning_rate=0.0, keep="best:elbo", patience=3, **options)
    shown = capsys.readouterr().err
    assert list(validation(run, "kl")) == [5, 10, 15, 20] and run.step == 5
    assert "stopped early at step 20: validation elbo has not improved since step 5" in shown


def test_the_best_of_each_member_and_when_patience_ends():
    best = Best("elbo", 2, checkpoints=None)
    state = {"w": jnp.array([1.0, 10.0])}
    outcomes = []
    for step, values in enumerate([[-3.0, -3.0], [-2.0, -4.0], [np.nan, -2.5], [-2.0, -9.0], [-5.0, -3.0]], start=1):
        now = {"w": state["w"] * step}
        outcomes.append((best.update(step, {"elbo": np.array(values)}, now), best.exhausted))
    assert outcomes == [(True, False), (True, False), (True, False), (False, False), (False, True)]
    assert best.steps == [2, 3] and best.state["w"].tolist() == [2.0, 30.0]
    smaller = Best("reconstruction", None, checkpoints=None)
    assert smaller.update(1, {"reconstruction": np.array([3.0])}, state)
    assert not smaller.update(2, {"reconstruction": np.array([4.0])}, state) and smaller.steps == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "best:elbo"}, "needs --validate_every"),
        ({"keep": "elbo", "validate_every": 5}, "expected best:METRIC"),
        ({"patience": 3}, "needs --keep"),
        ({"keep": "best:elbo", "validate_every": 9}, "no best to keep"),
        ({"keep": "best:fid", "validate_every": 1}, "no such metric; it has elbo"),
    ],
)
def test_what_cannot_be_chosen_by(options, message):
    with pytest.raises(UserError, match=message):
        vaex.train("vae", X, steps=2, **options, **QUICK)


def test_training_curves_mark_the_validation_split():
    rows = [{"step": 5, "elbo": [-9.0]}, {"step": 8, "validation_elbo": [-8.5]}, {"step": 10, "elbo": [-8.0]}]
    panels = training_curves(rows)
    assert list(panels) == ["elbo"] and "validation" in panels["elbo"].title
    assert panels["elbo"].lines["member 0"].tolist() == [-9.0, -8.0]
    at, values = panels["elbo"].marks["member 0"]
    assert at.tolist() == [8.0] and values.tolist() == [-8.5]
