"""Hyperparameters that change where a run continues."""

import jax
import numpy as np
import pytest

import vaex
from vaex.errors import UserError
from vaex.files import read_json
from vaex.schedules import ramp
from vaex.training import loop

X = np.random.default_rng(0).integers(0, 17, (60, 8, 8), np.uint8)
QUICK = {"hidden": (8,), "latent_dim": 2, "log_every": 5, "devices": 1, "progress": False}


def leaves(run):
    return [np.asarray(leaf) for leaf in jax.tree.leaves((run.state.variables, run.state.opt_state, run.state.hparams))]


def assert_equal(first, second):
    for left, right in zip(leaves(first), leaves(second), strict=True):
        np.testing.assert_array_equal(left, right)


def train(steps, **options):
    return vaex.train("beta_vae", X, beta=[1, 4], steps=steps, **QUICK, **options)


@pytest.fixture(scope="module")
def changed():
    """Five steps, then a change, which ends plain descent at once: the parameters stand still from there on."""
    half = train(5, optimizer="sgd")
    return half, half.continue_to(10, change={"learning_rate": 0.0, "beta": ramp(0.0, 2.0, 100)}, progress=False)


def test_a_change_takes_effect_from_where_the_run_goes_on(changed):
    half, whole = changed
    for left, right in zip(jax.tree.leaves(half.state.variables), jax.tree.leaves(whole.state.variables), strict=True):
        np.testing.assert_array_equal(left, right)
    assert whole.step == 10 and [row["step"] for row in whole.rows()] == [5, 10]
    assert [float(member.hparams.beta) for member in whole] == pytest.approx([0.2, 0.2])


@pytest.mark.slow
def test_the_changed_run_goes_on_with_its_changes(changed):
    _, whole = changed
    again = whole.continue_to(12, change="learning_rate=0", progress=False)
    assert [record["step"] for record in again._store.read_config()["changes"]] == [5]
    on = again.continue_to(15, change={"learning_rate": 1e-3}, progress=False)
    assert [record["step"] for record in on._store.read_config()["changes"]] == [5, 12]
    with pytest.raises(UserError, match="trained to its end; give more --steps"):
        on.continue_to(15, change={"learning_rate": 0.5}, progress=False)


@pytest.mark.slow
@pytest.mark.optimised
def test_a_changed_run_resumes_to_the_bit(tmp_path):
    flags = {"out": tmp_path / "run"}
    train(5, **flags)
    train(8, change={"learning_rate": 0.01}, **flags)
    resumed = train(12, **flags)  # as it began: what has changed stays
    straight = train(5).continue_to(12, change={"learning_rate": 0.01}, progress=False)
    assert_equal(straight, resumed)
    assert straight.rows() == resumed.rows()
    assert_equal(resumed, vaex.load(tmp_path / "run"))
    changes = read_json(tmp_path / "run" / "config.json")["changes"]
    assert changes == [{"stage": "model", "step": 5, "hparams": {"learning_rate": 0.01}}]
    assert not np.array_equal(leaves(train(12))[0], leaves(resumed)[0])
    with pytest.raises(UserError, match=r"learning_rate: 0.001 -> 0.01"):
        train(14, learning_rate=0.01, **flags)


@pytest.mark.slow
@pytest.mark.optimised
def test_a_change_is_made_again_where_the_process_ended_right_after_recording_it(tmp_path, monkeypatch):
    train(5, out=tmp_path / "run")
    with monkeypatch.context() as broken, pytest.raises(RuntimeError, match="killed"):

        def killed(*args, **kwargs):
            raise RuntimeError("killed")

        broken.setattr(loop, "fit", killed)
        train(8, out=tmp_path / "run", change="learning_rate=0.01")
    resumed = train(8, out=tmp_path / "run")
    assert_equal(train(5).continue_to(8, change={"learning_rate": 0.01}, progress=False), resumed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dim": 3}, "latent_dim is an option, .* begin a new run with --init_from=RUN --latent_dim=3"),
        ({"learning_rat": 3}, "expected HYPERPARAMETER=VALUE; did you mean learning_rate"),
        ("learning_rate", "expected HYPERPARAMETER=VALUE"),
        ({"learning_rate": -1.0}, "expected values of at least 0"),
        ("beta=1,2", "expected one value, which all members get"),
        (
            {"clip_norm": 1.0},
            "clip_norm: from off to a schedule takes another program; begin a new run with --init_from",
        ),
    ],
)
def test_what_cannot_change_is_refused_in_one_line(changed, change, message):
    with pytest.raises(UserError, match=message) as raised:
        changed[0].continue_to(20, change=change, progress=False)
    assert "\n" not in str(raised.value)


def test_a_run_that_has_not_begun_cannot_change():
    with pytest.raises(UserError, match="has not begun; give --beta=2"):
        train(5, change={"beta": 2})
