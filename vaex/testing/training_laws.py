"""Laws of training: one compilation, and the same numbers however steps, members, devices and processes cut it up."""

from __future__ import annotations

import pathlib
import tempfile
from typing import TYPE_CHECKING

import chex
import jax

from vaex.testing.assertions import assert_close, assert_close_but_for_rounding, assert_equal, member_of
from vaex.testing.subject import STEPS, NothingToCheck
from vaex.training import loop
from vaex.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    from vaex.core import PyTree
    from vaex.testing.subject import Subject
    from vaex.training.loop import Carry


def one_trace(subject: Subject) -> None:
    """Hyperparameters are traced: other values recompile nothing, and a program of any number of steps traces one."""
    for index in range(2):
        subject.compiled_step()(subject.first_state(index), subject.stored_batch())
    traces = subject.trained((0,), "solo").program.step_traces
    assert traces == 1, f"a program traced the step {traces} times"


def chunks_are_invisible(subject: Subject) -> None:
    """Any cut of the steps into chunks gives the same bits, and a plain Python loop over the step the same but for rounding."""
    at_once = subject.trained((0,), "solo")
    in_chunks = subject.trained((0,), "solo", chunks=(1, 2, 10, 7))
    assert_equal(at_once.carry, in_chunks.carry)
    assert_equal(at_once.rows, in_chunks.rows)
    state, step, feed = subject.first_state(), subject.compiled_step(), subject.feed
    for index in range(STEPS):
        row = jax.tree.map(lambda leaf, i=index: leaf[i], feed.plan(0, STEPS))
        state, _ = step(state, feed.batch(feed.resident, row))
    _assert_equals_solo(subject, 0, at_once.carry._replace(state=jax.tree.map(lambda leaf: leaf[None], state)))


def members_equal_solo_runs(subject: Subject) -> None:
    """A member of a population equals its solo run: bit for bit one after the other, but for rounding at once."""
    at_once, in_turn = (subject.trained((0, 1), strategy).carry for strategy in ("vmap", "members"))
    for index in (0, 1):
        _assert_equals_solo(subject, index, at_once)
        assert_equal(member_of(in_turn, index), member_of(subject.trained((index,), "solo").carry, 0))


def _assert_equals_solo(subject: Subject, index: int, carry: Carry) -> None:
    """Compare a member, as another program trained it, with its solo run: within 1e-5, or where a model amplifies rounding, within
    what rounding does to its solo run."""
    actual, solo = member_of(carry, index), member_of(subject.trained((index,), "solo").carry, 0)
    try:
        assert_close(actual, solo)
    except AssertionError:
        rounded = member_of(subject.trained((index,), "solo", rounded=True).carry, 0)
        assert_close_but_for_rounding(actual, solo, rounded)


def resume_is_exact(subject: Subject) -> None:
    """Training from a checkpoint gives the bits of training that never stopped, the running window of metrics included."""
    stopped = subject.trained((0,), "solo", chunks=(7,))
    restored = _through_checkpoint(stopped.carry, stopped.carry)
    resumed, _ = loop.run_chunk(stopped.program, restored, 7, STEPS)  # donates what was restored, not what is kept
    assert_equal(resumed, subject.trained((0,), "solo").carry)


def _through_checkpoint(carry: PyTree, template: PyTree) -> PyTree:
    """Save ``carry``, restore it like ``template``, and check that not a bit has changed."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(pathlib.Path(folder))
        checkpoints.save(STEPS, carry)
        restored = checkpoints.restore(template)
        checkpoints.close()
    assert_equal(restored, carry)
    return restored


def sharding_changes_nothing(subject: Subject) -> None:
    """Divided over devices by member or by batch, training gives the same numbers; a checkpoint moves between the two."""
    if jax.device_count() == 1:
        raise NothingToCheck("one device; XLA_FLAGS=--xla_force_host_platform_device_count=8 makes eight of a CPU")
    for strategy, members, devices in (("members", (0, 1), 2), ("solo", (0,), 8)):
        carry = subject.trained(members, strategy, devices=min(devices, jax.device_count())).carry
        for index in members:
            _assert_equals_solo(subject, index, carry)
        if len(members) > 1:
            alone = _through_checkpoint(carry, jax.eval_shape(lambda c: c, carry))
            back = _through_checkpoint(alone, carry)
            placed = [leaf.sharding for leaf in jax.tree.leaves(carry)]
            assert [leaf.sharding for leaf in jax.tree.leaves(back)] == placed, "a checkpoint lost its placement"


def stable_state(subject: Subject) -> None:
    """A step keeps the state's structure, shapes and dtypes."""
    state = jax.eval_shape(subject.first_state)
    after, metrics = jax.eval_shape(subject.algorithm.step, state, subject.stored_batch())
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert all(metric.shape == () for metric in metrics.values()), f"metrics of a step are scalars, got {metrics}"
