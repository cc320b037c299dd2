"""Several processes that train one run: the numbers of one process, each reading only its share."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from helpers import ROOT
from helpers.compiler import QUICK_COMPILER
from helpers.ports import free_port
from helpers.synthetic import ARRAYS, MODEL, HParams
from helpers.worker import BATCH_SIZE, STEPS, flat

from vaex.data import resident_feed
from vaex.errors import LostProcessError, UserError
from vaex.training import loop, multihost, population
from vaex.training.hyperparameters import as_schedules
from vaex.training.step import gradient_algorithm


def start(
    commands: list[list[str]], devices: int = 2, variables: Sequence[Mapping[str, str]] | None = None
) -> list[subprocess.Popen]:
    """Start commands at once, each with so many virtual devices, and with environment variables of its own."""
    # the second flag: compiling as this process does
    flags = f"--xla_force_host_platform_device_count={devices} {QUICK_COMPILER}"
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=env | dict(more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, more in zip(commands, variables or [{}] * len(commands), strict=True)
    ]


def together(commands: list[list[str]], devices: int = 2) -> list[subprocess.CompletedProcess]:
    """Run commands at once."""
    return ended(start(commands, devices))


def ended(started: list[subprocess.Popen]) -> list[subprocess.CompletedProcess]:
    """What processes print, and how they end."""
    try:
        outputs = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()  # closes its pipes
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *output)
        for process, output in zip(started, outputs, strict=True)
    ]


@pytest.fixture(scope="module", params=[2, 4])
def recorded(request, tmp_path_factory):
    """The arrays that each of the processes of worker.py wrote, which have four devices in all."""
    count, folder, port = request.param, tmp_path_factory.mktemp("together"), free_port()
    commands = [["-m", "helpers.worker", str(port), str(count), str(process), str(folder)] for process in range(count)]
    for done in together(commands, devices=4 // count):
        assert done.returncode == 0, done.stderr[-2000:]
    return [dict(np.load(folder / f"{process}.npz")) for process in range(count)]


@pytest.fixture(scope="module")
def alone():
    """Four members, one after the other in this process."""
    values = population.stack([as_schedules(HParams()) for _ in range(4)])
    stepper = gradient_algorithm(MODEL)
    states = population.init(stepper, range(4), values, {"x": ARRAYS["x"][:BATCH_SIZE]})
    feed = resident_feed(ARRAYS, BATCH_SIZE, 1)
    program, carry = loop.compile_program(stepper, feed, states, log_every=5, strategy="members")
    return flat("alone", loop.fit(program, carry, 0, STEPS).state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "tolerance"),
    [("divided", 1e-5), ("resumed", 1e-5), ("members", 0), ("both", 1e-5), ("fsdp", 1e-5), ("all_three", 1e-5)],
)
def test_processes_train_what_one_does(recorded, alone, part, tolerance):
    for process in recorded:
        leaves = [name for name in process if name.startswith(part)]
        assert len(leaves) == len(alone)
        for index, expected in enumerate(alone.values()):
            values = process[f"{part}_{index}"]
            np.testing.assert_allclose(values, expected[: len(values)], rtol=tolerance, atol=tolerance)
            np.testing.assert_array_equal(values, recorded[0][f"{part}_{index}"])


@pytest.mark.slow
def test_each_process_reads_its_share_of_every_batch(recorded):
    one_row_for_shapes = BATCH_SIZE
    for process in recorded:
        # the window of the first compilation holds one step, the run's all steps; shares are padded, not read again
        assert process["taken"] == one_row_for_shapes + (1 + STEPS) * BATCH_SIZE // len(recorded)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_all(recorded):
    assert len({str(process["error"]) for process in recorded}) == 1
    assert "member 0 at step" in str(recorded[0]["error"])


def commands(out, *flags, first=(), second=()):
    """The command of each of two processes, with flags of their own."""
    fixed = ["--model=vae", "--hidden=8", "--memory=host", "--no-figures", "--eval_samples=2", f"--out={out}"]
    where = [f"--coordinator_address=localhost:{free_port()}", "--num_processes=2"]
    command = [str(ROOT / "experiments" / "run.py"), *fixed, *flags, *where]
    return [[*command, *first, "--process_id=0"], [*command, *second, "--process_id=1"]]


@pytest.mark.slow
def test_the_command_line_trains_continues_and_finishes(tmp_path):
    def both(*more):
        return together(commands(tmp_path / "run", *more))

    first, second = both("--steps=30")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "nats per example" in first.stdout and "nats" not in second.stdout
    first, second = both("--steps=40")
    assert (first.returncode, second.returncode) == (0, 0) and "at step 30 of 40" in first.stdout
    first, second = both("--steps=40", "--latent_dim=3")
    assert (first.returncode, second.returncode) == (2, 2)
    assert "another configuration: latent_dim" in first.stderr and "first process stopped" in second.stderr
    first, second = both("--steps=40", "--batch_size=7", "--overwrite")
    assert (first.returncode, second.returncode) == (2, 2) and "without work" in first.stderr


def of_slurm(process, port):
    """Variables of a process that Slurm started, two on one machine."""
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "JAX_COORDINATOR_PORT": str(port)}
    return step | {"SLURM_NTASKS": "2", "SLURM_PROCID": str(process), "SLURM_LOCALID": str(process)}


def of_kubernetes(process, port):
    """Variables of a pod of an indexed job, as in examples/launch."""
    job = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
    return job | {"JOB_COMPLETION_INDEX": str(process)}


@pytest.mark.slow
@pytest.mark.parametrize("manager", [of_slurm, of_kubernetes])
def test_processes_of_a_manager_find_each_other_by_one_command(tmp_path, manager):
    flags = ["--model=vae", "--hidden=8", "--steps=20", "--no-figures", "--eval_samples=2", f"--out={tmp_path / 'run'}"]
    command, port = [str(ROOT / "experiments" / "run.py"), *flags, "--distributed"], free_port()
    first, second = ended(start([command] * 2, variables=[manager(process, port) for process in (0, 1)]))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "nats per example" in first.stdout and "nats" not in second.stdout
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["devices_used"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("differs", ["flag", "data"])
def test_unlike_processes_are_refused_in_both_by_one_line(tmp_path, differs):
    """The second has another learning rate, or another file of the same name."""
    first, second = ["--learning_rate=0.001"], ["--learning_rate=0.01"]
    message = "process 1 of 2 differs: --learning_rate is 0.01, and 0.001 in process 0"
    if differs == "data":
        for number in (0, 1):
            (tmp_path / str(number)).mkdir()
            np.savez(tmp_path / str(number) / "mine.npz", x=np.random.default_rng(number).random((64, 6, 6)))
        first, second = ([f"--dataset={tmp_path / name / 'mine.npz'}"] for name in "01")
        message = "process 1 of 2 differs: the data's"
    began = time.monotonic()
    for done in together(commands(tmp_path / "run", "--steps=30", first=first, second=second)):
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("vaex:")]
        assert message in line and "Traceback" not in done.stderr
    assert time.monotonic() - began < 60
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_within_a_minute_with_one_line(tmp_path, victim):
    started = start(commands(tmp_path / "run", "--steps=1000000", "--checkpoint_every=20"))
    began = time.monotonic()
    while not list((tmp_path / "run" / "checkpoints").glob("[1-9]*")) and time.monotonic() - began < 120:
        time.sleep(0.1)
    killed = time.monotonic()
    started[victim].send_signal(signal.SIGKILL)
    other = ended(started)[1 - victim]
    assert time.monotonic() - killed < 60
    assert other.returncode == LostProcessError.exit_code, other.stderr
    (line,) = [line for line in other.stderr.splitlines() if line.startswith("vaex:") and "step" not in line[:20]]
    assert f"process {victim} has ended" in line
    assert "Traceback" not in other.stderr and "stack trace" not in other.stderr


def wait_for_rows(directory: pathlib.Path) -> None:
    """Wait until the processes of a run train, two minutes at most."""
    began, rows = time.monotonic(), directory / "metrics.jsonl"
    while not (rows.exists() and rows.stat().st_size > 1000) and time.monotonic() - began < 120:
        time.sleep(0.1)


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_stops_all(tmp_path):
    started = start(commands(tmp_path / "run", "--steps=1000000"))
    wait_for_rows(tmp_path / "run")
    started[1].send_signal(signal.SIGTERM)
    for done in ended(started):
        assert done.returncode == 143, done.stderr
        assert "of 1000000 is done, saved in" in done.stderr and "Traceback" not in done.stderr
    assert list((tmp_path / "run" / "checkpoints").glob("[1-9]*"))


IN_A_THREAD = (  # where vaex takes no signals, and jax's preemption service hears of SIGTERM
    "import os, sys, threading\n"
    "from vaex.cli.main import main\n"
    "codes = []\n"
    "thread = threading.Thread(target=lambda: codes.append(main(sys.argv[1:])))\n"
    "thread.start(); thread.join(); sys.stderr.flush(); os._exit(codes[0])"
)


def hung(done: list[subprocess.CompletedProcess]) -> bool:
    """Whether jax's service never agreed on a step, until its heartbeats ended the processes: 3 of 70 notices (jaxlib 0.10.2)."""
    signs = (
        "Barrier Id: PREEMPTION_SYNC_BARRIER",
        "nothing was heard of it for",
    )  # of the service, or of the other process
    return any(sign in process.stderr for process in done for sign in signs)


@pytest.mark.slow
def test_a_notice_to_jax_saves_and_stops_all(tmp_path):
    for attempt in range(3):
        run = tmp_path / str(attempt)
        started = start([["-c", IN_A_THREAD, *command[1:]] for command in commands(run, "--steps=1000000")])
        wait_for_rows(run)
        started[1].send_signal(signal.SIGTERM)
        if not hung(processes := ended(started)):
            break
    for done in processes:
        assert done.returncode == 143, done.stderr
        assert "stopped by SIGTERM: step" in done.stderr and "of 1000000 is done, saved in" in done.stderr
    assert list((run / "checkpoints").glob("[1-9]*"))


@pytest.mark.slow
def test_a_member_that_diverges_is_left_by_all_processes(tmp_path):
    rates = ("--optimizer=sgd", "--learning_rate=0.001,hold:0.001:12+1e30", "--seeds=0:2", "--steps=20")
    first, second = together(commands(tmp_path / "run", *rates))
    assert (first.returncode, second.returncode) == (4, 4), first.stderr + second.stderr
    assert "diverged at step 13" in first.stderr and "Traceback" not in first.stderr + second.stderr
    again, other = together(commands(tmp_path / "run", *rates[:3], "--steps=30"))
    assert (again.returncode, other.returncode) == (4, 4) and "at step 20 of 30" in again.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((None, 2, None), "--num_processes and --process_id need --coordinator_address"),
        (("auto", 2, 0), "leave the other two flags out"),
        (("localhost:1234", None, 0), "expected HOST:PORT of the first process, with --num_processes"),
        (("localhost", 2, 0), "expected HOST:PORT"),
        (("localhost:1234", 2, 2), "--process_id=2: expected 0 to 1"),
        (("auto", None, None), "nothing tells the address"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        multihost.initialize(*flags)


def test_one_process_decides_alone_and_its_errors_pass():
    assert multihost.is_first() and multihost.agree(1, 2) == (1, 2) and multihost.decide(lambda: 1) == 1

    def fail():
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        multihost.decide(fail)
