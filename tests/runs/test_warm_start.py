"""Runs that begin with the parameters of another one, and parts that are frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.checkpoints import assert_same_arrays
from helpers.trained_runs import TWO_MEMBERS
from helpers.trained_runs import vaex as command

import vaex
from vaex import models
from vaex.errors import UserError
from vaex.files import read_json
from vaex.runs import warm_start
from vaex.training import loop
from vaex.training.parts import variable_names
from vaex.training.step import averaged_variables

X = np.random.default_rng(0).integers(0, 17, (60, 8, 8), np.uint8)
OTHER = np.random.default_rng(1).integers(0, 17, (50, 8, 8), np.uint8)
QUICK = {"hidden": (8,), "latent_dim": 2, "log_every": 5, "devices": 1, "progress": False}


def arrays(run, state=None):
    """Name -> array [p, ...] of the variables that are used of a run."""
    variables = averaged_variables(run.state if state is None else state)
    return {name: np.asarray(leaf) for name, leaf in variable_names(variables).items()}


def first_state(states):
    """A callback that keeps the state before the first step."""

    def keep(step, state, stage):
        if step == 0:
            states[stage] = jax.tree.map(jnp.copy, state)  # the loop donates the original

    return vaex.Callback(on_checkpoint=keep)


def train(model="beta_vae", x=OTHER, states=None, **options):
    callbacks = [first_state(states)] if states is not None else []
    return vaex.train(model, x, **{"steps": 5, **QUICK, **options}, callbacks=callbacks)


@pytest.fixture(scope="module")
def source():
    """Two members, averaged, so that what is taken are the averages."""
    return vaex.train("beta_vae", X, beta=[1, 4], steps=10, average_decay=0.9, **QUICK)


@pytest.mark.slow
def test_members_begin_with_those_of_equal_index_or_all_with_one(source):
    taken = arrays(source)
    for options, members in (
        ({"seeds": (5, 6), "init_from": source}, (0, 1)),
        ({"seeds": (5,), "init_from": source[1]}, (1,)),
    ):
        states = {}
        run = train(states=states, **options)
        begun = arrays(run, states["model"])
        for name, values in begun.items():
            np.testing.assert_array_equal(values, taken[name][list(members)], err_msg=name)
        moments = jax.tree.leaves(states["model"].opt_state)
        assert all(not np.any(np.asarray(leaf)) for leaf in moments), "the optimizer starts anew"
        moved = [name for name, values in arrays(run).items() if not np.array_equal(values, begun[name])]
        assert moved, "the run trains"


@pytest.mark.slow
def test_parts_begin_so_and_the_others_as_drawn(source):
    states, drawn = {}, {}
    train(states=states, seeds=7, init_from=source[0], init_only=("encoder",), freeze="encoder", steps=1)
    train(states=drawn, seeds=7, steps=1)
    taken, initial = arrays(source), arrays(source, drawn["model"])
    for name, values in arrays(source, states["model"]).items():
        expected = taken[name][:1] if "/encoder/" in name else initial[name]
        np.testing.assert_array_equal(values, expected, err_msg=name)


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("sgd", marks=pytest.mark.slow)])
def test_a_frozen_part_keeps_every_bit(source, optimizer):
    options = {
        "weight_decay": 0.5,
        "average_decay": 0.5,
        "clip_norm": 1.0,
        "learning_rate": 0.1,
        "optimizer": optimizer,
    }
    run = train(init_from=source[1], freeze=["encoder"], **options)
    taken = arrays(source)
    for variables in (run.state.variables, averaged_variables(run.state)):
        for name, leaf in variable_names(variables).items():
            kept = np.array_equal(np.asarray(leaf), taken[name][1:])
            assert kept == ("/encoder/" in name), name


@pytest.mark.slow
def test_frozen_parameters_do_not_count_in_the_norm_of_the_gradient():
    """Clipped to a tiny norm, the decoder's step of plain descent has exactly that length."""
    states = {}
    run = train(states=states, freeze="encoder,likelihood", optimizer="sgd", learning_rate=1.0, clip_norm=1e-2, steps=1)
    before = arrays(run, states["model"])
    moved = [np.sum(np.square(values - before[name], dtype=np.float64)) for name, values in arrays(run).items()]
    assert np.sqrt(sum(moved)) == pytest.approx(1e-2, rel=1e-3)


@pytest.mark.slow
@pytest.mark.optimised
def test_a_warm_started_run_resumes_to_the_bit(tmp_path, source):
    options = {"init_from": source, "freeze": "encoder", "seeds": (3, 4), "weight_decay": 0.1}
    straight = train(steps=12, **options)
    half = train(steps=5, out=tmp_path / "run", **options)
    resumed = train(steps=12, out=tmp_path / "run", **options)
    for name, values in arrays(straight).items():
        np.testing.assert_array_equal(values, arrays(resumed)[name], err_msg=name)
    assert half.step == 5 and straight.rows() == resumed.rows()
    loaded = vaex.load(tmp_path / "run")
    assert loaded.settings.origin is not None and loaded.settings.origin.step == 10
    on = loaded.continue_to(14, OTHER, progress=False)  # on all devices, so not to the bit
    for name, values in arrays(on).items():
        assert "/encoder/" not in name or np.array_equal(values, arrays(source)[name])
    with pytest.raises(UserError, match="another configuration: init_from step: 10 -> 14"):
        train(steps=14, out=tmp_path / "run", **{**options, "init_from": on})
    with pytest.raises(UserError, match=r"freeze: encoder -> not given"):
        train(steps=14, out=tmp_path / "run", **{**options, "freeze": None})


@pytest.mark.slow
def test_the_command_records_where_a_run_began(tmp_path, trained_runs):
    begun_from = trained_runs(*TWO_MEMBERS)
    flags = ("--model=beta_vae", "--beta=9", "--steps=5", "--no-figures")
    ended = command(tmp_path / "run", *flags, f"--init_from={begun_from}:1", "--init_only=encoder, decoder")
    assert ended.code == 0, ended.err
    assert "begins with encoder, decoder of member 1 from" in ended.out + ended.err
    identity = read_json(tmp_path / "run" / "config.json")["identity"]
    assert identity["init_from"] == {
        "run": str(begun_from.resolve()),
        "step": 20,
        "digest": identity["init_from"]["digest"],
        "from_members": [1],
    }
    assert identity["init_only"] == ["encoder", "decoder"]
    by_python = vaex.train(
        "beta_vae",
        "digits",
        beta=9,
        steps=5,
        batch_size=128,
        init_from=f"{begun_from}:1",
        init_only="encoder,decoder",
        out=tmp_path / "python",
        **QUICK,
    )
    assert by_python.step == 5
    assert_same_arrays(tmp_path / "run", tmp_path / "python")
    again = command(tmp_path / "run", *flags, f"--init_from={begun_from}:1", "--init_only=encoder,decoder")
    assert again.code == 0 and "is finished at step 5" in again.out + again.err
    refused = command(tmp_path / "run", *flags, f"--init_from={begun_from}:0", "--init_only=encoder,decoder")
    assert refused.code == 2 and "another configuration: init_from from_members" in refused.err


def refusals(source, tmp_path):
    return [
        (
            {"latent_dim": 3, "init_from": source[0]},
            r"vae/decoder/hidden_0/kernel has shape \(2, 8\) there and \(3, 8\) here",
        ),
        ({"latent_dim": 3, "init_from": source[0]}, r"take what agrees by --init_only=likelihood$"),
        ({"hidden": (8, 8), "init_from": source[0]}, "the run lacks vae/decoder/hidden_1/bias"),
        ({"init_from": source[0], "init_only": "encodr"}, "no such part; it has decoder, encoder"),
        ({"freeze": "prior"}, "--freeze=prior: the model has no such part"),
        ({"freeze": "vae"}, "leaves nothing to train"),
        ({"init_only": "encoder"}, "--init_only=encoder needs --init_from"),
        ({"init_from": tmp_path / "none"}, "holds no run"),
        ({"init_from": 3}, "init_from is a int; give a run"),
    ]


@pytest.mark.parametrize("case", range(9))
def test_what_does_not_fit_is_refused_in_one_line(source, tmp_path, case, monkeypatch):
    options, message = refusals(source, tmp_path)[case]
    monkeypatch.setattr(loop, "compile_program", lambda *args, **kwargs: pytest.fail("compiled"))
    with pytest.raises(UserError, match=message) as raised:
        train(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_codebook_is_taken_and_later_stages_too(tmp_path):
    options = {"devices": 1, "progress": False, "steps": 2, "prior_steps": 2, **models.module("vq_vae").TINY}
    first = vaex.train("vq_vae", X, out=tmp_path / "first", **options)
    states = {}
    second = vaex.train("vq_vae", OTHER, init_from=tmp_path / "first", callbacks=[first_state(states)], **options)
    stored = warm_start.read_source(str(tmp_path / "first")).stages
    for stage, place in (("model", ""), ("prior", "prior")):
        begun = arrays(second, states[stage])
        compared = [name for name in begun if stage == "model" or not name.startswith("state")]
        assert any(name.startswith("state/level_0/codebooks" if stage == "model" else "prior/") for name in compared), (
            begun.keys()
        )
        for name in compared:
            np.testing.assert_array_equal(begun[name], stored[place][name], err_msg=name)
    assert first.step == second.step == 2
