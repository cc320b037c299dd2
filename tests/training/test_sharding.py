"""Placement: what is divided over the devices, and that dividing changes no number. Eight virtual devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.synthetic import ARRAYS, BATCH, MODEL, HParams, assert_close, assert_equal, feed
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import vaex
from vaex.core import TrainState, Variables
from vaex.data import streamed_feed
from vaex.errors import NonFiniteError, UserError
from vaex.training import loop, multihost, population, sharding
from vaex.training.hyperparameters import as_schedules
from vaex.training.step import gradient_algorithm

pytestmark = pytest.mark.optimised

STEPS = 12
ROWS_PER_BATCH = 8


@pytest.mark.parametrize(
    ("members", "batch_size", "devices", "expected"),
    [
        (1, 8, 1, None),
        (4, 8, 1, None),
        (1, 8, 8, (1, 8)),
        (1, 12, 8, (1, 6)),
        (1, 7, 8, (1, 7)),
        (1, 11, 8, None),  # a prime beyond the devices
        (4, 8, 4, (4, 1)),
        (4, 8, 8, (4, 2)),
        (4, 7, 8, (4, 1)),  # a batch that the devices left over don't divide
        (16, 8, 8, (8, 1)),
        (12, 8, 8, (4, 2)),  # more devices than 6
        (3, 8, 8, (3, 2)),  # members first, though the batch alone would use 8 devices
        (3, 8, 256, (3, 8)),
        (5, 8, 2, (1, 2)),  # no common divisor
        (9, 8, 2, (1, 2)),
        (11, 13, 8, None),
        (6, 8, 4, (2, 2)),
        (6, 9, 4, (3, 1)),
    ],
)
def test_choice(members, batch_size, devices, expected):
    chosen = sharding.choose(members, batch_size, devices, devices=jax.devices()[:1] * devices if devices > 8 else None)
    if expected is None:
        assert chosen is None
        return
    assert (chosen.mesh.shape["population"], chosen.mesh.shape["data"]) == expected
    assert (chosen.divides_members, chosen.divides_batch) == (expected[0] > 1, expected[1] > 1)
    if devices <= 8:
        assert list(chosen.mesh.devices.flat) == jax.devices()[: expected[0] * expected[1]]


@pytest.mark.parametrize(
    ("members", "batch_size", "devices", "message"),
    [
        (1, 8, 1, "the run has one; give it more"),
        (8, 8, 8, "8 members of 8 examples leave no such of 8 devices; train fewer members at once"),
        (1, 11, 8, "no number up to 8 of them divides --batch_size=11; give a multiple of 8"),
    ],
)
def test_fsdp_with_nothing_to_divide_is_refused(members, batch_size, devices, message):
    with pytest.raises(UserError, match=f"^--fsdp: .*{message}.*, or leave --fsdp out$"):
        sharding.choose(members, batch_size, devices, fsdp=True)


def test_a_population_leaves_virtual_devices_that_it_does_not_divide_over():
    assert [population.default_devices(members) for members in (1, 2, 3, 8, 12)] == [8, 2, 3, 8, 6]
    assert population.default_devices(2, fsdp=True) == 8


def test_place_divides_members_and_copies_the_rest():
    placement = sharding.choose(4, 8, 4)
    tree = {"w": jnp.arange(8.0).reshape(4, 2), "key": jax.random.split(jax.random.key(0), 4)}
    divided = sharding.place(tree, placement, members=True)
    assert_equal(divided, tree)
    for leaf in divided.values():
        assert leaf.sharding.spec == PartitionSpec("population")
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {1}
    copied = sharding.place(tree, placement, members=False)
    assert all(leaf.sharding.is_fully_replicated and len(leaf.devices()) == 4 for leaf in copied.values())
    assert sharding.place(tree, None, members=True) is tree


def test_divide_batch_divides_where_the_placement_says_so():
    by_data, by_member = sharding.choose(1, 8, 4), sharding.choose(4, 8, 4)
    divided = jax.jit(lambda batch: sharding.divide_batch(batch, by_data))(BATCH)["x"]
    assert {shard.data.shape for shard in divided.addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(divided, BATCH["x"])
    assert sharding.divide_batch(BATCH, by_member) is BATCH and sharding.divide_batch(BATCH, None) is BATCH


@pytest.fixture(scope="module")
def stepper():
    return gradient_algorithm(MODEL)


def trained(stepper, members, strategy, devices, values=None, *, fsdp=False):
    values = values or [HParams(learning_rate=0.01 * (index + 1), noise=0.1 * index) for index in range(members)]
    states = population.init(
        stepper, range(members), population.stack([as_schedules(value) for value in values]), BATCH
    )
    placement = sharding.choose(members, ROWS_PER_BATCH, devices, fsdp=fsdp)
    program, carry = loop.compile_program(
        stepper, feed(ROWS_PER_BATCH), states, log_every=5, strategy=strategy, placement=placement
    )
    assert program.step_traces == 1
    return program, carry, placement


@pytest.fixture(scope="module")
def plain(stepper):
    """Four members on one device; the numbers of a member don't depend on how many there are."""
    program, carry, placement = trained(stepper, 4, "members", 1)
    assert placement is None
    return loop.run_chunk(program, carry, 0, STEPS)


DIVIDED = [
    (4, "vmap", 4, "population"),
    (4, "members", 2, "population"),
    (1, "solo", 8, "data"),
    (3, "vmap", 2, "data"),
    (3, "members", 2, "data"),
    (4, "vmap", 8, "population x data"),
    (2, "members", 4, "population x data"),
    (1, "solo", 2, "data_fsdp"),
    (3, "members", 2, "data_fsdp"),
    (4, "vmap", 8, "population x data_fsdp"),
    (4, "members", 8, "population x data_fsdp"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("members", "strategy", "devices", "axis"), DIVIDED)
def test_dividing_changes_no_number(stepper, plain, monkeypatch, members, strategy, devices, axis):
    monkeypatch.setattr(sharding, "SMALL", 0)
    program, carry, placement = trained(stepper, members, strategy, devices, fsdp="fsdp" in axis)
    assert (placement.axis, placement.mesh.size) == (axis, devices)
    placed = jax.tree.leaves(placement.shardings(carry))
    for begin, end in ((0, 5), (5, STEPS)):
        carry, chunk = loop.run_chunk(program, carry, begin, end)
        assert chunk.finite.shape == (members,) and chunk.finite.all()
    expected, rows = plain
    for index in range(members):
        assert_close(
            population.member(carry.state.variables, index), population.member(expected.state.variables, index), 1e-5
        )
    np.testing.assert_allclose(chunk.last, rows.last[:members], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(chunk.rows[:, 0], rows.rows[:members, 1], rtol=1e-5, atol=1e-5)
    assert all(
        leaf.sharding.is_equivalent_to(s, leaf.ndim) for leaf, s in zip(jax.tree.leaves(carry), placed, strict=True)
    )
    weights = carry.state.variables.params["encoder"]["w"]  # [p, 3, 2]
    assert len(weights.devices()) == devices
    groups, parts = placement.mesh.devices.shape
    columns = 2 // parts if "fsdp" in axis else 2
    assert {shard.data.shape for shard in weights.addressable_shards} == {(members // groups, 3, columns)}


@pytest.mark.slow
def test_fsdp_divides_the_longest_axis_of_what_is_large_and_trained():
    tree = {
        "long": jnp.zeros((8, 256)),
        "odd": jnp.zeros((4096, 7)),
        "prime": jnp.zeros((37, 37)),
        "small": jnp.zeros(64),
    }
    variables = Variables({"model": tree}, {"codes": jnp.zeros((64, 64))})
    key, moments = jax.random.key(0), {"model": (jnp.zeros((), jnp.int32), tree)}
    state = TrainState(jnp.zeros((), jnp.int32), key, {"rate": jnp.zeros(3)}, variables, moments, variables.params)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), state)
    placement = sharding.choose(4, 8, 8, fsdp=True)
    placed = sharding.place({"state": stacked, "window": jnp.zeros((4, 2048))}, placement, members=True)
    assert_equal(placed["state"], stacked)
    parts = {"long": (1, 8, 128), "odd": (1, 2048, 7), "prime": (1, 37, 37), "small": (1, 64)}
    after = placed["state"]
    for trained_tree in (after.variables.params["model"], after.opt_state["model"][1], after.average["model"]):
        assert {name: leaf.addressable_shards[0].data.shape for name, leaf in trained_tree.items()} == parts
    for whole in (after.variables.state["codes"], after.hparams["rate"], placed["window"], after.key):
        assert whole.addressable_shards[0].data.shape == (1, *whole.shape[1:])


@pytest.mark.slow
@pytest.mark.parametrize(("members", "devices"), [(1, 2), (4, 8)])
def test_fsdp_gives_the_numbers_of_the_batch_divided(stepper, monkeypatch, members, devices):
    """Both add the gradients of the same two halves of a batch; updates of parts are compiled otherwise, and round otherwise."""
    monkeypatch.setattr(sharding, "SMALL", 0)
    strategy = "solo" if members == 1 else "members"
    states = []
    for fsdp in (False, True):
        program, carry, _ = trained(stepper, members, strategy, devices, fsdp=fsdp)
        states.append(loop.run_chunk(program, carry, 0, STEPS)[0].state)
    assert_close(states[0].variables, states[1].variables, 1e-6)
    assert_close(states[0].opt_state, states[1].opt_state, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [False, True])
def test_members_that_share_devices_with_a_batch_have_the_bits_of_their_solo_run(stepper, monkeypatch, fsdp):
    monkeypatch.setattr(sharding, "SMALL", 0)
    program, carry, placement = trained(stepper, 4, "members", 8, fsdp=fsdp)
    assert placement.mesh.devices.shape == (4, 2)
    together = loop.run_chunk(program, carry, 0, STEPS)[0].state
    program, carry, placement = trained(stepper, 1, "solo", 2, fsdp=fsdp)
    assert placement.mesh.devices.shape == (1, 2)
    alone = loop.run_chunk(program, carry, 0, STEPS)[0].state
    assert_equal(population.member(together, 0), population.member(alone, 0))


@pytest.mark.slow
@pytest.mark.parametrize(("members", "devices"), [(1, 4), (2, 8)])
def test_devices_that_divide_a_streamed_batch_ask_for_their_own_rows_once(stepper, plain, members, devices):
    streamed = streamed_feed(ARRAYS, ROWS_PER_BATCH, data_seed=1)
    asked = []

    def share(first, count, rows):
        asked.append((first, count, rows.start, rows.stop))
        return streamed.share(first, count, rows)

    placement = sharding.choose(members, ROWS_PER_BATCH, devices)
    values = population.stack([as_schedules(HParams(learning_rate=0.01))] * members)
    states = population.init(stepper, range(members), values, BATCH)
    strategy = "solo" if members == 1 else "vmap"
    program, carry = loop.compile_program(
        stepper, streamed._replace(share=share), states, log_every=5, strategy=strategy, placement=placement
    )
    asked.clear()
    carry, _ = loop.run_chunk(program, carry, 0, STEPS)
    assert sorted(asked) == [(0, STEPS, start, start + 2) for start in (0, 2, 4, 6)]
    expected, _ = plain
    assert_close(population.member(carry.state.variables, 0), population.member(expected.state.variables, 0), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [4, 8])
def test_a_divided_member_that_fails_is_named(stepper, devices):
    values = [HParams() for _ in range(4)]
    values[2] = HParams(learning_rate="ramp:0:3e38:3", noise=1e38)  # overflows after a few steps
    program, carry, _ = trained(stepper, 4, "vmap", devices, values)
    with pytest.raises(NonFiniteError, match=r"^member 2 at step \d: [a-z_]+ is (nan|inf|-inf)$"):
        loop.fit(program, carry, 0, STEPS)


@pytest.mark.slow
def test_a_trained_population_is_on_one_device():
    """Its members are taken out by small programs, which must not exchange anything between devices."""
    run = vaex.train(
        "vae",
        np.zeros((40, 4, 4), np.uint8),
        seeds=range(4),
        steps=2,
        batch_size=8,
        hidden=(4,),
        latent_dim=2,
        progress=False,
    )
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(run.state))
    divided = NamedSharding(jax.make_mesh((4,), ("population",), (AxisType.Auto,)), PartitionSpec("population"))
    tree = {"key": jax.random.split(jax.random.key(0), 4), "w": jnp.arange(8.0).reshape(4, 2)}
    whole = multihost.gathered(jax.device_put(tree, divided))
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(whole))
    np.testing.assert_array_equal(whole["w"], tree["w"])
    np.testing.assert_array_equal(jax.random.key_data(whole["key"]), jax.random.key_data(tree["key"]))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_run_begun_with_fsdp_goes_on_on_other_devices(tmp_path, monkeypatch, seeds):
    placements, choose = [], sharding.choose

    def watched(*args, **options):
        placements.append(choose(*args, **options))
        return placements[-1]

    monkeypatch.setattr(sharding, "choose", watched)
    x = np.random.default_rng(0).integers(0, 2, (96, 8, 8), np.uint8)
    options = {"hidden": (64,), "latent_dim": 4, "batch_size": 16, "log_every": 2, "seeds": seeds, "progress": False}
    options |= {"average_decay": 0.9, "validate_every": 2, "keep": "best:elbo"}
    alone = vaex.train("vae", x, steps=12, devices=1, **options)
    for steps, devices, fsdp in ((4, 8, True), (8, 4, True), (10, 4, False), (12, 1, False)):
        run = vaex.train("vae", x, out=tmp_path / "run", steps=steps, devices=devices, fsdp=fsdp, **options)
    axes = [placement and placement.axis for placement in placements]
    fsdp = "data_fsdp" if len(seeds) == 1 else "population x data_fsdp"
    assert axes == [None, fsdp, fsdp, fsdp.removesuffix("_fsdp"), None]
    for again in (run, vaex.load(tmp_path / "run")):
        assert_close(again.state.variables, alone.state.variables, 1e-5)
        assert_close(again.state.average, alone.state.average, 1e-5)
    assert [row["step"] for row in run.rows()] == [row["step"] for row in alone.rows()]
    assert_close(run[0].reconstruct(x[:8]), alone[0].reconstruct(x[:8]), 1e-4)
