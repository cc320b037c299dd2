"""benchmarks/accelerator.sh: what it checks, and that all of it runs where a CPU stands in for the accelerator."""

import importlib
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import ROOT

pytestmark = pytest.mark.nightly

check = importlib.import_module("accelerators.check")
programs = importlib.import_module("accelerators.programs")
workloads = importlib.import_module("workloads")
SCRIPT = ROOT / "benchmarks" / "accelerator.sh"


@pytest.mark.slow
def test_a_device_that_computes_something_else_is_found(monkeypatch):
    (row,) = check.check_model("small", jax.devices()[0], float("inf"))
    assert row["failure"] is None and row["differences"] == [0.0, 0.0]
    true = check.losses
    monkeypatch.setattr(
        check,
        "losses",
        lambda part, device: [1.01 * x if device is jax.devices()[1] else x for x in true(part, device)],
    )
    (row,) = check.check_model("small", jax.devices()[1], float("inf"))
    assert row["failure"] == "losses differ" and row["differences"][0] > 0.005


def test_models_that_the_minutes_do_not_reach_are_named():
    (row,) = check.check_model("vae", jax.devices()[0], -1.0)
    assert row == {"what": "vae", "failure": "not reached"}
    assert check.markdown([row]).splitlines()[-1] == "| vae | - | not reached |"


def test_keys_and_arrays_come_back_from_the_host():
    key, array = jax.random.key(3), jax.numpy.arange(3.0)
    assert (jax.random.key_data(check._through_host(key)) == jax.random.key_data(key)).all()
    np.testing.assert_array_equal(check._through_host(array), array)


def test_the_script_is_sound_and_says_how_it_is_called():
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SCRIPT)], check=True)
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode != 0 and "usage: accelerator.sh OUT" in done.stderr


@pytest.mark.slow
def test_everything_runs_and_leaves_tables(tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    env |= {"QUICK": "1", "JAX_PLATFORMS": "cpu", "PYTHON": sys.executable}
    done = subprocess.run(["bash", str(SCRIPT), str(tmp_path), "cpu"], env=env, capture_output=True, text=True)
    report = (tmp_path / "accelerator.md").read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "| vae | 0.0e+00 then 0.0e+00 | as it should be |" in report
        and "| small, resumed | - | as it should be |" in report
    )
    assert "| vaex | 1 |" in report and "```bash" in report
    assert {"check.json", "throughput.json", "accelerator.md"} <= {path.name for path in tmp_path.iterdir()}
