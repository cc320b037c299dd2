"""Runs that cannot be loaded: what is missing, damaged, or of another version."""

import json
import pathlib
import shutil

import jax
import pytest

import vaex
from vaex import data
from vaex.errors import UserError

KEY = jax.random.key(0)


@pytest.mark.parametrize("member", [-1, 2, 99])
def test_a_member_that_is_not_there(trained, member):
    with pytest.raises(UserError, match=rf"member={member}, but .* has 2 member\(s\), counted from 0"):
        vaex.load(trained, member=member)


def edited(trained: pathlib.Path, to: pathlib.Path, change) -> pathlib.Path:
    """A copy of the run whose config.json went through ``change``."""
    directory = pathlib.Path(shutil.copytree(trained, to))
    content = json.loads((directory / "config.json").read_text())
    change(content)
    content.pop("digest")  # as a run of an earlier version
    (directory / "config.json").write_text(json.dumps(content))
    return directory


def test_what_is_no_run(tmp_path, trained):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UserError, match=r"load: .* holds no config.json"):
            vaex.load(path)
    for text, says in (
        ("{", "cannot be read"),
        ("[]", "not the config.json of a vaex run"),
        ("{}", "not the config.json"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=says):
            vaex.load(tmp_path)


def test_a_run_without_a_checkpoint(tmp_path, trained):
    shutil.copy(trained / "config.json", tmp_path)
    with pytest.raises(UserError, match="no checkpoint yet; train the run first"):
        vaex.load(tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="train the run first"):
        vaex.load(tmp_path)


def test_an_untrained_state_is_not_what_is_left_of_a_damaged_run(tmp_path, trained):
    """The run of the fixture keeps its first state and its last."""
    directory = pathlib.Path(shutil.copytree(trained, tmp_path / "run"))
    for path in (directory / "checkpoints" / "20" / "packed").rglob("0"):
        path.write_bytes(path.read_bytes()[:-5] + b"12345")
    with (
        pytest.warns(UserWarning, match=r"20 can't be read and is passed over|20 holds other values"),
        pytest.raises(
            UserError, match=r"the checkpoint of step 20 is damaged, and that of step 0 is untrained; .* --overwrite"
        ),
    ):
        vaex.load(directory)


def test_runs_of_another_version(tmp_path, trained):
    def newer(content):
        content["identity"]["config"]["warp_factor"] = 9
        content["future"] = {"x": 1}

    with pytest.raises(UserError, match="lacks warp_factor"):
        vaex.load(edited(trained, tmp_path / "newer", newer))
    with pytest.raises(UserError, match=r"lacks data\.levels"):
        vaex.load(edited(trained, tmp_path / "older", lambda content: content["data"].pop("levels")))
    before = edited(trained, tmp_path / "before", lambda content: content["data"].pop("num_training_examples"))
    assert vaex.load(before).spec.num_training_examples == 0  # a fact that was added later
    # what is only added is no matter
    same = edited(trained, tmp_path / "same", lambda content: content.update(future=1))
    assert vaex.load(same).step == 20


def test_a_checkpoint_that_does_not_fit_is_refused_by_the_name_of_the_parameter(tmp_path, trained):
    wider = edited(trained, tmp_path / "wider", lambda content: content["identity"]["config"].update(hidden=[9]))
    with pytest.raises(UserError, match=r"kernel|bias"):
        vaex.load(wider)


def test_a_model_that_is_gone(tmp_path, trained):
    gone = edited(trained, tmp_path / "gone", lambda content: content["identity"].update(model="my_package.gone"))
    with pytest.raises(UserError, match=r"my_package\.gone, a module that is not vaex's"):
        vaex.load(gone)
    with pytest.raises(UserError, match="there is no such module"):
        vaex.load(gone, trust=True)


def test_a_run_is_loaded_without_its_data(trained, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *args, **kwargs: pytest.fail("this read the data"))
    assert vaex.load(trained).spec.shape == (8, 8, 1)
