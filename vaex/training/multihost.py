"""Several processes that train one run together: joining them, deciding for all, and bringing results to each.

With one process nothing here communicates. Processes must run the same steps, so whatever depends on a clock or on the disk is
decided by the first and told to the others.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree
from vaex.errors import UserError

FAILED = -1


def join(address: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the processes of a run, before jax is used for anything else; without an address, stay alone.

    Args:
      address: "auto", where the cluster's manager tells jax (Slurm, Open MPI, Kubernetes, a TPU pod); else HOST:PORT of the
        first process.
      num_processes, process_id: how many, and which of them this is; not with "auto".
    Raises: UserError for a missing or contradicting part, or where the others are not reached.
    """
    if address is None:
        if num_processes is not None or process_id is not None:
            raise UserError("--num_processes and --process_id need --coordinator_address=HOST:PORT; give it, or none")
        return
    given = num_processes is not None and process_id is not None
    if address == "auto" and (num_processes is not None or process_id is not None):
        raise UserError(
            "--coordinator_address=auto finds the number of processes itself; leave the other two flags out"
        )
    if address != "auto" and not (given and ":" in address):
        raise UserError(
            f"--coordinator_address={address}: expected HOST:PORT of the first process, with --num_processes and --process_id"
        )
    if num_processes is not None and process_id is not None and not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id}: expected 0 to {num_processes - 1}, one for each of --num_processes"
        )
    try:
        if address == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(address, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--coordinator_address={address}: the processes did not come together ({str(error).splitlines()[0]}); start all of "
            "them within five minutes, and give an address that all of them reach"
        ) from None


def leave() -> None:
    """Part from the others, once all have come here; afterwards each may end when it likes."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def is_first() -> bool:
    """Return True if this process is the one that writes files and talks."""
    return jax.process_index() == 0


def agree(*values: int) -> tuple[int, ...]:
    """The first process's values, in all of them.

    Example:
      >>> agree(3, 4)
      (3, 4)
    """
    if jax.process_count() == 1:
        return values
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return tuple(int(value) for value in broadcast_one_to_all(np.array(values, np.int32)))


def decide(choose: Callable[[], int]) -> int:
    """What ``choose`` returns (not negative), called in the first process only; where it raises there, all stop.

    Raises: what ``choose`` raises; UserError in the others.
    Example:
      >>> decide(lambda: 2)
      2
    """
    if not is_first():
        (chosen,) = agree(0)
        if chosen == FAILED:
            raise UserError("the first process stopped; its message says why")
        return chosen
    try:
        chosen = choose()
    except BaseException:
        agree(FAILED)
        raise
    agree(chosen)
    return chosen


def fetch(tree: PyTree) -> PyTree:
    """Arrays that are divided over processes, whole in each of them; others as they are.

    Example:
      >>> fetch({"w": jnp.ones(2)})["w"].tolist()
      [1.0, 1.0]
    """
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(_whole, tree)


def _whole(leaf: jax.Array) -> jax.Array:
    from jax.experimental.multihost_utils import process_allgather

    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_whole(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    here = leaf.is_fully_addressable or leaf.is_fully_replicated
    return jnp.asarray(np.asarray(leaf) if here else process_allgather(leaf, tiled=True))
