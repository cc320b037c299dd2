"""Files of a run that hold something else than was written: named in one line, or as good as before."""

import json
import pathlib
import shutil

import pytest
from helpers.trained_runs import vaex as command

import vaex
from vaex.errors import UserError
from vaex.files import mismatch, read_json
from vaex.runs.config_file import with_defaults
from vaex.training.metrics import read_rows

FLAGS = ("--model=vae", "--no-figures")


def edited(run: pathlib.Path, to: pathlib.Path, path: str, *value) -> pathlib.Path:
    """A copy of a run whose config.json has another value at a path, or none."""
    directory = pathlib.Path(shutil.copytree(run, to))
    content = inner = json.loads((directory / "config.json").read_text())
    *above, last = (int(part) if part.isdigit() else part for part in path.split("."))
    for part in above:
        inner = inner[part]
    if value:
        inner[last] = value[0]
    else:
        del inner[last]
    content.pop("digest")  # as a run of an earlier version
    (directory / "config.json").write_text(json.dumps(content))
    return directory


@pytest.fixture(scope="module")
def small(trained_runs) -> pathlib.Path:
    return trained_runs(*FLAGS)


RATE = "identity.members.0.hparams.learning_rate"
WRONG = [
    ("identity.model", 5, "identity.model is 5, expected text"),
    ("identity.dataset", 7, "identity.dataset is 7, expected text"),
    ("identity.data_seed", "x", "identity.data_seed is 'x', expected a whole number"),
    ("identity.batch_size", "many", "identity.batch_size is 'many', expected null or a whole number"),
    ("identity.batch_size", True, "identity.batch_size is True"),
    ("identity.config", [], r"identity.config is \[\], expected a mapping"),
    ("identity.members", [], "is not the config.json of a vaex run"),
    ("identity.members", {}, "is not the config.json of a vaex run"),
    ("identity.members", [3], "is not the config.json of a vaex run"),
    ("identity.members.0.seed", "s", "identity.members.0.seed is 's', expected a whole number"),
    ("identity.members.0.seed", None, "identity.members.0.seed is None"),
    ("identity.members.0.hparams", [], "identity.members.0.hparams is .*, expected a mapping"),
    (RATE, "fast", "learning_rate is 'fast', expected null or a number or a mapping"),
    (RATE, [1], "learning_rate is .1., expected"),
    (RATE, {"kind": "x"}, "learning_rate"),
    (RATE, {"kind": 3.0}, "learning_rate is no number and no schedule"),
    (RATE, {"function": 3}, "learning_rate"),
    ("identity.init_from", 3, "identity.init_from is 3, expected a mapping"),
    ("identity.init_from", {"a": 1}, "identity.init_from.run is missing"),
    ("identity.freeze", 5, "identity.freeze is 5, expected a list"),
    ("identity.image_size", 3, "identity.image_size is 3, expected a list"),
    ("data.shape", "8x8", "data.shape is '8x8', expected a list"),
    ("data.shape", [8, "a", 1], "data.shape.1 is 'a', expected a whole number"),
    ("data.kind", "purple", "data.kind is 'purple', expected one of binary, color, grey, real"),
    ("data.levels", "17", "data.levels is '17', expected null or a whole number"),
    ("data.binarize", 3, "data.binarize is 3, expected one of dynamic, none, threshold"),
    ("data.num_classes", "x", "data.num_classes is 'x'"),
    ("data.path", 7, "data.path is 7, expected null or text"),
    ("population_strategy", "all", "population_strategy is 'all', expected one of members, solo, vmap"),
    ("keep", 3, "keep is 3, expected null or text"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "value", "says"), WRONG, ids=[f"{path}={value}" for path, value, _ in WRONG])
def test_wrong_types_in_config_json(small, tmp_path, path, value, says):
    run = edited(small, tmp_path / "run", path, value)
    with pytest.raises(UserError, match=rf"config\.json: .*{says}"):
        vaex.load(run)
    ended = command(run, *FLAGS, "--steps=21")
    assert ended.code == 2 and len(ended.err.strip().splitlines()) == 1 and "config.json" in ended.err
    assert (run / "config.json").exists() and (run / "checkpoints" / "20").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("identity.config.latent_dim", "x", "latent_dim=x: expected a whole number"),
        ("identity.config.hidden", 5, "hidden=5: expected a tuple of whole numbers"),
        ("identity.config.activation", 3, "activation=3 is not known"),
        ("identity.config.network", "net", "network=net"),
        (RATE, None, "learning_rate is null, expected a number or a schedule"),
        (RATE, -1.0, "learning_rate=-1: expected at least"),
        ("data.levels", -2, "levels is -2"),
    ],
)
def test_values_out_of_range_in_config_json(small, tmp_path, path, value, says):
    with pytest.raises(ValueError, match=says):
        vaex.load(edited(small, tmp_path / "run", path, value))


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    ["identity.config.activation", RATE, "identity.members.0.hparams.average_decay", "data.num_labelled", "data.unit"],
)
def test_a_field_that_was_added_later_has_its_default(small, tmp_path, path):
    run = edited(small, tmp_path / "run", path)
    assert vaex.load(run).step == 20
    ended = command(run, *FLAGS, "--steps=21")
    assert ended.code == 0, ended.err


@pytest.mark.slow
def test_a_field_that_was_added_later_and_is_set_is_another_configuration(small, tmp_path):
    run = edited(small, tmp_path / "run", "identity.config.activation")
    ended = command(run, *FLAGS, "--steps=21", "--activation=tanh")
    assert ended.code == 2 and "activation: relu -> tanh" in ended.err


def test_defaults_are_added_and_nothing_else_changes():
    from helpers.command import parse

    from vaex.runs.config_file import identity

    settings = parse(["--model=vae", "--activation=tanh", "--learning_rate=0.5"])
    recorded = identity(settings)
    assert with_defaults(recorded, settings) == recorded
    del recorded["config"]["activation"], recorded["members"][0]["hparams"]["learning_rate"]
    filled = with_defaults(recorded, settings)
    assert filled["config"]["activation"] == "relu"
    assert filled["members"][0]["hparams"]["learning_rate"] == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, int, None),
        (True, int, "the content is True, expected a whole number"),
        (1, float, None),
        (float("nan"), float, "the content is nan, expected a number"),
        ("a", (None, int), "the content is 'a', expected null or a whole number"),
        (None, (None, int), None),
        ([1, [2]], [(int, [int])], None),
        ([1, ["b"]], [(int, [int])], "1.0 is 'b', expected a whole number"),
        ({"a": {"b": 1}}, {"a": {"b": str}}, "a.b is 1, expected text"),
        ({}, {"a": int}, "a is missing"),
        ({}, {"a?": int}, None),
        ({"z": "x"}, {...: float}, "z is 'x', expected a number"),
        ({"z": "x"}, {"a?": int}, None),
        ([], {}, "the content is [], expected a mapping"),
        ("c", {"a", "b"}, "the content is 'c', expected one of a, b"),
    ],
)
def test_types_of_json(value, kind, expected):
    assert mismatch(value, kind) == expected


LINES = ['{"step": 5, "elbo": [NaN]}', "[" * 100_000, '{"step": ' + "9" * 5000 + "}", '{"step": "7"}', "\ufffd", "null"]


@pytest.mark.parametrize("line", LINES, ids=["nan", "deep", "digits", "text", "bytes", "null"])
def test_a_line_of_metrics_that_cannot_be_read_costs_no_other(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n' + line + '\n{"step": 9}\n')
    with pytest.warns(UserWarning, match="cannot read line 2, left out; the other rows are kept"):
        assert read_rows(path) == [{"step": 1}, {"step": 9}]


@pytest.mark.parametrize("content", ["[" * 100_000, "{", "\x00", ""])
def test_what_is_no_json_is_a_value_error(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError):  # of json, whatever it says
        read_json(tmp_path / "a.json")
