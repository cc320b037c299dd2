"""benchmarks/throughput.py from its flags to its files, and what it does with peers that train something else."""

import functools
import importlib
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from vaex.errors import UserError

pytestmark = pytest.mark.nightly

block = importlib.import_module("block")
peers = importlib.import_module("peers")
tables = importlib.import_module("tables")
throughput = importlib.import_module("throughput")
vaex_loop = importlib.import_module("vaex_loop")
workers = importlib.import_module("workers")
workloads = importlib.import_module("workloads")


def tiny(name):
    """The network in small; sides that are odd on the way down show what padding does to them."""
    changes = {"conv64": {"channels": (4, 8), "hidden": (8,)}, "residual": {"channels": 4, "latent_channels": 2}}
    workload = workloads.find(name)
    shapes = {"conv64": (11, 9, 1), "residual": (6, 5, 1)}
    config = {**workload.config, **changes.get(name, {})}
    return workload._replace(config=config, shape=shapes.get(name, workload.shape))


@functools.cache
def reference(name):
    return vaex_loop.parity(tiny(name))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "conv64", "residual"])
@pytest.mark.parametrize("name", peers.PEERS)
def test_peers_compute_vaex_s_losses(name, network):
    peer = peers.PEERS[name]
    for package in peer.needs:
        pytest.importorskip(package, reason=f'{package} is not installed; pip install -e ".[benchmarks]"')
    maker = getattr(importlib.import_module(peer.module), peer.maker)
    contestant = maker(**peers.as_options(tiny(network), 8, "float32", "cpu"))
    parity = reference(network)
    peers.check_losses(name, parity["losses"], contestant.check(parity))
    if network == "mlp" and name != "torch_compile":
        contestant.run(3)


@pytest.mark.slow
def test_the_reference_trains():
    first, second = reference("mlp")["losses"]
    assert second < first and reference("mlp")["noise"].shape == (2, vaex_loop.PARITY_BATCH, 16)
    assert abs(reference("mlp")["noise"].std() - 1) < 0.2


@pytest.mark.parametrize(
    "losses, message", [([1.001, 0.9], "before any update"), ([1.0, 0.905], "after one update"), ([np.nan, 0.9], "nan")]
)
def test_other_losses_are_refused(losses, message):
    with pytest.raises(UserError, match=message):
        peers.check_losses("torch", [1.0, 0.9], losses)


# --- a block ---------------------------------------------------------------------------------------------------------


class Pool:
    """Stands for workers whose steps take 1 ms a member; memory is out where members are built, or where 8 run."""

    def __init__(self):
        self.step = {}

    def get(self, framework, devices=1):
        return self

    def drop(self):
        self.step.clear()

    def ask(self, method, name="", steps=0, **arguments):
        if method == "build" and arguments.get("strategy") == "members":
            raise workers.OutOfMemory("no memory")
        if method == "build":
            self.step[name] = 1e-3 * arguments.get("members", 1)
            return {}
        if method == "run" and self.step[name] == 8e-3:
            raise workers.OutOfMemory("no memory")
        return (steps * self.step[name], 0.0) if method == "run" else {"flops": 1e6, "per_step": 1e9}


def test_a_block_goes_on_where_memory_does_not_suffice():
    setting = block.Setting("cpu", (1, 4, 8), ("vmap", "members"), ("flax_loop",), repeats=2, seconds=0.1)
    lines = []
    measured = block.measure(Pool(), workloads.find("mlp"), 10, "float32", setting, lines.append)
    rows = {(row["framework"], row["strategy"], row["population"]): row for row in measured}
    assert rows["vaex", "vmap", 4]["per_model_ratio"] == pytest.approx(1.0)
    assert rows["flax_loop", "", 1]["vaex_ratio"] == pytest.approx(1.0)
    lost = {key for key, row in rows.items() if row.get("failure") == "out of memory"}
    assert lost == {("vaex", "members", 4), ("vaex", "members", 8), ("vaex", "vmap", 8)} and len(rows) == 6
    assert "repeat 2 of 2: vaex vmap 4" in lines
    assert tables.markdown(measured).count("out of memory") == 3


# --- the command -----------------------------------------------------------------------------------------------------

TINY = ["--models=small", "--batch_sizes=4", "--seconds=0.005", "--device=cpu"]


@pytest.fixture
def small_peaks(monkeypatch):
    monkeypatch.setattr(throughput, "Setting", functools.partial(block.Setting, peak_size=(32, 1024)))


@pytest.mark.slow
def test_from_flags_to_files(tmp_path, capsys, small_peaks):
    flags = ["--repeats=2", "--population=1", "--peers=flax_loop_tuned", f"--out={tmp_path}"]
    assert throughput.main([*TINY, *flags]) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "throughput.json").read_text())
    rows = {(row["framework"], row["population"]): row for row in results["rows"]}
    assert list(rows) == [("vaex", 1), ("flax_loop_tuned", 1)]
    for (framework, members), row in rows.items():
        assert row["model_examples_per_second"] == pytest.approx(4 * members * row["steps_per_second"])
        assert row["spread"] is None and row["compile_seconds"] > 0 and row["memory_bytes"] > 0
        assert (row["vaex_ratio"] is None) == (framework == "vaex")
    assert results["machine"]["platform"] == "cpu" and results["machine"]["jax"]
    assert tables.markdown(results["rows"]) in (tmp_path / "throughput.md").read_text()
    assert "| flax_loop_tuned | 1 |" in printed
    assert (tmp_path / "throughput.png").read_bytes()[1:4] == b"PNG"
    assert throughput.main(["--compare", *[str(tmp_path / "throughput.json")] * 2]) == 0
    assert "| small | 4 | float32 | flax_loop_tuned | 1 |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_peer_that_trains_another_model_stops_everything(tmp_path, capsys, monkeypatch, small_peaks):
    (tmp_path / "wrong_peer.py").write_text(
        textwrap.dedent("""
            from peers.flax_loop import Loop

            class Averaged(Loop):
                def _loss(self, params, x, noise):
                    return super()._loss(params, x, noise) / 64

                def run(self, steps):
                    raise AssertionError("timed")
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(peers.PEERS, "wrong", peers.Peer("wrong_peer", "Averaged", "averages over pixels"))
    assert throughput.main([*TINY, "--peers=wrong", f"--out={tmp_path / 'out'}"]) == 2
    printed = capsys.readouterr()
    assert "wrong on small has a loss of" in printed.err and "nothing was timed" in printed.err
    assert printed.out == "" and list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--models=mpl"], "did you mean mlp"),
        (["--models="], "--models is empty"),
        (["--peers=torhc"], "did you mean torch"),
        (["--models=beta_vae", "--peers=flax_loop"], "no peer implements beta_vae"),
        (["--device=tpu", "--peers=torch"], "does not run on a tpu"),
        (["--device=gpu", "--peers=flax_loop_tuned"], "the allocator is the CPU's; use flax_loop"),
        (["--repeats=0"], "--repeats must be at least 1"),
        (["--seconds=nan"], "--seconds more than 0"),
        ([f"--out={__file__}"], "cannot be written"),
        (["--compare", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_invalid_flags_are_refused_in_one_line(flags, message, capsys, monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: object())  # as if all packages were there
    assert throughput.main(flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("throughput: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    "flag", ["--batch_sizes=0", "--batch_sizes=64x128", "--population=", "--precision=float8", "--strategies=unrolled"]
)
def test_values_that_are_none_are_refused(flag, capsys):
    with pytest.raises(SystemExit) as stop:
        throughput.main([flag])
    assert stop.value.code == 2 and "expected" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["torch", "torch_compile_tuned", "pythae"])
def test_a_missing_peer_names_the_extra(name, monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'not installed here; pip install -e "\.\[benchmarks\]"'):
        peers.find(name)


def test_help_loads_no_framework():
    code = "import sys, throughput; sys.argv = ['throughput.py', '--help']\ntry: throughput.main()\nexcept SystemExit: pass"
    code += "\nassert not {'jax', 'torch', 'matplotlib', 'flax'} & set(sys.modules), sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=throughput.__file__.rsplit("/", 1)[0], capture_output=True)
    assert done.returncode == 0, done.stderr
    for word in (*workloads.NETWORKS, *peers.PEERS, "beta_vae", "per-model rate", "--compare"):
        assert word in done.stdout.decode()
