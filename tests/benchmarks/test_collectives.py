"""What devices exchange in a step is what docs/scaling.md says: gradients once, statistics of the batch, and nothing of members."""

import importlib
from typing import Any, NamedTuple

import jax
import pytest

from vaex.training import sharding

pytestmark = pytest.mark.nightly

hlo = importlib.import_module("accelerators.hlo")
programs = importlib.import_module("accelerators.programs")
targets = importlib.import_module("accelerators.targets")
workloads = importlib.import_module("workloads")

HERE = targets.Target(
    "cpu", "cpu", targets.CHIPS["tpu:v5e"], ""
)  # the virtual devices of this process: the same partitioner
SCALARS = 64  # bytes, of losses and metrics, at most
FLOAT = 4


class Exchanged(NamedTuple):
    """Of a compiled step: how it is placed, the compiler's account of its memory, bytes of all gradients, and kind -> bytes of
    collectives."""

    placement: sharding.Placement
    memory: Any
    gradients: int
    collectives: dict[str, int]


def exchanged(name, members=1, devices=4, batch_size=None, *, fsdp=False, options=()):
    """What a step of the first stage of a model exchanges."""
    workload = programs.with_options(workloads.find(name), options)
    batch = batch_size or workload.batch_sizes[0]
    part = next(programs.parts(workload, batch, "float32", members))
    lowered = programs.lower(part, HERE, jax.devices()[:devices], members, batch, fsdp=fsdp)
    compiled = lowered.lowered.compile()
    module = hlo.parse(compiled.as_text())
    work = hlo.work(module, hlo.step_body(module))
    gradients = sum(FLOAT * leaf.size for leaf in jax.tree.leaves(part.state.variables.params))
    return Exchanged(lowered.placement, compiled.memory_analysis(), gradients, work.collectives)


def test_a_divided_batch_exchanges_gradients_once():
    step = exchanged("small", batch_size=16)
    assert step.placement.axis == "data" and step.placement.mesh.size == 4 and step.collectives.keys() == {"all-reduce"}
    assert step.gradients <= step.collectives["all-reduce"] <= step.gradients + SCALARS


@pytest.mark.slow
def test_members_exchange_nothing():
    step = exchanged("small", members=8, batch_size=16)
    assert step.placement.axis == "population" and step.placement.mesh.size == 4 and step.collectives == {}


@pytest.mark.slow
@pytest.mark.parametrize(("members", "groups"), [(2, 2), (4, 4), (6, 2)])
def test_devices_that_share_members_exchange_their_gradients(members, groups):
    step = exchanged("small", members, devices=8, batch_size=16 if members < 6 else 4)
    assert step.placement.axis == "population x data" and step.placement.mesh.shape["population"] == groups
    here, scalars = step.gradients // groups, SCALARS * members // groups
    assert step.collectives.keys() == {"all-reduce"} and here <= step.collectives["all-reduce"] <= here + scalars


# of the MLP 64-64-8 on 8x8: kernels of at least 1024 numbers, those of the encoder's two layers and of the decoder's last one
DIVIDED = FLOAT * (64 * 64 + 64 * 2 * 8 + 64 * 64)


@pytest.mark.slow
@pytest.mark.parametrize(("members", "groups"), [(1, 1), (4, 4)])
def test_fsdp_gathers_parameters_and_holds_a_part_of_them(members, groups):
    plain, step = (exchanged("small", members, devices=8, batch_size=16, fsdp=fsdp) for fsdp in (False, True))
    assert step.placement.axis == ("data_fsdp" if members == 1 else "population x data_fsdp")
    here, parts = members // groups, 8 // groups
    # XLA for CPU divides the sums of gradients after it has exchanged all of them
    assert step.collectives == {"all-gather": here * DIVIDED, "all-reduce": plain.collectives["all-reduce"]}
    held = 3 * here * DIVIDED  # with Adam's two moments
    saved = plain.memory.argument_size_in_bytes - step.memory.argument_size_in_bytes
    assert saved == held - held // parts


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
    step = exchanged(name)
    gathered, reduced = STATISTICS[name]
    assert step.collectives.get("all-gather", 0) == gathered and step.collectives.keys() <= {"all-gather", "all-reduce"}
    assert step.gradients + reduced <= step.collectives["all-reduce"] <= step.gradients + reduced + SCALARS


@pytest.mark.slow
def test_fsdp_divides_a_hierarchical_vae():
    """Its cells are loops over layers of equal shape, whose parameters are arrays [layers, ...]."""
    options = ("blocks=4x3,2x2", "width=96")
    plain, step = (
        exchanged("hierarchical_vae", devices=8, batch_size=16, fsdp=f, options=options) for f in (False, True)
    )
    gathered = step.collectives["all-gather"] - plain.collectives.get("all-gather", 0)
    assert 0.95 * step.gradients < gathered <= step.gradients
    saved = plain.memory.argument_size_in_bytes - step.memory.argument_size_in_bytes
    assert saved == 3 * gathered * 7 // 8  # parameters and Adam's two moments
