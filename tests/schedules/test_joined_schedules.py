"""Schedules of several pieces and functions of the step, against optax and NumPy at many steps, alone and stacked."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vaex.configuration.declare import Declaration, Field
from vaex.configuration.grammar import hyperparameter_from_json, hyperparameter_to_json, read_hyperparameter, write
from vaex.errors import UserError
from vaex.schedules import (
    Schedule,
    alike_functions,
    constant,
    cosine,
    exponential,
    function,
    hold,
    join,
    parse,
    ramp,
    with_pieces,
)

STEPS = np.unique(np.concatenate([np.arange(700), np.geomspace(700, 10**6, 60).astype(int)]))
warm_up = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 600, end_value=1e-5)
CASES = {  # text -> the same schedule of optax
    "ramp:0:1e-3:100+cosine:1e-3:1e-5:500": warm_up,
    "exponential:1e-3:1e-5:400": optax.exponential_decay(1e-3, 400, 1e-2, end_value=1e-5),
    "exponential:1e-5:1e-2:300:50": optax.exponential_decay(1e-5, 300, 1e3, transition_begin=50, end_value=1e-2),
    "ramp:0:1e-3:50+exponential:1e-3:1e-4:400": optax.warmup_exponential_decay_schedule(
        0.0, 1e-3, 50, 400, 0.1, end_value=1e-4
    ),
    "hold:1:100+hold:0.1:200+0.01": optax.piecewise_constant_schedule(1.0, {100: 0.1, 300: 0.1}),
    "ramp:1:3:100+ramp:3:0.3:200": optax.piecewise_interpolate_schedule("linear", 1.0, {100: 3.0, 300: 0.1}),
    "cosine:1:3:100+cosine:3:0.3:200": optax.piecewise_interpolate_schedule("cosine", 1.0, {100: 3.0, 300: 0.1}),
    "ramp:0:1:20:10+cycle:0:1:50": optax.join_schedules(
        [optax.linear_schedule(0.0, 1.0, 20, 10), lambda step: jnp.minimum(jnp.mod(step, 50) / 25, 1.0)], [30]
    ),
}
BETA = Field("beta", float, 1.0, Declaration(low=0.0))


def values(schedule):
    return np.asarray(jax.jit(jax.vmap(schedule))(STEPS))


@pytest.fixture(scope="module")
def expected():
    return {text: values(schedule) for text, schedule in CASES.items()}


@pytest.mark.parametrize("text", CASES)
def test_text_is_the_schedule_of_optax(text, expected):
    np.testing.assert_allclose(values(parse(text)), expected[text], rtol=2e-6, atol=1e-9)


def test_members_of_all_kinds_stack_and_are_traced_once(expected):
    members = [parse(text) for text in CASES] + [constant(2.0), ramp(0.0, 1.0, 100), function(warm_up)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *alike_functions(members))
    traces = []

    @jax.jit
    def table(schedules):
        traces.append(1)
        return jax.vmap(lambda schedule: jax.vmap(schedule)(STEPS))(schedules)

    rows = np.asarray(table(stacked))
    ramped = np.minimum(STEPS / 100, 1.0)
    wanted = [*expected.values(), np.full(len(STEPS), 2.0), ramped, expected[next(iter(CASES))]]
    for row, values_of_member in zip(rows, wanted, strict=True):
        np.testing.assert_allclose(row, values_of_member, rtol=2e-6, atol=1e-9)
    table(jax.tree.map(lambda leaf: leaf + 0, stacked))
    assert len(traces) == 1


def test_schedules_of_one_piece_keep_their_structure():
    """Programs and checkpoints of runs without such schedules stay what they are."""
    plain = [constant(1.0), ramp(0.0, 1.0, 10), cosine(1.0, 0.0, 5)]
    assert all(isinstance(schedule, Schedule) for schedule in alike_functions(plain))
    for left, right in zip(alike_functions(plain), plain, strict=True):
        assert left == right


@pytest.mark.slow
def test_functions_are_shared_between_members():
    other = optax.cosine_decay_schedule(1e-3, 50)
    members = alike_functions([function(warm_up), function(other), constant(0.5), function(warm_up)])
    assert [int(member.choice) for member in members] == [1, 2, 0, 1]
    assert len({jax.tree.structure(member) for member in members}) == 1
    for member, same in zip(members, (warm_up, other, lambda step: 0.5 + 0.0 * step, warm_up), strict=True):
        np.testing.assert_allclose(values(member), values(same), rtol=1e-6)


@pytest.mark.parametrize("text", [*CASES, "0.5", "ramp:0:4:100", "hold:0.001:7+ramp:1:2:3:4+cycle:0:1:10:0.25"])
def test_text_and_json_give_the_schedule_again(text):
    [value] = read_hyperparameter(BETA, text)
    [again] = read_hyperparameter(BETA, write(value))
    restored = hyperparameter_from_json(hyperparameter_to_json(value))
    for other in (again, restored):
        for left, right in zip(jax.tree.leaves(value), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(left, right)


def test_added_pieces_never_begin(expected):
    text = next(iter(CASES))
    np.testing.assert_array_equal(values(with_pieces(parse(text), 7)), values(parse(text)))


def test_a_float_with_a_plus_is_a_number():
    assert read_hyperparameter(BETA, "1e+3") == (1000.0,)
    assert float(parse("hold:1e+0:5+1e+1")(5)) == 10.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1+ramp:0:1:5", "the constant 1 has no end"),
        ("cycle:0:1:5+2", "a cycle has no end"),
        ("exponential:0:1:5", "expected two finite numbers of one sign"),
        ("exponential:-1:1:5", "expected two finite numbers of one sign"),
        ("hold:1", "hold takes 2 numbers, got 1"),
        ("ramp:0:1:5+", "ramp"),
        ("ramp:0:1:5+step:3", "neither a number nor a schedule"),
        ("ramp:-1:0:5+cosine:0:1:5", "expected values of at least 0"),
        ("hold:1:5+inf", "expected finite numbers"),
    ],
)
def test_wrong_texts_are_refused(text, reason):
    with pytest.raises(UserError, match=reason) as caught:
        read_hyperparameter(BETA, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda step: np.sin(float(step)), "fails on a traced step"),
        (lambda step: jnp.stack([step, step]), "expected a number"),
        (lambda: 3.0, "fails on a traced step"),
    ],
)
def test_functions_that_are_no_schedules_are_refused(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        function(wrong)


def test_a_schedule_of_nothing_and_one_sign():
    with pytest.raises(ValueError, match="join: got no schedule"):
        join()
    np.testing.assert_allclose(float(exponential(-1.0, -0.25, 10)(5)), -0.5, rtol=1e-6)
    assert float(join(hold(3.0, 10), 2.0)(9)) == 3.0
