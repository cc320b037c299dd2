"""Settings of jax's own that a run meets."""

import os
import subprocess
import sys

import jax
import pytest
from helpers import ROOT
from helpers.trained_runs import vaex as command

from vaex.errors import UserError

FLAGS = ("--model=vae", "--no-figures")


def test_without_compilation_training_is_refused(tmp_path):
    with jax.disable_jit():
        ended = command(tmp_path / "run", *FLAGS)
    assert ended.code == 2 and "unset JAX_DISABLE_JIT" in ended.err and not (tmp_path / "run").exists()


def test_without_compilation_training_from_python_is_refused():
    import numpy as np

    import vaex

    with jax.disable_jit(), pytest.raises(UserError, match="jax is told not to compile; unset JAX_DISABLE_JIT"):
        vaex.train("vae", np.eye(4), steps=1)


@pytest.mark.slow
def test_a_platform_that_is_not_there(tmp_path):
    command_line = [sys.executable, "experiments/run.py", *FLAGS, "--steps=5", f"--out={tmp_path / 'run'}"]
    environment = os.environ | {"JAX_PLATFORMS": "no_such_platform"}
    done = subprocess.run(command_line, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "Unable to initialize backend 'no_such_platform'" in done.stderr and "check JAX_PLATFORMS" in done.stderr
