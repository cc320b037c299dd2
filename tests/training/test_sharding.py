"""Placement: what is divided over the devices, and that dividing changes no number. Eight virtual devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.synthetic import ARRAYS, BATCH, MODEL, HParams, assert_close, assert_equal, feed
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import vaex
from vaex.data import streamed_feed
from vaex.errors import NonFiniteError
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
        (1, 8, 8, ("data", 8)),
        (1, 12, 8, ("data", 6)),
        (1, 7, 8, ("data", 7)),
        (1, 11, 8, None),  # a prime beyond the devices
        (4, 8, 8, ("population", 4)),
        (16, 8, 8, ("population", 8)),
        (3, 8, 8, ("population", 3)),  # members first: they need no communication
        (5, 8, 2, ("data", 2)),  # no common divisor
        (9, 8, 2, ("data", 2)),
        (11, 13, 8, None),
        (6, 8, 4, ("population", 3)),
    ],
)
def test_choice(members, batch_size, devices, expected):
    chosen = sharding.choose(members, batch_size, devices)
    if expected is None:
        assert chosen is None
        return
    axis, count = expected
    assert (chosen.axis, chosen.mesh.size, chosen.mesh.shape[axis]) == (axis, count, count)
    assert list(chosen.mesh.devices.flat) == jax.devices()[:count]


def test_place_divides_members_and_copies_the_rest():
    placement = sharding.choose(4, 8, 8)
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


def trained(stepper, members, strategy, devices, values=None):
    values = values or [HParams(learning_rate=0.01 * (index + 1), noise=0.1 * index) for index in range(members)]
    states = population.init(
        stepper, range(members), population.stack([as_schedules(value) for value in values]), BATCH
    )
    placement = sharding.choose(members, ROWS_PER_BATCH, devices)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("members", "strategy", "devices", "axis"),
    [
        (4, "vmap", 4, "population"),
        (4, "members", 2, "population"),
        (1, "solo", 8, "data"),
        (3, "vmap", 2, "data"),
        (3, "members", 2, "data"),
    ],
)
def test_dividing_changes_no_number(stepper, plain, members, strategy, devices, axis):
    program, carry, placement = trained(stepper, members, strategy, devices)
    assert (placement.axis, placement.mesh.size) == (axis, devices)
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
    weights = carry.state.variables.params["encoder"]["w"]
    assert len(weights.devices()) == devices
    shard_rows = members // devices if axis == "population" else members
    assert {shard.data.shape[0] for shard in weights.addressable_shards} == {shard_rows}


def test_devices_that_divide_a_streamed_batch_ask_for_their_own_rows_once(stepper, plain):
    streamed = streamed_feed(ARRAYS, ROWS_PER_BATCH, data_seed=1)
    asked = []

    def share(first, count, rows):
        asked.append((first, count, rows.start, rows.stop))
        return streamed.share(first, count, rows)

    placement = sharding.choose(1, ROWS_PER_BATCH, 4)
    states = population.init(stepper, [0], population.stack([as_schedules(HParams(learning_rate=0.01))]), BATCH)
    program, carry = loop.compile_program(
        stepper, streamed._replace(share=share), states, log_every=5, strategy="solo", placement=placement
    )
    asked.clear()
    carry, _ = loop.run_chunk(program, carry, 0, STEPS)
    assert sorted(asked) == [(0, STEPS, start, start + 2) for start in (0, 2, 4, 6)]
    expected, _ = plain
    assert_close(population.member(carry.state.variables, 0), population.member(expected.state.variables, 0), 1e-5)


def test_a_divided_member_that_fails_is_named(stepper):
    values = [HParams() for _ in range(4)]
    values[2] = HParams(learning_rate="ramp:0:3e38:3", noise=1e38)  # overflows after a few steps
    program, carry, _ = trained(stepper, 4, "vmap", 4, values)
    with pytest.raises(NonFiniteError, match=r"^member 2 at step \d: [a-z_]+ is (nan|inf|-inf)$"):
        loop.fit(program, carry, 0, STEPS)


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
