"""Schedules against NumPy formulas, alone and stacked, and their text."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.schedules import Schedule, as_schedule, constant, cosine, cycle, is_schedule, parse, ramp, resolve

pytestmark = pytest.mark.optimised

STEPS = np.arange(0, 60)


def by_numpy(kind, *numbers):
    """The value at each of ``STEPS``, in float64, written from the papers and not from the code."""
    if kind == "constant":
        return np.full(len(STEPS), numbers[0], np.float64)
    if kind == "cycle":
        start, stop, period, fraction = numbers
        position = (STEPS % period) / period  # tau of Fu et al. 2019, eq. 6
        return start + (stop - start) * np.minimum(position / fraction, 1.0)
    start, stop, length, begin = numbers
    share = np.clip((STEPS - begin) / length, 0.0, 1.0)
    if kind == "cosine":  # eta_min + (eta_max - eta_min) (1 + cos(pi t / T)) / 2, Loshchilov & Hutter 2017, eq. 5
        return stop + (start - stop) * (1 + np.cos(np.pi * share)) / 2
    return np.interp(STEPS, [begin, begin + length], [start, stop])


CASES = [
    ("constant", 0.5),
    ("constant", -3.0),
    ("constant", 0.0),
    ("ramp", 0.0, 4.0, 40, 0),
    ("ramp", 1.0, 0.1, 7, 13),
    ("ramp", -2.0, 5.0, 1, 0),
    ("ramp", 3.0, 3.0, 10, 0),
    ("ramp", 1e8, 1.0, 10, 0),
    ("cosine", 1e-3, 0.0, 50, 0),
    ("cosine", 0.0, 1.0, 20, 15),
    ("cycle", 0.0, 1.0, 20, 0.5),
    ("cycle", 2.0, -1.0, 7, 1.0),
    ("cycle", 0.0, 1.0, 10, 0.1),
]
MAKE = {"constant": constant, "ramp": ramp, "cosine": cosine, "cycle": cycle}


def schedule_of(case):
    return MAKE[case[0]](*case[1:])


def text(case):
    """Text of a case on the command line."""
    return repr(case[1]) if case[0] == "constant" else ":".join(map(str, case))


@pytest.mark.parametrize("case", CASES, ids=text)
def test_each_kind_follows_its_formula(case):
    expected = by_numpy(*case)
    scale = np.abs(expected).max() * 1e-6
    values = jax.jit(jax.vmap(schedule_of(case)))(STEPS)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=scale)
    np.testing.assert_allclose(schedule_of(case)(STEPS[17]), expected[17], rtol=1e-6, atol=scale)


@pytest.mark.parametrize("case", CASES, ids=text)
def test_text_gives_the_same_schedule(case):
    assert parse(text(case)) == schedule_of(case)
    assert as_schedule(text(case)) == as_schedule(schedule_of(case)) == schedule_of(case)


@pytest.mark.parametrize("case", [case for case in CASES if case[0] in ("ramp", "cosine")], ids=text)
def test_ends_are_exact(case):
    _, start, stop, length, begin = case
    schedule = jax.jit(schedule_of(case).__call__)
    for step in (0, begin):
        assert schedule(step) == np.float32(start)
    for step in (begin + length, begin + length + 1, 10**9):
        assert schedule(step) == np.float32(stop)


def test_all_kinds_stack_and_resolve_under_vmap():
    """Members of different kinds and lengths are one structure: one compiled function serves them all."""
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(schedule_of(case) for case in CASES))
    assert all(leaf.shape == (len(CASES),) and leaf.dtype == np.float32 for leaf in stacked)
    traces = []

    def value(tree, step):
        traces.append(1)
        return resolve({"beta": tree, "other": 2.0}, step)

    resolved = jax.jit(jax.vmap(value, in_axes=(0, None)))
    table = np.stack([resolved(stacked, step)["beta"] for step in STEPS], axis=1)
    expected = np.stack([by_numpy(*case) for case in CASES])
    for row, values in zip(table, expected, strict=True):
        np.testing.assert_allclose(row, values, rtol=1e-6, atol=1e-6 * np.abs(values).max())
    assert len(traces) == 1


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_constant_stays_infinite(value):
    """It switches something off, also beside finite members."""
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), constant(value), ramp(0.0, 1.0, 10), constant(2.0))
    for step in (0, 5, 1000):
        values = jax.jit(jax.vmap(lambda one, at=step: one(at)))(stacked)
        np.testing.assert_allclose(values, [value, min(step / 10, 1.0), 2.0], rtol=1e-6)
    assert parse(str(value))(3) == value


def test_a_cycle_restarts():
    schedule = cycle(0.0, 1.0, 100, fraction=0.25)
    assert [float(schedule(step)) for step in (0, 25, 99, 100, 125, 10**6 + 5)] == [
        0.0,
        1.0,
        1.0,
        0.0,
        1.0,
        np.float32(0.2),
    ]


def test_time_after_millions_of_steps():
    """float32 counts steps exactly up to 2**24; there a long ramp has moved by the right amount."""
    schedule, step = ramp(0.0, 1.0, 2**24), 2**24 - 1
    assert schedule(step) == np.float32(1 - 2.0**-24)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", None),
        ("fast", None),
        ("ramp", "ramp takes 3 or 4 numbers, got 0"),
        ("RAMP:0:1:2", None),
        ("step:0:1:2", None),
        ("1,2", None),
        ("nan", "nan is not a value"),
        ("1e400", "too large a number; write inf"),
        ("1e39", "beyond float32"),
        ("ramp:0:1", "ramp takes 3 or 4 numbers, got 2"),
        ("ramp:0:1:2:3:4", "ramp takes 3 or 4 numbers, got 5"),
        ("ramp:0:x:10", "could not convert string to float: 'x'"),
        ("ramp:0:nan:10", "nan is not a value"),
        ("ramp:0:inf:10", "expected finite numbers"),
        ("ramp:0:1:inf", "expected finite numbers"),
        ("ramp:0:1:0", "the length is 0.0, expected a positive number of steps"),
        ("ramp:0:1:-5", "the length is -5.0"),
        ("ramp:0:1:5:-1", "begin is -1.0, expected a step >= 0"),
        ("cosine:0:-inf:5", "expected finite numbers"),
        ("cosine:0:1:-5", "cosine: the length is -5.0"),
        ("cycle:0:1:0", "cycle: the length is 0.0"),
        ("cycle:0:1:10:0", "cycle: fraction is 0.0, expected a share of the period"),
        ("cycle:0:1:10:1.5", "cycle: fraction is 1.5"),
    ],
)
def test_wrong_words_show_the_grammar(words, reason):
    with pytest.raises(ValueError) as caught:
        parse(words)
    message = str(caught.value)
    assert message.startswith(f"{words!r} is neither a number nor a schedule")
    assert "expected a number, ramp:START:STOP:STEPS[:BEGIN], cosine:" in message
    assert (reason in message) if reason else ("schedule;" in message)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: constant(math.nan), "constant: nan is not a value"),
        (lambda: constant(1e39), "constant: .* beyond float32"),
        (lambda: constant(jnp.ones(3)), r"constant: value has shape \(3,\), expected a scalar"),
        (lambda: ramp(0.0, math.nan, 5), "ramp: got 0 to nan over 5 steps, expected finite numbers"),
        (lambda: cycle(0.0, math.inf, 5), "cycle: .* expected finite numbers"),
        (lambda: ramp(0.0, 1e39, 5), "ramp: .* beyond float32"),
    ],
)
def test_wrong_numbers_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_traced_numbers_become_constants():
    value = jax.jit(lambda number: as_schedule(number)(5))(0.25)
    assert value == 0.25 and value.dtype == jnp.float32
    batch = jax.vmap(as_schedule)(jnp.arange(3.0))
    assert is_schedule(batch) and batch.stop.tolist() == [0.0, 1.0, 2.0]


def test_a_schedule_is_a_pytree_of_scalars():
    leaves, structure = jax.tree.flatten(ramp(0.0, 4.0, 100))
    assert len(leaves) == len(Schedule._fields) and structure.unflatten(leaves) == ramp(0.0, 4.0, 100)
    assert jax.tree.structure(ramp(0.0, 4.0, 100)) == jax.tree.structure(constant(1.0)) == structure
    assert not is_schedule((0.0,) * 6) and not is_schedule(1.0)


def test_resolve_leaves_other_values_alone():
    tree = {"beta": ramp(0.0, 4.0, 100), "plain": 3, "nested": [constant(2.0), None]}
    found = resolve(tree, 25)
    assert (float(found["beta"]), found["plain"], float(found["nested"][0]), found["nested"][1]) == (1.0, 3, 2.0, None)
