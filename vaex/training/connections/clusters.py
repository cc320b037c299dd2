"""What a cluster's manager says of the processes that it started: how many, which of them this one is, where the first is."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vaex.errors import UserError

ADDRESS = ("JAX_COORDINATOR_ADDRESS", "COORDINATOR_ADDRESS")  # jax's name, and that of Kubeflow's JAX jobs
PORT = ("JAX_COORDINATOR_PORT", "COORDINATOR_PORT")
COUNT = ("JAX_NUM_PROCESSES", "NUM_PROCESSES")
# the last: of a pod of an indexed job of Kubernetes
NUMBER = ("JAX_PROCESS_ID", "PROCESS_ID", "JOB_COMPLETION_INDEX")
# variables of managers that tell no address: number of processes, of this one, of this one on its machine
RANKS = (
    ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"),
)
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
DEFAULT_PORT = "8476"


class Seat(NamedTuple):
    """The place of a process among those of a run.

    Attributes:
      address: HOST:PORT of the first process.
      num_processes, process_id: how many, and which of them this is.
      local_devices: numbers of the devices that it uses, of its machine's; None for all that it sees.
    """

    address: str
    num_processes: int
    process_id: int
    local_devices: tuple[int, ...] | None = None


def detect(address: str | None = None, *, timeout: float = 300.0, environment: Mapping[str, str] | None = None) -> Seat:
    """Return the seat of this process.

    In this order: the variables ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``, for the last of which
    the index of a pod in a Kubernetes job stands in; where the address is given, the ranks of Slurm, Open MPI or MPICH; else what
    jax reads off Slurm, Open MPI, Kubernetes (by its interface) or a TPU pod.

    Args:
      address: HOST:PORT of the first process, where it is known.
      timeout: seconds in which a manager that is asked must answer.
      environment: variables; by default those of this process.
    Raises: UserError where no manager says what is missing, or a number cannot be read.
    """
    variables = os.environ if environment is None else environment
    host = _first(variables, ADDRESS)
    if address is None and host is not None:
        address = host if ":" in host else f"{host}:{_first(variables, PORT) or DEFAULT_PORT}"
    count, number = _first(variables, COUNT), _first(variables, NUMBER)
    if address is not None and count is not None and number is not None:
        return _seat(address, count, number, None)
    if address is not None:
        for size, rank, local in RANKS:
            if size in variables and rank in variables:
                return _seat(address, variables[size], variables[rank], _own_device(variables, variables.get(local)))
    seat = _asked_of_jax(address, timeout) if environment is None else None
    if seat is None:
        lacking = "the address" if address is None else "how many processes there are, or which this one is"
        raise UserError(
            f"--distributed: nothing tells {lacking}: no cluster's manager has started this process (Slurm, Open MPI, Kubernetes, "
            "a TPU pod), and JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID are not set; set these, or give "
            "--coordinator_address=HOST:PORT, --num_processes and --process_id"
        )
    return seat._replace(local_devices=_own_device(variables, _local(seat)))


def _first(variables: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((variables[name] for name in names if variables.get(name)), None)


def _seat(address: str, count: str, number: str, local_devices: tuple[int, ...] | None) -> Seat:
    try:
        return Seat(address, int(count), int(number), local_devices)
    except ValueError:
        raise UserError(
            f"--distributed: expected whole numbers of processes and of this process, got {count!r} and {number!r}; correct the "
            "variables that say so"
        ) from None


def _local(seat: Seat) -> str | None:
    return None if seat.local_devices is None or len(seat.local_devices) != 1 else str(seat.local_devices[0])


def _own_device(variables: Mapping[str, str], local: str | None) -> tuple[int, ...] | None:
    """The device of a process that shares its machine with others, unless it sees a single one anyway."""
    sees = _first(variables, VISIBLE)
    if local is None or not local.isdigit() or (sees is not None and len(sees.split(",")) == 1):
        return None
    return (int(local),)


def _asked_of_jax(address: str | None, timeout: float) -> Seat | None:
    """What jax reads off the cluster's environment, which no public function of it tells."""
    with contextlib.suppress(ImportError, AttributeError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a package to ask Kubernetes is missing: our message says more
        from jax._src.clusters import ClusterEnv

        detected = ClusterEnv.auto_detect_unset_distributed_params(
            address, None, None, None, None, max(1, int(timeout))
        )
        where, count, number, devices = detected[:4]
        if where is not None and count is not None and number is not None:
            return Seat(where, int(count), int(number), None if devices is None else tuple(devices))
    return None
