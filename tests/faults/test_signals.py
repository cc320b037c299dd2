"""Signals that stop a run: what is at hand is saved, the exit code tells, and the run goes on with the same bits."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ROOT
from helpers.trained_runs import QUICK

import vaex
from vaex.errors import Interrupted, Terminated
from vaex.training import signals
from vaex.training.checkpoint import Checkpoints
from vaex.training.parts import names

STEPS = 100_000_000  # more than a test waits for
FLAGS = [f"--{name}={value}" for name, value in QUICK.items() if name != "steps"]
CODES = [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)]
X = np.random.default_rng(0).integers(0, 2, size=(100, 4, 4)).astype(np.uint8)


RESET = (  # a test run in the background hands down signals that are ignored
    "import os, signal, sys\n"
    "for name in ('SIGINT', 'SIGTERM', 'SIGHUP'): signal.signal(getattr(signal, name), signal.SIG_DFL)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


@pytest.fixture(autouse=True)
def usual_handlers():
    """No signal is ignored here, either."""
    usual = {number: signal.SIG_DFL for number in signals.CAUGHT} | {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def started(directory: pathlib.Path, *flags: str) -> subprocess.Popen:
    command = [
        sys.executable,
        str(ROOT / "experiments" / "run.py"),
        "--model=vae",
        f"--out={directory}",
        *FLAGS,
        *flags,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_steps(directory: pathlib.Path, process: subprocess.Popen) -> None:
    """Wait until the first checkpoint is there and rows are written."""
    rows, deadline = directory / "metrics.jsonl", time.monotonic() + 120
    while not (rows.exists() and rows.stat().st_size > 5000):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)


def state(directory: pathlib.Path) -> tuple[int | None, dict[str, np.ndarray]]:
    checkpoints = Checkpoints(directory / "checkpoints")
    latest, tree = checkpoints.latest(), checkpoints.read()
    checkpoints.close()
    keys = jax.dtypes.prng_key
    plain = {name: jax.random.key_data(x) if jnp.issubdtype(x.dtype, keys) else x for name, x in names(tree).items()}
    return latest, {name: np.asarray(leaf) for name, leaf in plain.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), CODES)
def test_a_signal_saves_the_steps_that_are_done(tmp_path, name, code):
    process = started(tmp_path / "run", f"--steps={STEPS}")
    wait_for_steps(tmp_path / "run", process)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=60)
    step, _ = state(tmp_path / "run")
    word = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    assert process.returncode == code, errors
    assert step and f"vaex: {word}: step {step} of {STEPS} is done, saved in {tmp_path / 'run'}" in errors
    assert "finishing the steps at hand" in errors and "Traceback" not in errors


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(tmp_path):
    process = started(tmp_path / "run", f"--steps={STEPS}")
    wait_for_steps(tmp_path / "run", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    step, _ = state(tmp_path / "run")
    for directory in ("run", "whole"):
        process = started(tmp_path / directory, f"--steps={step + 50}")
        assert process.wait(timeout=300) == 0, process.communicate()
        process.communicate()
    (latest, stopped), (_, whole) = state(tmp_path / "run"), state(tmp_path / "whole")
    assert latest == step + 50
    for name, values in whole.items():
        np.testing.assert_array_equal(stopped[name], values, err_msg=name)
    rows = [(tmp_path / directory / "metrics.jsonl").read_text() for directory in ("run", "whole")]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_a_second_signal_stops_at_once(tmp_path):
    """Also while the first one waits for a computation: the process has no time to save."""
    code = (
        "import hashlib\n"
        "from vaex.training.signals import watched\n"
        "with watched(ends_process=True) as interruption, interruption.deferred():\n"
        "    print('ready', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)\n"  # no handler of Python runs before it is done
    )
    with subprocess.Popen([sys.executable, "-c", RESET, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 143
        finally:
            process.kill()


class Sends(vaex.Callback):
    """Sends this process a signal at its first row."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_rows(self, *arguments: object) -> None:
        os.kill(os.getpid(), self.number)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, Interrupted), (signal.SIGTERM, Terminated)])
def test_python_saves_and_raises(tmp_path, number, error):
    before = [signal.getsignal(caught) for caught in signals.CAUGHT]
    with pytest.raises(error, match=f"of {STEPS} is done, saved in"):
        options = {"hidden": 4, "latent_dim": 2, "batch_size": 10, "progress": False, "out": tmp_path / "run"}
        vaex.train("vae", X, steps=STEPS, callbacks=[Sends(number)], **options)
    assert vaex.load(tmp_path / "run").step > 0
    assert [signal.getsignal(caught) for caught in signals.CAUGHT] == before


def test_outside_a_loop_a_signal_raises_and_is_not_lost_in_a_callback():
    with signals.watched() as interruption:
        with pytest.raises(Terminated, match="stopped by SIGTERM: the same command goes on") as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.code == 143 and not caught.value.saved
        with pytest.raises(Terminated):  # here it was swallowed
            interruption.check()


def test_no_traceback_is_printed_of_a_signal_in_a_collectors_callback(monkeypatch):
    """jax has such a callback; there nothing can be raised, and Python prints what was."""
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    class Collected:
        def __init__(self, then):
            self.then = then

        def __del__(self):
            self.then()

    with signals.watched() as interruption:
        Collected(lambda: signal.raise_signal(signal.SIGTERM))
        assert interruption.number == signal.SIGTERM and not reported
        with pytest.raises(Terminated):
            interruption.check()
        Collected(lambda: 1 / 0)
    assert [type(entry.exc_value) for entry in reported] == [ZeroDivisionError]
    Collected(lambda: 1 / 0)  # the hook is as before
    assert len(reported) == 2


def test_a_hook_that_is_installed_meanwhile_stays(monkeypatch):
    """As that of the first checkpoint, by which reads that orbax abandons are collected in silence."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    installed = [].append
    with signals.watched():
        sys.unraisablehook = installed
    assert sys.unraisablehook is installed


def test_in_a_loop_the_first_signal_waits_and_the_second_raises(capfd):
    with signals.watched() as interruption, interruption.deferred():
        signal.raise_signal(signal.SIGINT)
        assert interruption.number == signal.SIGINT
        assert "finishing the steps at hand, then saving" in capfd.readouterr().err
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_ignored_signals_and_other_threads_stay_as_they_are():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.watched() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.number
            handlers = []

            def inner() -> None:
                with signals.watched():
                    handlers.append(signal.getsignal(signal.SIGTERM))

            thread = threading.Thread(target=inner)
            thread.start()
            thread.join()
            assert handlers == [signal.getsignal(signal.SIGTERM)]
    finally:
        signal.signal(signal.SIGHUP, before)
