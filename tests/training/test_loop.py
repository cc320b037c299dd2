"""The compiled loop: rows are plain means of what each step reports, however the steps are cut; a spoiled state never leaves."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.synthetic import ARRAYS, BATCH, MODEL, HParams, assert_close, assert_equal, batch_at, feed

from vaex.core import Feed
from vaex.errors import NonFiniteError
from vaex.training import loop, population
from vaex.training.checkpoint import Checkpoints
from vaex.training.hyperparameters import as_schedules
from vaex.training.step import gradient_algorithm

pytestmark = pytest.mark.optimised

STEPS = 20
SEEDS = {"solo": (3,), "vmap": (3, 4), "members": (3, 4)}
MEMBERS = (HParams(noise=0.5), HParams(learning_rate="ramp:0.05:0:15", noise=1.0))


def first(stepper, strategy, members=MEMBERS):
    """First states of the members that a strategy runs; solo runs the first alone."""
    seeds = SEEDS[strategy]
    hparams = population.stack([as_schedules(member) for member in members[: len(seeds)]])
    return population.init(stepper, seeds, hparams, BATCH)


def fresh(program, stepper, strategy, members=MEMBERS):
    states = first(stepper, strategy, members)
    return loop.Carry(states, jnp.zeros((len(SEEDS[strategy]), len(program.metric_names)), jnp.float32))


@pytest.fixture(scope="module")
def stepper():
    return gradient_algorithm(MODEL, optimizer="momentum")


@pytest.fixture(scope="module")
def programs(stepper):
    """One program per strategy; a row per step is the most that one may have, so other ``log_every`` fit as well."""
    compiled = {}
    for strategy in SEEDS:
        compiled[strategy], _ = loop.compile_program(
            stepper, feed(), first(stepper, strategy), log_every=1, strategy=strategy
        )
    return compiled


@pytest.fixture(scope="module")
def by_step(programs, stepper):
    """Each member's metrics of each step [p, steps, m], and the members' last states, from a plain Python loop."""
    step, source = jax.jit(stepper.step), feed()
    states = [population.member(first(stepper, "vmap"), index) for index in range(2)]
    table = np.zeros((2, STEPS, len(programs["solo"].metric_names)), np.float64)
    for index in range(STEPS):
        for member in range(2):
            states[member], metrics = step(states[member], batch_at(source, index))
            table[member, index] = [metrics[name] for name in programs["solo"].metric_names]
    return table, states


def run(program, carry, cuts, begin=0):
    rows, chunk = [], None
    for end in np.cumsum(cuts) + begin:
        carry, chunk = loop.run_chunk(program, carry, begin, int(end))
        rows.append(chunk.rows)
        begin = int(end)
    return carry, np.concatenate(rows, axis=1), chunk


def means(table, log_every):
    windows = table.shape[1] // log_every
    return table[:, : windows * log_every].reshape(len(table), windows, log_every, table.shape[-1]).mean(axis=2)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", SEEDS)
@pytest.mark.parametrize(
    ("log_every", "cuts"),
    [
        (1, (20,)),
        (1, (1,) * 20),
        (3, (1, 1, 4, 7, 2, 5)),
        (5, (20,)),
        (7, (3, 3, 3, 3, 8)),
        (6, (6, 6, 6, 2)),
        (50, (9, 11)),
    ],
)
def test_rows_are_means_of_the_steps(programs, stepper, by_step, strategy, log_every, cuts):
    program = programs[strategy]._replace(log_every=log_every)
    table, states = by_step[0][: len(SEEDS[strategy])], by_step[1]
    carry, rows, chunk = run(program, fresh(program, stepper, strategy), cuts)
    assert rows.shape == (len(table), STEPS // log_every, len(program.metric_names))
    np.testing.assert_allclose(rows, means(table, log_every), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(chunk.last, table[:, -1], rtol=2e-6, atol=1e-6)
    assert chunk.finite.all()
    for index in range(len(table)):
        assert_close(population.member(carry.state, index).variables, states[index].variables, 2e-6)


@pytest.mark.parametrize("strategy", SEEDS)
def test_cuts_change_no_bit(programs, stepper, strategy):
    program = programs[strategy]._replace(log_every=3)
    uncut, rows, _ = run(program, fresh(program, stepper, strategy), (20,))
    for cuts in ((1, 2, 3, 14), (7, 13)):
        other, other_rows, _ = run(program, fresh(program, stepper, strategy), cuts)
        assert_equal(uncut, other)
        np.testing.assert_array_equal(rows, other_rows)


@pytest.mark.parametrize("strategy", SEEDS)
def test_a_window_survives_a_checkpoint(programs, stepper, strategy, tmp_path):
    program = programs[strategy]._replace(log_every=5)
    uncut, rows, _ = run(program, fresh(program, stepper, strategy), (20,))
    carry, head, _ = run(program, fresh(program, stepper, strategy), (7,))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, carry)
    restored = checkpoints.restore(jax.eval_shape(lambda: carry))
    checkpoints.close()
    resumed, tail, _ = run(program, restored, (13,), begin=7)
    assert_equal(uncut, resumed)
    np.testing.assert_array_equal(rows, np.concatenate([head, tail], axis=1))


def test_a_changed_log_every_counts_the_steps_since_the_last_row(programs, stepper, by_step):
    carry, _, _ = run(programs["solo"]._replace(log_every=5), fresh(programs["solo"], stepper, "solo"), (7,))
    _, rows, _ = run(programs["solo"]._replace(log_every=4), carry, (13,), begin=7)
    steps = by_step[0][:1]
    expected = [steps[:, 5:8].mean(axis=1), *(steps[:, k : k + 4].mean(axis=1) for k in (8, 12, 16))]
    np.testing.assert_allclose(rows, np.stack(expected, axis=1), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("strategy", SEEDS)
def test_the_step_is_traced_once(programs, strategy):
    assert programs[strategy].step_traces == 1
    assert programs[strategy].metric_names == tuple(sorted(programs[strategy].metric_names))
    assert programs[strategy].compile_seconds > 0 and (programs[strategy].flops_per_step or 1) > 0


def test_the_carry_is_donated(programs, stepper):
    carry = fresh(programs["solo"], stepper, "solo")
    loop.run_chunk(programs["solo"], carry, 0, 1)
    assert carry.state.variables.params["encoder"]["w"].is_deleted()


def test_batches_may_travel_with_the_plan(programs, stepper):
    """A feed that keeps nothing on the device gives the numbers of one that does."""
    source = feed()
    streamed = Feed((), lambda start, count: ARRAYS["x"][source.plan(start, count)], lambda resident, row: {"x": row})
    program, carry = loop.compile_program(stepper, streamed, first(stepper, "solo"), log_every=1, strategy="solo")
    carry, rows, _ = run(program, carry, (6,))
    other, expected, _ = run(programs["solo"], fresh(programs["solo"], stepper, "solo"), (6,))
    assert_close(carry.state.variables, other.state.variables)
    np.testing.assert_allclose(rows, expected, rtol=1e-6, atol=1e-6)


# --- fit ----------------------------------------------------------------------------------------------------------


def recorded(program, carry, start, stop, boundary=lambda step: None):
    """Runs ``fit``; gives the carry, the calls in order, and the rows."""
    calls, rows = [], []

    def report(begin, end, chunk, seconds):
        assert seconds > 0
        calls.append(("report", begin, end))
        rows.append(chunk.rows)

    def save(step, now):
        assert int(now.state.step[0]) == step
        calls.append(("save", step))

    carry = loop.fit(program, carry, start, stop, report=report, save=save, boundary=boundary)
    return carry, calls, np.concatenate(rows, axis=1)


@pytest.mark.parametrize(
    ("chunk_seconds", "every", "ends"),
    [(1e9, None, [1, 9, 20]), (1e9, 5, [1, 5, 10, 15, 20]), (1e9, 7, [1, 7, 14, 20]), (0.0, None, list(range(1, 21)))],
)
def test_fit_reports_and_saves_contiguous_ranges(programs, stepper, chunk_seconds, every, ends):
    program = programs["solo"]._replace(log_every=3, seconds=chunk_seconds)
    boundary = (lambda step: None) if every is None else (lambda step: (step // every + 1) * every)
    carry, calls, rows = recorded(program, fresh(program, stepper, "solo"), 0, STEPS, boundary)
    ranges = list(zip([0, *ends[:-1]], ends, strict=True))
    assert calls == [call for begin, end in ranges for call in (("report", begin, end), ("save", end))]
    uncut, expected, _ = run(program, fresh(program, stepper, "solo"), (STEPS,))
    assert_equal(carry, uncut)
    np.testing.assert_array_equal(rows, expected)


def test_fit_keeps_within_the_capacity_and_lengthens_by_eight_at_most(stepper, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1e9)
    monkeypatch.setattr(loop, "MOST_STEPS", 11)
    program, carry = loop.compile_program(stepper, feed(), first(stepper, "solo"), log_every=4, strategy="solo")
    assert program.capacity == 11
    _, calls, rows = recorded(program, carry, 0, 37)
    assert [call[1:] for call in calls if call[0] == "report"] == [
        (0, 1), (1, 9), (9, 11), (11, 22), (22, 33), (33, 37),  # windows of eleven steps
    ]  # fmt: skip
    assert rows.shape[1] == 37 // 4
    with pytest.raises(ValueError, match="steps 0 to 12, expected 1 to 11 steps"):
        loop.run_chunk(program, carry, 0, 12)
    with pytest.raises(ValueError, match="steps 5 to 5, expected"):
        loop.run_chunk(program, carry, 5, 5)


def test_fit_with_nothing_to_do_gives_the_carry_back(programs, stepper):
    carry = fresh(programs["solo"], stepper, "solo")
    assert loop.fit(programs["solo"], carry, 5, 5) is carry
    with pytest.raises(ValueError, match=r"boundary\(0\) is 0, expected a later step or None"):
        loop.fit(programs["solo"], carry, 0, 5, boundary=lambda step: step)


def test_a_row_needs_at_least_one_step(stepper):
    with pytest.raises(ValueError, match="log_every=0, expected at least one"):
        loop.compile_program(stepper, feed(), first(stepper, "solo"), log_every=0, strategy="solo")


# --- losses that are not finite -----------------------------------------------------------------------------------


@functools.cache
def fragile(spoil, strategy, members):
    """An algorithm whose objective is spoiled by ``spoil(time, bias) -> (added to the loss, metrics)``, where the
    hyperparameter ``noise`` is the time; and its program."""

    def objective(key, variables, hparams, batch, *, train):
        outcome = MODEL.objective(key, variables, hparams, batch, train=train)
        added, metrics = spoil(hparams.noise, variables.params["encoder"]["b"][0])
        return outcome._replace(losses=outcome.losses | {"encoder": outcome.losses["encoder"] + added}, metrics=metrics)

    stepper = gradient_algorithm(MODEL._replace(objective=objective), optimizer="sgd")
    return stepper, loop.compile_program(
        stepper, feed(), first(stepper, strategy, members), log_every=3, strategy=strategy
    )[0]


def stopped(spoil, strategy, members, *, stop=STEPS, chunk=None):
    """The message with which ``fit`` stops, and the steps that it saved before."""
    (stepper, program), saved = fragile(spoil, strategy, members), []
    carry = fresh(program, stepper, strategy, members)

    def save(step, now):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(now.state.variables.params))
        saved.append(step)

    with pytest.raises(NonFiniteError) as caught:
        loop.fit(
            program, carry, 0, stop, save=save, boundary=lambda step: (step // chunk + 1) * chunk if chunk else None
        )
    return str(caught.value), saved


CLOCK, SLOW, STILL = HParams(noise="ramp:0:100:100"), HParams(noise="ramp:0:70:100"), HParams(noise=0.0)
CLIPPED = HParams(noise=CLOCK.noise, clip_norm=math.inf)


def root(time, bias):
    """From time 4.5 on, "root" is nan; "elbo" and the loss inherit it, "kl" does not."""
    value = jnp.sqrt(4.5 - time)
    return value, {"root": value, "elbo": -value, "kl": bias, "abba": time}


@pytest.mark.parametrize("chunk", [None, 1, 5])
def test_the_loop_stops_at_the_step_and_names_the_first_term(chunk):
    message, saved = stopped(root, "solo", (CLOCK,), chunk=chunk)
    assert message == "member 0 at step 5: root is nan"
    assert saved and max(saved) <= 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "members", "expected"),
    [
        ("vmap", (STILL, CLOCK), "member 1 at step 5: root is nan"),
        ("members", (STILL, CLOCK), "member 1 at step 5: root is nan"),
        ("vmap", (SLOW, CLOCK), "member 1 at step 5: root is nan"),  # all stop with the first
        ("members", (SLOW, CLOCK), "member 0 at step 7: root is nan; member 1 at step 5: root is nan"),
    ],
)
def test_the_loop_names_the_members(strategy, members, expected, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 1e9)
    message, saved = stopped(root, strategy, members, chunk=None)
    assert message == expected
    assert saved == [1]


def test_a_sum_is_named_only_where_no_term_is():
    message, _ = stopped(lambda time, bias: (jnp.where(time > 2, jnp.inf, 0.0), {"kl": bias}), "solo", (CLOCK,))
    assert message == "member 0 at step 3: encoder_loss is inf"


def cusp(time, bias):
    """At time 5 the loss is finite and its gradient by the bias is not."""
    return jnp.sqrt(jnp.where(time == 5, 0.0, 1.0) * bias**2), {}


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_caught_before_it_is_saved():
    message, saved = stopped(cusp, "solo", (CLOCK,), stop=6)
    assert message == "member 0 at step 5: the loss is finite, but the update made encoder/b not finite"
    assert saved and max(saved) <= 5
    message, _ = stopped(cusp, "vmap", (STILL, CLOCK), stop=6, chunk=6)
    assert message == "member 1 at step 5: the loss is finite, but the update made encoder/b not finite"
    message, _ = stopped(cusp, "solo", (CLIPPED,))
    assert message == "member 0 at step 5: the gradient is not finite"


@pytest.mark.parametrize(
    ("start", "stop", "expected"), [(0, 9, (5, {0: "root is nan"})), (3, 9, (5, {0: "root is nan"})), (0, 5, None)]
)
def test_the_first_step_at_which_a_member_diverges_is_found_and_nothing_is_changed(start, stop, expected):
    stepper, program = fragile(root, "solo", (CLOCK,))
    carry = fresh(program, stepper, "solo", (CLOCK,))
    carry = loop.fit(program, carry, 0, start) if start else carry
    assert loop.first_divergence(program, carry, start, stop) == expected
    assert int(carry.state.step[0]) == start
