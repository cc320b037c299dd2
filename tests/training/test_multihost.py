"""Two processes that train one run: the numbers of one process, each reading only its share."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT
from helpers.compiler import OLDER_EMITTERS
from helpers.synthetic import ARRAYS, MODEL, HParams
from helpers.worker import BATCH_SIZE, STEPS, flat

from vaex.data import resident_feed
from vaex.errors import UserError
from vaex.training import loop, multihost, population
from vaex.training.hyperparameters import as_schedules
from vaex.training.step import gradient_algorithm


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def together(commands: list[list[str]]) -> list[subprocess.CompletedProcess]:
    """Run two commands at once, each with two virtual devices."""
    # the second flag: compiling as this process does
    flags = f"--xla_force_host_platform_device_count=2 {OLDER_EMITTERS}"
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    started = [
        subprocess.Popen([sys.executable, *command], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    try:
        outputs = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()  # closes its pipes
    return [
        subprocess.CompletedProcess(command, process.returncode, *output)
        for command, process, output in zip(commands, started, outputs, strict=True)
    ]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The arrays that each of the two processes of worker.py wrote."""
    folder, port = tmp_path_factory.mktemp("two"), free_port()
    for done in together([["-m", "helpers.worker", str(port), str(process), str(folder)] for process in (0, 1)]):
        assert done.returncode == 0, done.stderr[-2000:]
    return [dict(np.load(folder / f"{process}.npz")) for process in (0, 1)]


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
@pytest.mark.parametrize(("part", "tolerance"), [("divided", 1e-5), ("resumed", 1e-5), ("members", 0)])
def test_two_processes_train_what_one_does(recorded, alone, part, tolerance):
    for process in recorded:
        leaves = [name for name in process if name.startswith(part)]
        assert len(leaves) == len(alone)
        for index, expected in enumerate(alone.values()):
            values = process[f"{part}_{index}"]
            np.testing.assert_allclose(values, expected[: len(values)], rtol=tolerance, atol=tolerance)
            np.testing.assert_array_equal(values, recorded[0][f"{part}_{index}"])


@pytest.mark.slow
def test_each_process_reads_its_half_of_every_batch(recorded):
    one_row_for_shapes = BATCH_SIZE
    for process in recorded:
        # the window of the first compilation holds one step, the run's all steps; shares are padded, not read again
        assert process["taken"] == one_row_for_shapes + (1 + STEPS) * BATCH_SIZE // 2


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_all(recorded):
    assert str(recorded[0]["error"]) == str(recorded[1]["error"])
    assert "member 0 at step" in str(recorded[0]["error"])


@pytest.mark.slow
def test_the_command_line_trains_continues_and_finishes(tmp_path):
    flags = [
        "--model=vae",
        "--hidden=8",
        "--memory=host",
        "--no-figures",
        "--eval_samples=2",
        f"--out={tmp_path / 'run'}",
    ]

    def both(*more):
        where = f"--coordinator_address=localhost:{free_port()}"
        command = [str(ROOT / "experiments" / "run.py"), *flags, *more, where, "--num_processes=2"]
        return together([[*command, f"--process_id={process}"] for process in (0, 1)])

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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((None, 2, None), "--num_processes and --process_id need --coordinator_address"),
        (("auto", 2, 0), "leave the other two flags out"),
        (("localhost:1234", None, 0), "expected HOST:PORT of the first process, with --num_processes"),
        (("localhost", 2, 0), "expected HOST:PORT"),
        (("localhost:1234", 2, 2), "--process_id=2: expected 0 to 1"),
        (("auto", None, None), "did not come together"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        multihost.join(*flags)


def test_one_process_decides_alone_and_its_errors_pass():
    assert multihost.is_first() and multihost.agree(1, 2) == (1, 2) and multihost.decide(lambda: 1) == 1

    def fail():
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        multihost.decide(fail)
