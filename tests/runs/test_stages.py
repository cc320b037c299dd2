"""Recipes of several stages: trained one after the other, each on what the one before has learned, and resumed in each."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import two_stages
from helpers.checkpoints import assert_same_arrays, stored
from helpers.command import parse

import vaex
from vaex import files, testing
from vaex.cli import main as cli
from vaex.errors import UserError
from vaex.runs import setup
from vaex.training.parts import names

SMALL = (
    "--model=helpers.two_stages",
    "--hidden=8",
    "--latent_dim=2",
    "--eval_samples=2",
    "--eval_images=10",
    "--no-figures",
)


def run(directory, *flags):
    assert cli.main([*SMALL, f"--out={directory}", *flags]) == 0
    return files.read_json(directory / "summary.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A population of two, never stopped."""
    directory = tmp_path_factory.mktemp("stages") / "run"
    return directory, run(directory, "--seeds=0:2", "--learning_rate=0.001", "--average_decay=0.9")


@pytest.mark.slow
def test_the_summary_tells_of_each_stage(finished):
    directory, summary = finished
    assert (summary["steps"], summary["stage_steps"]) == (30, {"prior": 20})
    assert [record["steps"] for record in summary["stages"].values()] == [30, 20]
    assert all(record["step_traces"] == 1 for record in summary["stages"].values())
    assert "code_cross_entropy" in summary["members"][0]
    for folder in (directory, directory / "stages" / "prior"):
        assert (folder / "metrics.jsonl").exists() and (folder / "checkpoints").is_dir()


@pytest.mark.slow
def test_a_stage_sees_the_averaged_parameters_of_its_own_member(finished):
    directory, _ = finished
    averages = stored(directory)[1]
    for member in (0, 1):
        loaded = vaex.load(directory, member=member)
        for name, values in names(loaded.variables.state["vae"]).items():
            np.testing.assert_array_equal(values, averages[f"state/average/vae/{name}"][member])
    assert loaded.step == 20
    assert loaded.log_likelihood(jax.random.key(0), np.zeros((2, 8, 8, 1), np.uint8)).shape == (2,)
    assert loaded.sample(jax.random.key(0), 3).shape == (3, 8, 8, 1)


@pytest.mark.slow
@pytest.mark.optimised
def test_a_member_equals_its_solo_run_in_every_stage(tmp_path):
    flags = ("--seeds=1", "--learning_rate=0.001", "--average_decay=0.9", "--devices=1")
    run(tmp_path / "solo", *flags)
    run(tmp_path / "both", "--seeds=0:2", *flags[1:], "--population_strategy=members")
    solo, both = vaex.load(tmp_path / "solo"), vaex.load(tmp_path / "both", member=1)
    jax.tree.map(np.testing.assert_array_equal, solo.variables, both.variables)


@pytest.mark.slow
def test_a_run_stopped_in_either_stage_goes_on_to_the_same_numbers(finished, tmp_path):
    directory, _ = finished
    flags = ("--seeds=0:2", "--learning_rate=0.001", "--average_decay=0.9", "--checkpoint_every=10")
    for first, second in (("--steps=10", "--prior_steps=10"), ("--steps=30", "--prior_steps=10")):
        stopped = tmp_path / (first + second)
        calls = interrupted(stopped, flags, after=1 if first == "--steps=10" else 4)
        assert calls > 0
        run(stopped, *flags)
        assert_same_arrays(stopped, directory)
        assert_same_arrays(stopped / "stages" / "prior", directory / "stages" / "prior")


def interrupted(directory, flags, *, after):
    """The command, interrupted as by the keyboard after so many checkpoints beyond the first."""
    from vaex.training.checkpoint import Checkpoints

    saves = []
    original = Checkpoints.save

    def save(self, step, tree):
        original(self, step, tree)
        saves.append(step)
        if step and len([saved for saved in saves if saved]) == after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        assert cli.main([*SMALL, f"--out={directory}", *flags]) == 130
    return len(saves)


@pytest.mark.slow
def test_a_later_stage_can_go_on_but_an_earlier_one_cannot(tmp_path, capsys):
    run(tmp_path / "run", "--steps=10", "--prior_steps=5")
    assert run(tmp_path / "run", "--steps=10", "--prior_steps=8")["stage_steps"] == {"prior": 8}
    before = (tmp_path / "run" / "summary.json").read_bytes()
    assert cli.main([*SMALL, f"--out={tmp_path / 'run'}", "--steps=12", "--prior_steps=8"]) == 2
    assert "the stage prior was trained on model as it was at step 10" in capsys.readouterr().err
    assert cli.main([*SMALL, f"--out={tmp_path / 'run'}", "--steps=10", "--prior_steps=5"]) == 2
    assert "--prior_steps=8" in capsys.readouterr().err
    assert (tmp_path / "run" / "summary.json").read_bytes() == before
    summary = run(tmp_path / "run", "--steps=12", "--prior_steps=3", "--overwrite")
    assert (summary["steps"], summary["stage_steps"]) == (12, {"prior": 3})


@pytest.mark.slow
def test_finished_runs_and_unfinished_stages_say_so(finished, capsys, tmp_path):
    directory, _ = finished
    run(directory, "--seeds=0:2", "--learning_rate=0.001", "--average_decay=0.9")
    assert "is finished" in capsys.readouterr().out
    calls = interrupted(tmp_path / "run", ("--steps=10",), after=1)
    assert calls == 2
    with pytest.raises(UserError, match="no checkpoint of the stage prior yet"):
        vaex.load(tmp_path / "run")


@pytest.mark.slow
def test_flags_of_later_stages():
    assert parse(["--model=helpers.two_stages"]).stage_steps == {"prior": 20}
    assert parse(["--model=helpers.two_stages", "--prior_steps=7"]).stage_steps == {"prior": 7}
    for flags, message in ((("--prior_steps=0",), "at least 1"), (("--prior_steps=x",), "a whole number")):
        with pytest.raises(UserError, match=message):
            parse(["--model=helpers.two_stages", *flags])
    with pytest.raises(UserError, match="not a flag"):
        parse(["--model=vae", "--prior_steps=7"])


@pytest.mark.slow
def test_stages_must_have_names_of_their_own():
    def build(config, spec):
        recipe = two_stages.build(config, spec)
        return recipe._replace(stages=(recipe.stages[0], recipe.stages[0]))

    settings = parse(["--model=helpers.two_stages"])
    spec = setup.resolve_spec(settings, vaex.data.spec.Spec("digits", (8, 8, 1), "grey", levels=17))
    for module, message in (
        (types.SimpleNamespace(build=build), "different names"),
        (two_stages, "names none of them"),
    ):
        changed = settings._replace(module=module, stage_steps={} if module is not two_stages else {"critic": 3})
        with pytest.raises(UserError, match=message):
            setup.build_recipe(changed, spec)


@pytest.mark.slow
def test_stages_draw_from_keys_of_their_own():
    first, second = (
        jax.random.key_data(subject.first_states().key) for subject in testing.build_subjects("helpers.two_stages")
    )
    assert not jnp.any(jnp.all(first == second, axis=-1))
