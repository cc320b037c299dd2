"""Several processes that train one run together: joining them, deciding for all, and bringing results to each.

With one process nothing here communicates. Processes must run the same steps, so whatever depends on a clock or on the disk is
decided by the first and told to the others.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree
from vaex.errors import UserError
from vaex.training.connections import clusters
from vaex.training.connections.rendezvous import Partners, Relay, meet
from vaex.training.connections.wire import host_and_port

FAILED = -1
TIMEOUT = 300.0  # seconds to wait for the other processes
_partners: Partners | None = None  # links to the others, of a run that this process has joined
_looks = 0  # calls of ``is_preempted``


def initialize(
    address: str | None,
    num_processes: int | None,
    process_id: int | None,
    *,
    detect: bool = False,
    timeout: float = TIMEOUT,
    card: Mapping[str, str] | None = None,
) -> None:
    """Join the processes of a run, before jax is used for anything else; without an address, stay alone.

    Args:
      address: HOST:PORT of the first process; "auto" is None with ``detect``.
      num_processes, process_id: how many, and which of them this is; not with ``detect``.
      detect: find what is not given, as ``clusters.detect`` does.
      timeout: seconds to wait for the others.
      card: what must be equal in all, as ``require_alike`` takes it.
    Raises: UserError for a missing or contradicting part, where a process does not come, or where they differ.
    """
    global _partners
    detect, address = detect or address == "auto", None if address == "auto" else address
    if address is None and not detect:
        if num_processes is not None or process_id is not None:
            raise UserError("--num_processes and --process_id need --coordinator_address=HOST:PORT; give it, or none")
        return
    local_devices = None
    if detect:
        if num_processes is not None or process_id is not None:
            raise UserError("--distributed finds the number of processes itself; leave the other two flags out")
        address, num_processes, process_id, local_devices = clusters.detect(address, timeout=timeout)
    elif num_processes is None or process_id is None or ":" not in str(address):
        raise UserError(
            f"--coordinator_address={address}: expected HOST:PORT of the first process, with --num_processes and --process_id"
        )
    assert address is not None and num_processes is not None and process_id is not None
    host_and_port(address)
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id}: expected 0 to {num_processes - 1}, one for each of --num_processes"
        )
    _partners = meet(address, num_processes, process_id, timeout)
    relay = Relay(address, timeout) if process_id else None
    try:
        if card is not None:
            require_alike(card)
        jax.distributed.initialize(
            address if relay is None else relay.address,
            num_processes,
            process_id,
            local_devices,
            initialization_timeout=max(1, int(timeout)),
        )
    except (RuntimeError, ValueError) as error:
        stop(error)
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"--coordinator_address={address}: the processes did not come together ({str(error).splitlines()[0]}); give an address "
            "that all of them reach, and start them before jax is used"
        ) from None


def leave() -> None:
    """Part from the others, once all have come here; afterwards each may end when it likes."""
    global _partners
    if jax.process_count() > 1:
        jax.distributed.shutdown()
    if _partners is not None:
        _partners.part()
        _partners = None


def stop(error: BaseException) -> None:
    """Tell the others that this process stops for an error, which says why; they stop as well.

    Raises: LostProcessError in its place, where the error comes of another process that is gone.
    """
    global _partners
    if _partners is None:
        return
    try:
        cause: BaseException | None = error
        while isinstance(cause, UserError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:  # no check of ours: a computation, perhaps for want of a process
            check_others()
    finally:
        _partners.fail(str(error) or type(error).__name__)
        _partners = None


def check_others() -> None:
    """See whether another process is gone, after a failure of something that takes all.

    Raises: LostProcessError, which names it.
    """
    if _partners is not None:
        _partners.check(wait=2.0)


def gather(value: object) -> list[Any]:
    """What each process gives, in their order.

    Args:
      value: a JSON value.
    Example:
      >>> gather({"seed": 1})
      [{'seed': 1}]
    """
    if _partners is not None:
        return _partners.gather(value)
    if jax.process_count() == 1:
        return [value]
    from jax.experimental.multihost_utils import process_allgather

    raw = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = np.asarray(process_allgather(np.array([len(raw)]))).reshape(-1)
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(raw)] = raw
    rows = np.asarray(process_allgather(padded)).reshape(len(lengths), -1)
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


def require_alike(card: Mapping[str, str]) -> None:
    """Compare what must be equal in all processes; all call this at once.

    Args:
      card: name -> value as text, such as a flag.
    Raises: UserError, the same in all, that names a process and what differs.
    Example:
      >>> require_alike({"--beta": "4"})  # one process: nothing to compare
    """
    cards = gather(dict(card))
    for number, other in enumerate(cards):
        names = [name for name in sorted(cards[0].keys() | other.keys()) if cards[0].get(name) != other.get(name)]
        if names:
            different = "; ".join(
                f"{name} is {other.get(name, 'not given')}, and {cards[0].get(name, 'not given')} in process 0"
                for name in names[:4]
            )
            raise UserError(
                f"process {number} of {len(cards)} differs: {different}{'; ...' if names[4:] else ''}; start all with the same "
                "flags, data and versions"
            )


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


def largest(*values: int) -> tuple[int, ...]:
    """The largest of each value over all processes.

    Example:
      >>> largest(3, 4)
      (3, 4)
    """
    if jax.process_count() == 1:
        return values
    from jax.experimental.multihost_utils import process_allgather

    rows = np.asarray(process_allgather(np.array(values, np.int32))).reshape(-1, len(values))
    return tuple(int(value) for value in rows.max(axis=0))


def is_preempted() -> bool:
    """Return True once, at the same call in all processes, after jax's preemption service has heard that one will be stopped.

    All processes call this equally often. A signal that this process takes itself does not come to the service.

    Example:
      >>> is_preempted()  # one process: jax has no such service
      False
    """
    global _looks
    from jax.experimental.multihost_utils import reached_preemption_sync_point

    _looks += 1
    with contextlib.suppress(RuntimeError):  # jax_enable_preemption_service is off
        return reached_preemption_sync_point(_looks)
    return False


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


def gathered(tree: PyTree) -> PyTree:
    """Arrays that are divided over devices or processes, whole on one device of each process, by way of the host.

    What runs afterwards, member by member, then exchanges nothing: small programs that do, and that are started without waiting for
    one another, can wait for each other for ever on a CPU, which has as many threads as devices.

    Example:
      >>> gathered({"w": jnp.ones(2)})["w"].tolist()
      [1.0, 1.0]
    """
    return jax.tree.map(lambda leaf: leaf if len(leaf.sharding.device_set) == 1 else _whole(leaf), tree)


def _whole(leaf: jax.Array) -> jax.Array:
    from jax.experimental.multihost_utils import process_allgather

    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_whole(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    here = leaf.is_fully_addressable or leaf.is_fully_replicated
    return jnp.asarray(np.asarray(leaf) if here else process_allgather(leaf, tiled=True))
