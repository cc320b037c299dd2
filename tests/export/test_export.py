"""Exported runs: their functions give the run's numbers, also where vaex cannot be imported; refusals name the remedy."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers.exported import assert_like, deserialized, expected
from helpers.trained_runs import TWO_MEMBERS
from helpers.untrained_runs import BINARY, COLOR, DIGITS, REAL, untrained
from jax import export as jax_export
from safetensors.numpy import load_file

from vaex.api.loading import load
from vaex.cli.export_run import FLAGS
from vaex.cli.main import main
from vaex.errors import MissingPackageError, UserError
from vaex.export import functions, onnx, stablehlo, weights
from vaex.export.functions import WHAT


@pytest.fixture(scope="module")
def model(trained_runs):
    """The second of two members, trained."""
    return load(trained_runs(*TWO_MEMBERS))[1]


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Its export."""
    return model.export(tmp_path_factory.mktemp("export") / "exported")


@pytest.mark.slow
@pytest.mark.parametrize("name", WHAT)
def test_artefacts_give_the_numbers_of_the_run_at_any_batch_size(model, folder, name):
    (function,) = functions.functions(model, (name,))
    artefact = deserialized(folder / f"{name}.stablehlo")
    assert artefact.platforms == ("cpu", "cuda", "tpu")
    for size in (1, 7):
        arrays = function.arguments(np.random.default_rng(size), size)
        assert_like(artefact.call(*arrays.values()), expected(model, function, arrays))


WITHOUT_VAEX = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("vaex", "flax", "optax", "orbax"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
try:
    import vaex
    raise SystemExit("vaex can be imported")
except ImportError:
    pass
"""


@pytest.mark.slow
def test_the_cards_program_runs_without_vaex_and_gives_the_runs_numbers(model, folder):
    text = (folder / "README.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    program += "\nnp.savez('results.npz', **encode(np.load('x.npy')))"
    x = np.random.default_rng(0).random((7, 8, 8, 1), np.float32)
    np.save(folder / "x.npy", x)
    command = [sys.executable, "-c", WITHOUT_VAEX + program]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    assert "'mean': (3, 2)" in ended.stdout
    posterior = model.encode(x)
    wanted = {"mean": np.asarray(posterior.mean), "standard_deviation": np.asarray(np.sqrt(posterior.variance))}
    assert_like(dict(np.load(folder / "results.npz")), wanted)


def test_weights_are_those_of_the_member_and_config_json_says_what_they_belong_to(model, folder):
    arrays = load_file(folder / "model.safetensors")
    named = weights.named_arrays(model.variables)
    assert arrays.keys() == named.keys() and len(named) > 4
    assert all(arrays[name].tobytes() == array.tobytes() for name, array in named.items())
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["beta_vae"] and config["hyperparameters"]["beta"] == 4.0
    assert config["latent_shape"] == [2] and config["data"]["levels"] == 17 and config["options"]["latent_dim"] == 2
    described = json.loads((folder / "export.json").read_text())["functions"]
    assert described["encode"]["takes"]["x"]["shape"] == ["b", 8, 8, 1]
    assert "level k of 0..16 is k / 16" in described["encode"]["takes"]["x"]["meaning"]


def test_invalid_examples_give_nan_and_the_others_of_the_batch_their_numbers(model, folder):
    x = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    wanted = np.asarray(model.encode(x).mean)
    x[1, 2, 3] = 2.0
    got = np.asarray(deserialized(folder / "encode.stablehlo").call(x)["mean"])
    assert np.isnan(got[1]).all()
    np.testing.assert_allclose(got[[0, 2]], wanted[[0, 2]], rtol=2e-5, atol=2e-5)


CONVOLUTIONAL = ("--network=conv", "--channels=4x4")


@pytest.mark.parametrize(
    ("spec", "flags"),
    [
        pytest.param(COLOR, CONVOLUTIONAL, id="convolutional", marks=pytest.mark.slow),
        pytest.param(REAL._replace(unit=10.0), (), id="real"),
        pytest.param(DIGITS, ("--dequantize=uniform",), id="dequantized"),
        pytest.param(DIGITS, ("--binarize=threshold",), id="threshold", marks=pytest.mark.slow),
        pytest.param(BINARY, (), id="binary", marks=pytest.mark.slow),
    ],
)
def test_inputs_are_in_units_of_the_data(spec, flags):
    model = untrained(spec, *flags)
    for function in functions.functions(model, ("encode", "decode")):
        artefact = stablehlo.lower(function)
        arrays = function.arguments(np.random.default_rng(0), 3)
        assert_like(
            jax_export.deserialize(artefact.serialize()).call(*arrays.values()), expected(model, function, arrays)
        )


@pytest.mark.slow
def test_no_program_for_the_cpu_alone_is_exported():
    model = untrained(COLOR, *CONVOLUTIONAL)
    (function,) = functions.functions(model, ("encode",))
    text = stablehlo.lower(function).mlir_module()
    assert "stablehlo.convolution" in text or "stablehlo.dynamic_conv" in text
    assert "inlineable" not in text  # what vaex.ops.cpu_conv marks its matrix products with
    custom = {line.split("custom_call @")[1].split("(")[0] for line in text.splitlines() if "custom_call @" in line}
    assert custom == {"shape_assertion"}  # of jax, for the symbolic batch


def test_refusals_name_the_remedy(model, folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"exported holds something already; choose another directory"):
        model.export(folder)
    for arguments, message in (
        ({"what": ("encoder",)}, "what holds 'encoder'; did you mean encode"),
        ({"formats": ("hlo",)}, "formats holds 'hlo'; .*stablehlo"),
        ({"formats": ()}, "formats is empty"),
        ({"what": "sample", "formats": "onnx"}, "onnx has no random numbers of jax"),
    ):
        with pytest.raises(UserError, match=message):
            model.export(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for check, package in (
        (stablehlo.require_flatbuffers, "flatbuffers"),
        (weights.require_safetensors, "safetensors"),
        (onnx.require_onnx, "jax2onnx and onnxruntime"),
    ):
        with pytest.raises(MissingPackageError, match=f"needs .*{package}.*pip install"):
            check()


def test_a_population_asks_for_a_member(trained_runs, tmp_path):
    with pytest.raises(AttributeError, match=r"choose one of them first"):
        load(trained_runs(*TWO_MEMBERS)).export(tmp_path / "new")


@pytest.mark.slow
def test_the_command_exports_a_member(trained_runs, tmp_path, capsys):
    run = str(trained_runs(*TWO_MEMBERS))
    to = f"--to={tmp_path / 'new'}"
    assert main(["export", run, to]) == 2
    assert "has 2 members; give --member=0 to --member=1" in capsys.readouterr().err
    for wrong, message in (
        (["export", run], "--to=FOLDER is missing"),
        (["export", to, run], "the run directory comes first"),
        (["export", run, to, "--member=2"], "--member=2, but"),
        (["export", run, to, "--form=onnx"], "did you mean formats"),
        (["export", run, to, "--member"], "--member lacks its value"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
    assert main(["export", run, to, "--member=1", "--formats=safetensors"]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    arrays = load_file(tmp_path / "new" / "model.safetensors")
    named = weights.named_arrays(load(run, member=1).variables)
    assert all(np.array_equal(arrays[name], array) for name, array in named.items())
    assert main(["export", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"--{flag}" in shown for flag in FLAGS)
