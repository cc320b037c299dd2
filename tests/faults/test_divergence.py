"""A member that diverges stays as it was before and is named; the others get the bits that they would get anyway."""

import json
import pathlib

import jax
import numpy as np
import pytest
from helpers.checkpoints import stored
from helpers.trained_runs import vaex as command

import vaex
from vaex.errors import NonFiniteError
from vaex.results import report
from vaex.results.compare import compare, read_log_likelihoods, read_runs
from vaex.runs import lifecycle, stage_loop
from vaex.training import loop

LATE = "hold:0.001:12+1e30"  # fails at the step after the next
SOUND = "hold:0.001:12+0.002"
X = np.random.default_rng(0).integers(0, 2, size=(100, 4, 4)).astype(np.uint8)
QUICK = {"steps": 20, "hidden": (8,), "latent_dim": 2, "log_every": 5, "progress": False, "optimizer": "sgd"}


def flags(rates: str, *more: str, strategy: str = "vmap") -> list[str]:
    return ["--model=vae", "--optimizer=sgd", f"--learning_rate={rates}", f"--population_strategy={strategy}", *more]


def rows(directory: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def assert_sound_member(directory: pathlib.Path, whole: pathlib.Path, member: int = 0) -> None:
    """A member's arrays and rows are those of the run in which nothing diverged."""
    (step, arrays), (other_step, expected) = stored(directory), stored(whole)
    assert step == other_step == 20
    for name, values in arrays.items():
        assert values[member].tobytes() == expected[name][member].tobytes(), name
    for row, other in zip(rows(directory), rows(whole), strict=True):
        assert row["step"] == other["step"] and row["elbo"][member] == other["elbo"][member]


@pytest.mark.slow
def test_the_command_finishes_the_others_and_says_what_is_lost(tmp_path):
    done = command(tmp_path, *flags(f"0.001,{LATE}"))
    named = "learning_rate=hold-0.001-12+1e+30_seed=0 diverged at step 13"
    assert done.code == 4 and "Traceback" not in done.err and named in done.err, done.err
    assert "1 of 2 members diverged; the others are finished" in done.err
    assert f"note: {named}" in done.out
    summary = json.loads((tmp_path / "summary.json").read_text())
    sound, lost = summary["members"]
    assert np.isfinite(sound["elbo"]) and "elbo" not in lost and lost["diverged"]["step"] == 13
    assert [record["seeds"] for record in summary["results"]] == [1, 0]
    assert rows(tmp_path)[-1]["elbo"][1] is None and np.isfinite(rows(tmp_path)[-1]["elbo"][0])
    drawn = {path.name for path in (tmp_path / "figures").rglob("*.png")}
    assert {"training_curves.png", "reconstructions.png"} <= drawn
    assert len(list((tmp_path / "figures").rglob("reconstructions.png"))) == 1

    again = command(tmp_path, *flags(f"0.001,{LATE}"))
    assert again.code == 4 and "is finished" in again.out and "1 of 2 members diverged" in again.err

    run = vaex.load(tmp_path)
    assert [(entry.member, entry.step) for entry in run.diverged] == [(1, 13)] and run.step == 20
    assert run[1].step == 13 and run[1].reconstruct(X.repeat(2, 1).repeat(2, 2)[:2]).shape == (2, 8, 8, 1)
    evaluated = run.evaluate(progress=False, figures=False, eval_samples=4, eval_images=20)
    assert evaluated["members"] == summary["members"]
    table = compare(read_runs([tmp_path]), read_log_likelihoods(read_runs([tmp_path])))
    assert table.splitlines()[-1].split()[-1] == "-" and "nan" not in table + report.table(summary)


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["vmap", "members"])
@pytest.mark.parametrize("devices", [1, 2])
def test_the_others_get_the_same_bits_however_often_the_run_is_saved_and_stopped(tmp_path, strategy, devices):
    more = (f"--devices={devices}", "--no-figures", "--seeds=0:2")
    whole = command(tmp_path / "whole", *flags(f"0.001,{SOUND}", *more, strategy=strategy))
    assert whole.code == 0, whole.err
    once, often = tmp_path / "once", tmp_path / "often"
    assert command(once, *flags(f"0.001,{LATE}", *more, strategy=strategy)).code == 4
    for steps, saved in ((9, 4), (12, 5), (14, 3), (17, 1), (20, 7)):
        flagged = flags(f"0.001,{LATE}", f"--steps={steps}", f"--checkpoint_every={saved}", *more, strategy=strategy)
        ended = command(often, *flagged)
        assert ended.code == (4 if steps > 13 else 0), ended.err
    for member in (0, 1):
        assert_sound_member(once, tmp_path / "whole", member)
    (_, first), (_, second) = stored(once), stored(often)
    assert all(values.tobytes() == second[name].tobytes() for name, values in first.items())
    assert rows(once) == rows(often)


@pytest.mark.slow
def test_a_member_may_diverge_after_another_and_at_once(tmp_path):
    rates = f"0.001,1e30,{LATE}"
    done = command(tmp_path / "run", *flags(rates, "--checkpoint_every=3", "--no-figures"))
    assert done.code == 4 and done.err.count("the others go on") == 2, done.err
    assert stored(tmp_path / "run")[1]["state/step"].tolist() == [20, 1, 13], done.err


@pytest.mark.slow
def test_a_parameter_that_is_not_finite_under_a_finite_loss_is_found_at_its_step(tmp_path, monkeypatch):
    """The chunk sees it at its end alone."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1e9)
    sound = loop.divergence.is_sound

    def is_sound(state):
        return sound(state) & ((state.step <= 7) | (state.hparams.learning_rate.start < 1e-3))

    monkeypatch.setattr(loop.divergence, "is_sound", is_sound)
    run = vaex.train("vae", X, learning_rate=[1e-4, 2e-3], population_strategy="vmap", compile_cache="off", **QUICK)
    assert np.asarray(run.state.step).tolist() == [20, 7]


@pytest.mark.slow
def test_the_best_state_of_a_frozen_member_is_from_before(tmp_path):
    more = ("--validate_every=4", "--keep=best:elbo", "--no-figures")
    done = command(tmp_path, *flags(f"0.001,{LATE}", *more))
    assert done.code == 4, done.err
    validated = [row["validation_elbo"][1] for row in rows(tmp_path) if "validation_elbo" in row]
    assert [value is None for value in validated] == [False] * 3 + [True] * 2
    assert max(json.loads((tmp_path / "summary.json").read_text())["best_steps"][1:]) <= 12
    assert vaex.load(tmp_path)[1].step <= 12


@pytest.mark.slow
def test_a_member_that_diverges_in_the_first_stage_is_not_trained_in_the_second(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[1])
    given = ("--model=helpers.two_stages", "--optimizer=sgd", "--no-figures")
    done = command(tmp_path / "run", *given, f"--learning_rate=0.001,{LATE}", "--prior_steps=10")
    assert done.code == 4 and "diverged at step 13 of model" in done.err, done.err
    run = vaex.load(tmp_path / "run")
    assert np.asarray(run.state.step).tolist() == [10, 0] and run.step == 10
    longer = command(tmp_path / "run", *given, f"--learning_rate=0.001,{LATE}", "--prior_steps=14")
    assert longer.code == 4 and np.asarray(vaex.load(tmp_path / "run").state.step).tolist() == [14, 0]
    second = command(tmp_path / "second", *given, "--prior_steps=10", "--prior_learning_rate=0.05,1e38")
    assert second.code == 4 and "of prior" in second.err, second.err


@pytest.mark.slow
@pytest.mark.parametrize("model", ["factor_vae", "piwae"])
def test_models_of_several_groups(model):
    run = vaex.train(model, X, learning_rate=["0.001", LATE], **QUICK)
    assert len(run.diverged) == 1 and run.diverged[0].member == 1 and run.step == 20


@pytest.mark.slow
def test_all_members_that_diverge_end_the_run(tmp_path):
    done = command(tmp_path, *flags(f"1e30,{LATE}"))
    assert done.code == 3 and "training stopped: member 1 at step 13" in done.err and "Traceback" not in done.err
    with pytest.raises(NonFiniteError, match="training stopped: member 0 at step 1"):
        vaex.train("vae", X, learning_rate=1e30, **QUICK)


@pytest.mark.slow
def test_a_run_that_diverges_does_not_end_the_others_of_a_sweep(tmp_path, monkeypatch):
    run = lifecycle.run

    def fails(settings, *arguments, **named):
        if settings.config.latent_dim == 2:
            raise NonFiniteError("training stopped: member 0 at step 3: kl is nan")
        return run(settings, *arguments, **named)

    monkeypatch.setattr(lifecycle, "run", fails)
    sweep = vaex.train("vae", X, **{**QUICK, "latent_dim": [2, 3]})
    assert sweep.names == ["latent_dim=3"]
    with pytest.raises(NonFiniteError):
        vaex.train("vae", X, **QUICK)
    done = command(tmp_path, "--model=vae", "--latent_dim=2,3", "--no-figures")
    assert done.code == 4 and "vaex: latent_dim=2: training stopped: member 0 at step 3" in done.err
    assert (tmp_path / "latent_dim=3" / "summary.json").exists()


@pytest.mark.slow
def test_a_run_goes_on_with_changes_that_leave_what_diverged_as_it_was(tmp_path):
    assert command(tmp_path, *flags(f"0.001,{LATE}", "--no-figures")).code == 4
    before = vaex.load(tmp_path)
    longer = before.continue_to(30, progress=False)
    assert longer.step == 30 and longer[1].step == 13 and len(longer.diverged) == 1
    kept = (jax.tree.leaves(run.state.variables) for run in (before, longer))
    assert all(np.array_equal(old[1], new[1]) for old, new in zip(*kept, strict=True))


def test_a_signal_stops_what_is_computed_again(tmp_path, monkeypatch):
    """The way back to the step of a divergence may be long."""
    rolled_back = stage_loop.StageFit._rolled_back

    def interrupted(self, program):
        self._reporting.interruption.number = 15
        return rolled_back(self, program)

    monkeypatch.setattr(stage_loop.StageFit, "_rolled_back", interrupted)
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    done = command(tmp_path, *flags(f"0.001,{LATE}", "--no-figures"))
    assert done.code == 143 and "step 0 of 20 is saved" in done.err, done.err
