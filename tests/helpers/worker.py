"""One of several processes that train together; run by test_multihost.py as ``python -m helpers.worker PORT COUNT PROCESS FOLDER``.

They have four virtual devices in all. What it found goes to FOLDER/PROCESS.npz.
"""

import pathlib
import sys

from vaex.training import multihost

if __name__ == "__main__":  # before anything else uses jax
    multihost.initialize(f"localhost:{sys.argv[1]}", int(sys.argv[2]), int(sys.argv[3]))

import jax
import numpy as np

from helpers.synthetic import ARRAYS, MODEL, HParams
from vaex.data import resident_feed, streamed_feed
from vaex.errors import NonFiniteError
from vaex.training import loop, population, sharding
from vaex.training.checkpoint import Checkpoints
from vaex.training.hyperparameters import as_schedules
from vaex.training.step import gradient_algorithm

BATCH_SIZE, STEPS = 8, 12


class Watched(np.ndarray):
    """An array that notes how many of its rows are taken."""

    taken = 0

    def take(self, indices, *args, **kwargs):
        Watched.taken += np.size(indices)
        return super().take(indices, *args, **kwargs)


def train(members, strategy, feed, folder=None, *, fsdp=False, **hparams):
    """The members' state after all steps, the last metrics, and the carry on the devices."""
    values = population.stack([as_schedules(HParams(**hparams)) for _ in range(members)])
    stepper = gradient_algorithm(MODEL)
    states = population.init(stepper, range(members), values, {"x": ARRAYS["x"][:BATCH_SIZE]})
    placement = sharding.choose(members, BATCH_SIZE, jax.device_count(), fsdp=fsdp)
    assert placement is not None and placement.mesh.size == 4
    program, carry = loop.compile_program(stepper, feed, states, log_every=5, strategy=strategy, placement=placement)
    if folder is None:
        return multihost.fetch(loop.fit(program, carry, 0, STEPS).state)
    checkpoints = Checkpoints(folder)
    carry = loop.fit(program, carry, 0, STEPS // 2)
    checkpoints.save(STEPS // 2, carry)
    restored = checkpoints.restore(carry)
    checkpoints.close()
    return multihost.fetch(loop.fit(program, restored, STEPS // 2, STEPS).state)


def flat(name, state):
    leaves = jax.tree.leaves(state.variables)
    return {f"{name}_{index}": np.asarray(leaf) for index, leaf in enumerate(leaves)}


def main(process: int, folder: pathlib.Path) -> None:
    assert multihost.agree(10 + process, process) == (10, 0)
    assert multihost.decide(lambda: 5 + process) == 5
    arrays = {"x": ARRAYS["x"].view(Watched)}
    results = flat("divided", train(1, "solo", streamed_feed(arrays, BATCH_SIZE, 1)))
    results["taken"] = np.array(Watched.taken)
    resident = resident_feed(ARRAYS, BATCH_SIZE, 1)
    results |= flat("resumed", train(1, "solo", resident, folder / "checkpoints"))
    results |= flat("members", train(4, "members", resident))
    streamed = streamed_feed(ARRAYS, BATCH_SIZE, 1)
    results |= flat("both", train(2, "members", streamed))
    sharding.SMALL = 0
    results |= flat("fsdp", train(1, "solo", streamed, folder / "fsdp", fsdp=True))
    results |= flat("all_three", train(2, "vmap", resident, folder / "all_three", fsdp=True))
    try:
        train(4, "vmap", resident, learning_rate="ramp:0:3e38:3", noise=1e38)
    except NonFiniteError as error:
        results["error"] = np.array(str(error))
    multihost.leave()
    np.savez(folder / f"{process}.npz", **results)


if __name__ == "__main__":
    main(int(sys.argv[3]), pathlib.Path(sys.argv[4]))
