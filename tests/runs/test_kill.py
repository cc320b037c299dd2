"""kill -9 at any moment, the same command again: what comes out equals a run that was never stopped, byte for byte."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT
from helpers.checkpoints import assert_same_arrays
from helpers.compiler import QUICK_COMPILER

STEPS = 600
COMMAND = (
    "--model=beta_vae", "--beta=1,4", "--seeds=0:2", "--population_strategy=members", "--average_decay=0.99",
    f"--steps={STEPS}", "--checkpoint_every=50", "--log_every=7", "--hidden=8", "--latent_dim=2", "--eval_samples=2",
    "--eval_images=10", "--no-figures",
)  # fmt: skip
PATIENCE = 300.0  # seconds for one process, on a machine that is busy with other things


def start(directory: pathlib.Path, compiled: pathlib.Path) -> subprocess.Popen:
    """The command as a user gives it; processes share what XLA compiles, so that starting again is quick."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(compiled), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return subprocess.Popen(
        [sys.executable, "experiments/run.py", *COMMAND, f"--out={directory}"],
        cwd=ROOT,
        env=os.environ | cache | {"XLA_FLAGS": QUICK_COMPILER},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen) -> str:
    """What a process printed that must end well."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return out


def progress(directory: pathlib.Path) -> int:
    """The step that the run has reported, STEPS + 1 once it is only to be evaluated; -1 before it is known as a run."""
    if (directory / "checkpoints" / str(STEPS)).exists():
        return STEPS + 1
    try:
        lines = (directory / "timings.jsonl").read_text().splitlines()
        return max((json.loads(line)["step"] for line in lines), default=0)
    except (OSError, ValueError):  # not there yet, or a line half written
        return 0 if (directory / "config.json").exists() else -1


def kill_at(process: subprocess.Popen, directory: pathlib.Path, step: int, delay: float) -> bool:
    """SIGKILL ``delay`` seconds after the run has come to ``step``; False where it was done before."""
    began = time.monotonic()
    while progress(directory) < step and process.poll() is None:
        assert time.monotonic() - began < PATIENCE, f"no sign of step {step}"
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "seed"), [(3, 0)])
def test_killed_and_started_again_equals_never_stopped(tmp_path, kills, seed):
    """Moments are drawn from before the first step to the evaluation, each up to a save's length after a step's report."""
    unbroken, killed, compiled = (tmp_path / name for name in ("whole", "killed", "compiled"))
    end(start(unbroken, compiled))
    draw = random.Random(seed)
    moments = sorted(draw.randint(-1, STEPS + STEPS // 10) for _ in range(kills))
    ended = [
        kill_at(start(killed, compiled), killed, min(step, STEPS + 1), 0.1 * draw.random() ** 2) for step in moments
    ]
    assert sum(ended) >= kills - 1, f"of the moments {moments} too few came before the end: {ended}"
    out = end(start(killed, compiled))
    assert f"continuing {killed} at step" in out
    assert_same_arrays(unbroken, killed)
    assert (unbroken / "metrics.jsonl").read_bytes() == (killed / "metrics.jsonl").read_bytes()
    resumed, expected = (json.loads((run / "summary.json").read_text()) for run in (killed, unbroken))
    assert resumed["members"] == expected["members"] and resumed["results"] == expected["results"]
    assert not [path.name for path in killed.iterdir() if path.name.startswith(".")]
