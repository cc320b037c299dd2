"""benchmarks/shapes: peers that repeat vaex's numbers, and the command without them."""

import functools
import importlib
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import ROOT

from vaex.errors import UserError

pytestmark = pytest.mark.nightly

block = importlib.import_module("block")
convolutions = importlib.import_module("shapes.convolutions")
peers = importlib.import_module("peers")
shapes = importlib.import_module("shapes")
speed = importlib.import_module("shapes.speed")
vaex_bounds = importlib.import_module("shapes.vaex_bounds")
vaex_prior = importlib.import_module("shapes.vaex_prior")
vaex_side = importlib.import_module("shapes.vaex_side")
workloads = importlib.import_module("workloads")

SMALL = {
    "vq_vae": {"codes": 8, "code_dim": 4, "channels": 4, "blocks": 1},
    "iwae": {"latent_dim": 3, "hidden": (8, 6), "num_samples": 4},
    "bound": {"latent_dim": 3, "hidden": (8, 6)},
    "prior": {
        "codes": 8,
        "code_dim": 4,
        "channels": 4,
        "blocks": 1,
        "prior_width": 8,
        "prior_layers": 2,
        "prior_heads": 2,
    },
    "hierarchy": {"blocks": "4x2,2x1,1x2", "width": 4, "latent_channels": 2},
    "td_vae": {"hidden": (8,), "recurrent": 6, "latent_dim": 4, "pairs": 3},
    "resnet": {"channels": (4, 4), "hidden": (8,), "latent_dim": 3},
}
SMALL["sampling"] = SMALL["prior"]
SIDES = {  # odd ones show what padding does
    "vq_vae": (11, 9, 1),
    "iwae": (6, 5, 1),
    "bound": (6, 5, 1),
    "resnet": (11, 9, 3),
    "hierarchy": (8, 8, 1),
    "td_vae": (6, 4, 3, 1),
}


def small(name):
    """The shape in small."""
    shape = shapes.shape(name)
    workload = shape.workload
    config = {**workload.config, **SMALL[name]}
    return shape._replace(workload=workload._replace(config=config, shape=SIDES.get(name, (12, 12, 1))))


@functools.cache
def reference(name):
    """What peers must repeat of the shape in small."""
    arguments = small(name).reference()
    return getattr(importlib.import_module(arguments.pop("module")), arguments.pop("function"))(**arguments)


PAIRS = [(name, peer) for name, shape in shapes.SHAPES.items() for peer in shape.peers]


@pytest.mark.slow
@pytest.mark.parametrize("name, peer_name", PAIRS)
def test_peers_repeat_the_numbers_of_vaex(name, peer_name):
    shape = small(name)
    peer = shape.peers[peer_name]
    for package in peer.needs:
        pytest.importorskip(package, reason=f'{package} is not installed; pip install -e ".[benchmarks]"')
    maker = getattr(importlib.import_module(peer.module), peer.maker)
    contestant = maker(**peers.as_options(shape.workload, 8, "float32", "cpu"))
    numbers = contestant.check(reference(name))
    peers.check_losses(name, reference(name)["losses"], numbers, when=shape.moments, tolerances=shape.tolerance)
    if peer_name != "torch_compile":
        contestant.run(2)


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_every_shape_has_a_reference_and_names_what_it_compares(name):
    shape = shapes.shape(name)
    assert shape.name == name == shape.workload.name and shape.workload.batch_sizes and shape.workload.summary
    assert {"torch", "torch_compile"} <= set(shape.peers) and shape.draws in vaex_side.DRAWS


@pytest.mark.slow
def test_a_step_of_each_kind_of_training_is_repeated_by_its_own_draws():
    """The noise that peers are given is vaex's own: the IWAE's loss follows from it in NumPy."""
    parity = reference("iwae")
    weights, x = parity["weights"]["vae"], parity["x"].reshape(len(parity["x"]), -1)

    def mlp(side, values):
        for name in ("hidden_0", "hidden_1"):
            values = np.maximum(values @ weights[side][name]["kernel"] + weights[side][name]["bias"], 0)
        return values @ weights[side]["output"]["kernel"] + weights[side]["output"]["bias"]

    mean, raw = np.split(mlp("encoder", x), 2, axis=-1)
    log_scale, noise = 7 * np.tanh(raw / 7), parity["noise"][0]
    z = mean + np.exp(log_scale) * noise
    logits = mlp("decoder", z)
    log_px = np.sum(x * logits - np.logaddexp(0, logits), axis=-1)
    log_weights = log_px + np.sum(0.5 * (noise**2 - z**2) + log_scale, axis=-1)
    loss = -np.mean(np.logaddexp.reduce(log_weights, axis=0) - np.log(len(noise)))
    assert noise.shape == (4, 16, 3) and loss == pytest.approx(parity["losses"][0], rel=1e-5)
    assert parity["losses"][1] < parity["losses"][0]


@pytest.mark.slow
def test_the_prior_draws_by_the_noise_that_its_reference_gives():
    parity = reference("sampling")
    codes, gumbel = parity["codes"], parity["gumbel"]
    assert codes.shape == (vaex_prior.CHECKED, 9) and gumbel.shape == (9, vaex_prior.CHECKED, 8)
    net, params = vaex_prior._begun(small("sampling").workload)
    logits = net.apply({"params": params}, codes)
    np.testing.assert_array_equal(np.argmax(np.moveaxis(logits, 1, 0) + gumbel, -1), codes.T)
    log_p = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), codes[..., None], -1)
    assert -log_p.sum() / len(codes) == pytest.approx(parity["losses"][0], rel=1e-5) and parity["losses"][1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bound", "sampling"])
def test_work_that_is_no_training_step_runs_on_vaex_s_side(name, monkeypatch):
    monkeypatch.setattr(vaex_bounds, "SAMPLES", 20)
    monkeypatch.setattr(vaex_bounds, "CHUNK", 10)
    arguments = small(name).ours(2)
    maker = getattr(importlib.import_module(arguments.pop("module")), arguments.pop("maker"))
    contestant = maker(**arguments)
    contestant.run(2)
    assert contestant.properties["flops"] > 0 and contestant.properties["compile_seconds"] > 0


def test_operations_are_counted_by_hand_where_the_program_loops():
    layers = [30 * 8, 8 * 6, 6 * 6, 3 * 6, 6 * 8, 8 * 30]
    assert workloads.multiplications(small("bound").workload) == layers


# --- the command -----------------------------------------------------------------------------------------------------


def rows():
    ours = {"model": "iwae", "batch_size": 20, "precision": "float32", "framework": "vaex", "steps_per_second": 9.0}
    ours |= {"repeats": 3, "unit": "examples", "units_per_second": 180.0, "product_peak": 1e11, "copy_peak": 1e10}
    slower = {**ours, "framework": "torch", "steps_per_second": 6.0, "vaex_ratio": 1.5}
    fastest = {**ours, "framework": "torch_tuned", "steps_per_second": 10.0, "vaex_ratio": 0.9}
    lost = {name: ours[name] for name in ("model", "batch_size", "precision", "repeats", "product_peak", "copy_peak")}
    return [ours, slower, fastest, {**lost, "framework": "torch_compile", "failure": "out of memory"}]


def test_the_summary_names_the_fastest_peer_and_leaves_out_what_failed():
    text = speed.markdown(rows())
    assert "| iwae | 20 | 9.00 | torch_tuned | 10.0 | 0.900x |" in text
    assert "| torch_compile | out of memory |" in text and "products 100 GFLOP/s, copies 10.0 GB/s" in text
    assert "| iwae | 20 | 9.00 | - | - | - |" in speed.summary(rows()[:1])


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--only=vq_vea"], "did you mean vq_vae"),
        (["--only="], "--only is empty"),
        (["--peers=torhc"], "did you mean torch"),
        (["--device=gpu", "--peers=torch_tuned"], "the allocator is the CPU's; use torch"),
        (["--repeats=0"], "--repeats must be at least 1"),
        (["--seconds=nan"], "--seconds more than 0"),
        ([f"--out={__file__}"], "cannot be written"),
    ],
)
def test_invalid_flags_are_refused_in_one_line(flags, message, capsys, monkeypatch):
    monkeypatch.setattr(shapes.importlib.util, "find_spec", lambda name: object())  # as if all packages were there
    assert speed.main(flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("speed: ") and error.count("\n") == 1


@pytest.mark.parametrize("name", ["torch_tuned", "vector_quantize_pytorch", "pythae"])
def test_a_missing_peer_names_the_extra(name, monkeypatch):
    monkeypatch.setattr(shapes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'not installed here; pip install -e "\.\[benchmarks\]"'):
        shapes.check_peer(name)


@pytest.mark.slow
def test_from_flags_to_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shapes, "SHAPES", {name: small(name) for name in ("iwae",)})
    monkeypatch.setattr(speed, "build_peaks", lambda pool, precision, _: block.build_peaks(pool, precision, (32, 1024)))
    flags = ["--peers=", "--repeats=2", "--seconds=0.005", "--batch_sizes=4", f"--out={tmp_path}"]
    assert speed.main(flags) == 0
    results = json.loads((tmp_path / "shapes.json").read_text())
    (row,) = results["rows"]
    assert row["framework"] == "vaex" and row["units_per_second"] == pytest.approx(4 * row["steps_per_second"])
    assert results["benchmark"] == "shapes" and results["machine"]["platform"] == "cpu"
    assert speed.markdown(results["rows"]) in (tmp_path / "shapes.md").read_text()
    assert "| iwae | 4 |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_peer_that_computes_something_else_stops_everything(tmp_path, capsys, monkeypatch):
    (tmp_path / "wrong_peer.py").write_text(
        "class Wrong:\n    properties = {}\n    def __init__(self, **options): pass\n"
        "    def check(self, parity): return [1.01 * loss for loss in parity['losses']]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    wrong = small("iwae")._replace(peers={"torch": peers.Peer("wrong_peer", "Wrong", "wrong")})
    monkeypatch.setattr(shapes, "SHAPES", {"iwae": wrong})
    assert speed.main(["--peers=torch"]) == 2
    printed = capsys.readouterr()
    assert "torch on iwae has a loss of" in printed.err and "nothing was timed" in printed.err and printed.out == ""


def test_help_loads_no_framework():
    code = "import sys; sys.argv = ['speed.py', '--help']\nfrom shapes import speed\ntry: speed.main()\nexcept SystemExit: pass"
    code += "\nassert not {'jax', 'torch', 'matplotlib', 'flax'} & set(sys.modules), sys.modules"
    folder = ROOT / "benchmarks"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr
    for word in (*shapes.SHAPES, *shapes.names(), "--only", "of product peak"):
        assert word in done.stdout.decode()


def test_convolutions_alone_and_in_networks_are_compared(capsys):
    subjects = ["--layers=6x6x2-3-3x3s1", "--networks=8x8x3-4"]
    assert convolutions.main([*subjects, "--batch_sizes=2", "--repeats=1", "--seconds=0.001"]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("| layers | batch | work | vaex, ms | flax, ms |") and len(rows) == 3 + 2 * 2
    assert rows[0].startswith("| 6x6x2 -> 3, 3x3, stride 1 | 2 | forward |") and "gradient and input's" in rows[2]
    assert rows[3].startswith("| encoder 8x8x3-4 | 2 | forward |") and rows[-1].startswith("| decoder 8x8x3-4 | 2 | ")
    assert "in a loop" in rows[-1]


@pytest.mark.parametrize("text", ["6x6x2", "6x5x2-3-3x3s1", "6x6x2-3-3x2s1", "axax2-3-3x3s1", "6x6x2-3-3x3"])
def test_layers_that_are_no_layers_are_refused(text, capsys):
    assert convolutions.main([f"--layers={text}"]) == 2
    assert f"--layers={text}: expected IMAGE-FEATURES-KERNELsSTRIDE" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["8x8x3", "8x4x3-4", "6x6x3-4-4", "8x8-4", "8x8x3-0"])
def test_networks_that_are_no_networks_are_refused(text, capsys):
    assert convolutions.main([f"--networks={text}"]) == 2
    assert f"--networks={text}: expected IMAGE-FEATURES-FEATURES-..." in capsys.readouterr().err
