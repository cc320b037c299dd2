"""What devices exchange in a step is what docs/scaling.md says: gradients once, statistics of the batch, and nothing of members."""

import importlib

import jax
import pytest

hlo = importlib.import_module("accelerators.hlo")
programs = importlib.import_module("accelerators.programs")
targets = importlib.import_module("accelerators.targets")
workloads = importlib.import_module("workloads")

HERE = targets.Target(
    "cpu", "cpu", targets.CHIPS["tpu:v5e"], ""
)  # the virtual devices of this process: the same partitioner
SCALARS = 64  # bytes, of losses and metrics, at most
FLOAT = 4


def exchanged(name, members=1, devices=4, batch_size=None):
    """Bytes of gradients, and kind -> bytes that a step's collectives give, of the first stage of a model."""
    workload = workloads.find(name)
    batch = batch_size or workload.batch_sizes[0]
    part = next(programs.parts(workload, batch, "float32", members))
    lowered = programs.lower(part, HERE, jax.devices()[:devices], members, batch)
    module = hlo.parse(lowered.lowered.compile().as_text())
    work = hlo.work(module, hlo.step_body(module))
    gradients = sum(FLOAT * leaf.size for leaf in jax.tree.leaves(part.state.variables.params))
    return lowered, gradients, work.collectives


def test_a_divided_batch_exchanges_gradients_once():
    lowered, gradients, found = exchanged("small", batch_size=16)
    assert lowered.placement.axis == "data" and lowered.placement.mesh.size == 4
    assert found.keys() == {"all-reduce"} and gradients <= found["all-reduce"] <= gradients + SCALARS


def test_members_exchange_nothing():
    lowered, _, found = exchanged("small", members=8, batch_size=16)
    assert lowered.placement.axis == "population" and lowered.placement.mesh.size == 4 and found == {}


BATCH, LATENTS = 128, 10  # of the default networks
PAIRS = FLOAT * BATCH * LATENTS
CODES, CODE_DIM = 128, 16
# model -> bytes of all-gathers, and of all-reduces beside the gradients
STATISTICS = {
    "vae": (0, 0),
    "iwae": (0, 0),
    "info_vae": (PAIRS, PAIRS),  # z, and its gradient: a kernel compares all pairs of codes
    "beta_tc_vae": (4 * PAIRS, 3 * PAIRS),  # z, and the parameters of all posteriors; their gradients
    "vq_vae": (0, FLOAT * (2 * CODES * CODE_DIM + 3 * CODES)),  # sums, replacements and counts of codes
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_of_the_batch_are_exchanged_as_predicted(name):
    _, gradients, found = exchanged(name)
    gathered, reduced = STATISTICS[name]
    assert found.get("all-gather", 0) == gathered
    assert gradients + reduced <= found["all-reduce"] <= gradients + reduced + SCALARS
    assert found.keys() <= {"all-gather", "all-reduce"}
