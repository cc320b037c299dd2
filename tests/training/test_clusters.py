"""vaex.training.connections.clusters: who a process is, by what a cluster's manager tells it."""

import pytest

from vaex.errors import UserError
from vaex.training.connections.clusters import Seat, detect

SLURM = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
POD = {"JAX_COORDINATOR_ADDRESS": "vaex-0.vaex:8476", "JAX_NUM_PROCESSES": "4", "JOB_COMPLETION_INDEX": "3"}
KUBEFLOW = {"COORDINATOR_ADDRESS": "vaex-0", "COORDINATOR_PORT": "6666", "NUM_PROCESSES": "4", "PROCESS_ID": "3"}


@pytest.mark.parametrize(
    ("address", "environment", "expected"),
    [
        (None, POD, Seat("vaex-0.vaex:8476", 4, 3)),
        (None, KUBEFLOW, Seat("vaex-0:6666", 4, 3)),
        (None, {**POD, "JAX_PROCESS_ID": "2"}, Seat("vaex-0.vaex:8476", 4, 2)),
        (None, {**POD, "JAX_COORDINATOR_ADDRESS": "first"}, Seat("first:8476", 4, 3)),
        ("host:1", POD, Seat("host:1", 4, 3)),
        ("host:1", SLURM, Seat("host:1", 4, 3, (1,))),
        ("host:1", OPEN_MPI, Seat("host:1", 4, 3, (1,))),
        ("host:1", {"PMI_SIZE": "4", "PMI_RANK": "3"}, Seat("host:1", 4, 3)),
        ("host:1", {**SLURM, "CUDA_VISIBLE_DEVICES": "1"}, Seat("host:1", 4, 3)),
        ("host:1", {**SLURM, "CUDA_VISIBLE_DEVICES": "0,1"}, Seat("host:1", 4, 3, (1,))),
    ],
)
def test_a_manager_says_who_a_process_is(address, environment, expected):
    assert detect(address, environment=environment) == expected


@pytest.mark.parametrize(
    ("address", "environment", "message"),
    [
        (None, {}, "nothing tells the address"),
        (None, {"JOB_COMPLETION_INDEX": "3"}, "nothing tells the address"),
        ("host:1", {"JAX_NUM_PROCESSES": "4"}, "how many processes there are, or which this one is"),
        (None, {**POD, "JAX_NUM_PROCESSES": "four"}, "expected whole numbers"),
    ],
)
def test_what_is_not_told_is_named(address, environment, message):
    with pytest.raises(UserError, match=message):
        detect(address, environment=environment)


def test_jax_reads_the_variables_of_slurm(monkeypatch):
    for name, value in {**SLURM, "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[08-09]"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seat = detect()
    assert (seat.num_processes, seat.process_id, seat.local_devices) == (4, 3, (1,))
    assert seat.address.startswith("node08:")
