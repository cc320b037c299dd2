"""Populations: stacking, first states, and members that equal their solo runs."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.synthetic import BATCH, MODEL, HParams, assert_close, assert_equal, feed

from vaex import distributions, divergences
from vaex.cli import main as cli
from vaex.core import Algorithm, Outcome
from vaex.training import loop, population
from vaex.training.hyperparameters import as_schedules, common_structure
from vaex.training.metrics import read_rows
from vaex.training.step import gradient_algorithm

pytestmark = pytest.mark.optimised

STEPS = 20
SEEDS = (7, 0, 2**32 - 1)
# kinds and lengths of schedules mix, and a constant may be infinite
MEMBERS = (
    HParams(noise=1.0),
    HParams(learning_rate="cosine:0.05:0:15", clip_norm=0.1, average_decay=0.9),
    HParams(learning_rate="cycle:0:0.02:6", weight_decay="ramp:0:0.1:10", noise=0.3),
)
STRUCTURED = common_structure(MEMBERS)  # so that members alone have the structure of all


def hparams(indices):
    return population.stack([as_schedules(STRUCTURED[index]) for index in indices])


@pytest.fixture(scope="module")
def stepper():
    return gradient_algorithm(MODEL)


@pytest.fixture(scope="module")
def solo(stepper):
    """Each member's carry and rows after its solo run."""
    done = []
    for index, seed in enumerate(SEEDS):
        states = population.init(stepper, (seed,), hparams((index,)), BATCH)
        if not done:
            program, carry = loop.compile_program(stepper, feed(), states, log_every=5, strategy="solo")
        else:
            carry = loop.Carry(states, jnp.zeros((1, len(program.metric_names))))
        carry, chunk = loop.run_chunk(program, carry, 0, STEPS)
        done.append((carry, chunk))
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "compare"), [("members", assert_equal), ("vmap", lambda a, b: assert_close(a, b, 1e-5))]
)
def test_members_equal_their_solo_runs(stepper, solo, strategy, compare):
    states = population.init(stepper, SEEDS, hparams((0, 1, 2)), BATCH)
    program, carry = loop.compile_program(stepper, feed(), states, log_every=5, strategy=strategy)
    carry, chunk = loop.run_chunk(program, carry, 0, STEPS)
    for index in range(3):
        alone, rows = solo[index]
        for part in ("step", "variables", "opt_state", "average"):
            together, solo_part = (getattr(tree.state, part) for tree in (carry, alone))
            compare(population.member(together, index), population.member(solo_part, 0))
        assert_equal(population.member(carry.state.key, index), population.member(alone.state.key, 0))
        compare(chunk.rows[index], rows.rows[0])
        compare(chunk.last[index], rows.last[0])
    weights = np.asarray(carry.state.variables.params["encoder"]["w"])
    assert all(np.abs(weights[i] - weights[j]).max() > 1e-3 for i, j in ((0, 1), (0, 2), (1, 2))), "members differ"


@pytest.mark.slow
def test_constants_round_alike_in_both_loops():
    """Zeros that a model closes over (a prior's mean) would be folded away in a loop, but not in a loop within a loop."""
    prior = distributions.Normal(jnp.zeros(2), 1.0, event_ndims=1)

    def objective(key, variables, hparams, batch, *, train):
        encoder = variables.params["encoder"]
        mean, raw = jnp.split(batch["x"] @ encoder["w"] + encoder["b"], 2, axis=-1)
        posterior = distributions.Normal(mean, log_scale=7.0 * jnp.tanh(raw / 7.0), event_ndims=1)
        z = posterior.sample(key)
        critic = jnp.mean((batch["x"] @ encoder["w"][:, :2]) @ variables.params["critic"]["v"])
        penalty = 10.0 * jnp.abs(jnp.mean(divergences.kl(posterior, prior)) - hparams.noise)
        losses = {"encoder": penalty + jnp.mean((z - batch["x"][:, :1]) ** 2), "critic": critic}
        return Outcome(losses, variables.state, {})

    def init(key, batch):
        variables = MODEL.init(key, batch)
        encoder = {"w": 0.3 * jax.random.normal(key, (3, 4)), "b": jnp.zeros(4)}
        return variables._replace(params=variables.params | {"encoder": encoder})

    stepper = gradient_algorithm(MODEL._replace(init=init, objective=objective))
    done = {}
    for strategy, indices in (("solo", (0,)), ("members", (0, 1))):
        states = population.init(stepper, SEEDS[: len(indices)], hparams(indices), BATCH)
        program, carry = loop.compile_program(stepper, feed(), states, log_every=5, strategy=strategy)
        done[strategy] = loop.run_chunk(program, carry, 0, STEPS)[0].state
    assert_equal(population.member(done["members"].variables, 0), population.member(done["solo"].variables, 0))


@pytest.mark.slow
def test_first_states_equal_those_alone(stepper):
    together = population.init(stepper, SEEDS, hparams((0, 1, 2)), BATCH)
    assert population.size(together) == 3
    for index, seed in enumerate(SEEDS):
        alone = population.init(stepper, (seed,), hparams((index,)), BATCH)
        assert_equal(population.member(together, index), population.member(alone, 0))
        by_hand = stepper.init(jax.random.key(np.uint32(seed)), MEMBERS[index], BATCH)
        assert_close(alone.variables.params, jax.tree.map(lambda leaf: leaf[None], by_hand.variables.params))
        assert_equal(alone.key[0], by_hand.key)


def test_first_states_compile_once_per_size():
    traces = []

    def init(key, hparams, batch):
        traces.append(1)
        return gradient_algorithm(MODEL).init(key, hparams, batch)

    counted = Algorithm(init, lambda state, batch: (state, {}))
    for seed in range(3):
        population.init(counted, (seed,), hparams((seed,)), BATCH)
    assert len(traces) == 1


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(stepper, seed):
    with pytest.raises(OverflowError):
        population.init(stepper, (seed,), hparams((0,)), BATCH)


@pytest.mark.parametrize(
    ("members", "size", "platform", "expected"),
    [
        (1, 10, "cpu", "solo"),
        (1, 10**9, "gpu", "solo"),
        (2, population.VMAP_BYTES, "cpu", "vmap"),
        (2, population.VMAP_BYTES + 1, "cpu", "members"),
        (64, 10**9, "gpu", "vmap"),
        (64, 10**9, "tpu", "vmap"),
    ],
)
def test_the_strategy_is_a_function_of_size_and_platform(members, size, platform, expected):
    assert population.choose_strategy(members, size, platform) == expected


def test_stack_and_member_are_inverse():
    trees = [{"a": np.full((2, 3), index, np.float32), "b": (np.int32(index), ())} for index in range(4)]
    stacked = population.stack(trees)
    assert population.size(stacked) == 4
    for index, tree in enumerate(trees):
        assert_equal(population.member(stacked, index), tree)
    shapes = population.member_shapes(stacked)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), trees[0]
    )


def test_hyperparameters_of_all_kinds_stack():
    stacked = hparams((0, 1, 2))
    assert all(leaf.shape == (3,) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(stacked))
    assert np.asarray(stacked.clip_norm.start).tolist() == [np.inf, np.float32(0.1), np.inf]


@pytest.mark.parametrize(
    ("members", "cores", "devices"),
    [
        (1, 8, 1),
        (2, 2, 2),
        (2, 16, 2),
        (3, 2, 3),
        (4, 4, 4),
        (6, 4, 6),
        (7, 2, 7),
        (9, 2, 3),
        (11, 2, 1),
        (22, 4, 11),
        (34, 4, 2),
    ],
)
def test_members_divide_over_the_cores(members, cores, devices):
    assert population.cpu_devices(members, cores) == devices


ALL_CORES = """
import json, sys
from vaex.cli import main as cli
from vaex.training import population
population.os.sched_getaffinity = lambda pid: {0, 1}
flags = ["--model=vae", "--hidden=8", "--steps=25", "--log_every=5", "--no-figures", "--eval_samples=2"]
code = cli.main([*flags, "--population_strategy=members", "--seeds=3,5", f"--out={sys.argv[1]}"])
import jax
sys.exit(code or jax.device_count() != 2)
"""


@pytest.mark.slow
def test_a_population_uses_all_cores_and_its_members_equal_solo_runs_to_the_bit(tmp_path, capsys):
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    env = os.environ | {
        "XLA_FLAGS": " ".join(flags),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
    }  # compiling as this process does
    env["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, "-c", ALL_CORES, str(tmp_path / "both")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "both" / "summary.json").read_text())["devices_used"] == 2
    flags = ["--model=vae", "--hidden=8", "--steps=25", "--log_every=5", "--no-figures", "--eval_samples=2"]
    assert cli.main([*flags, "--devices=1", "--seeds=5", f"--out={tmp_path / 'one'}"]) == 0
    capsys.readouterr()
    both, single = (read_rows(tmp_path / name / "metrics.jsonl") for name in ("both", "one"))
    assert [{name: values if name == "step" else values[1:] for name, values in row.items()} for row in both] == single


AFTER_ANOTHER = """
import sys
from vaex.cli import main as cli
from vaex.training import population
population.os.sched_getaffinity = lambda pid: {0, 1}
flags = ["--model=vae", "--hidden=8", "--steps=25", "--log_every=5", "--no-figures", "--eval_samples=2"]
names = {"two": "0,1", "one": "5", "three": "3,4,5"}
sys.exit(max(cli.main([*flags, f"--seeds={names[name]}", f"--out={sys.argv[1]}/{name}"]) for name in sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_run_after_a_population_is_that_of_a_process_of_its_own(tmp_path):
    """The population's virtual devices divide no batch of a later run."""
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    env = os.environ | {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    for folder, names in (("after", ("two", "one", "three")), ("alone", ("one",))):
        command = [sys.executable, "-c", AFTER_ANOTHER, str(tmp_path / folder), *names]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    used = {
        name: json.loads((tmp_path / "after" / name / "summary.json").read_text())["devices_used"]
        for name in ("two", "one", "three")
    }
    assert used == {"two": 2, "one": 1, "three": 1}
    after, alone = (read_rows(tmp_path / folder / "one" / "metrics.jsonl") for folder in ("after", "alone"))
    assert after == alone


def test_devices_that_the_user_has_chosen_stay():
    count = jax.device_count()
    population.use_all_cores(6)  # jax is in use here, and XLA_FLAGS is set
    assert jax.device_count() == count


@pytest.mark.slow
def test_chunks_are_longer_where_members_follow_one_another(stepper):
    states = population.init(stepper, SEEDS, hparams((0, 1, 2)), BATCH)
    expected = {"vmap": loop.CHUNK_SECONDS, "members": 3 * loop.CHUNK_SECONDS}
    for strategy, seconds in expected.items():
        program, _ = loop.compile_program(stepper, feed(), states, log_every=5, strategy=strategy)
        assert program.seconds == seconds


def test_copies_of_a_sound_member_stand_in_for_others():
    tree = {"w": jnp.arange(6.0).reshape(3, 2), "key": jax.random.split(jax.random.key(0), 3)}
    lost = np.array([True, False, True])
    copies = population.with_stand_ins(tree, lost)
    assert copies["w"].tolist() == [[2.0, 3.0]] * 3 and len({str(key) for key in copies["key"]}) == 1
    back = population.chosen(lost, tree, {**copies, "w": copies["w"] + 10.0})
    assert back["w"].tolist() == [[0.0, 1.0], [12.0, 13.0], [4.0, 5.0]]
    assert (back["key"][0] == tree["key"][0]) and (back["key"][1] == copies["key"][1])
