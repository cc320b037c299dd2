"""Feeds and padded batches: the right rows, once each, and unchanged."""

import jax
import numpy as np
import pytest

from vaex.data import batch_indices, padded_batches, resident_feed
from vaex.errors import UserError


def example_arrays(n=10):
    return {"x": np.arange(n * 6, dtype=np.uint8).reshape(n, 3, 2, 1), "y": np.arange(n, dtype=np.int32)}


def test_batches_hold_the_planned_rows():
    arrays = example_arrays()
    feed = resident_feed(arrays, 4, data_seed=3)
    plan = feed.plan(5, 7)
    assert np.array_equal(plan, batch_indices(3, 10, 4, 5, 7))
    gather = jax.jit(feed.batch)
    for row in plan:
        batch = gather(feed.resident, row)
        assert set(batch) == {"x", "y"}
        for name, values in arrays.items():
            assert batch[name].dtype == values.dtype
            assert np.array_equal(batch[name], values[row])


def test_an_epoch_passes_each_example_once():
    feed = resident_feed(example_arrays(), 5, data_seed=0)
    seen = np.concatenate([feed.batch(feed.resident, row)["y"] for row in feed.plan(2, 2)])  # the second epoch
    assert np.array_equal(np.sort(seen), np.arange(10))


def test_resident_arrays_are_copies():
    """On CPU, arrays on the device could share memory with the owner's."""
    memory = np.ones(4096 + 64, np.uint8)
    aligned = memory[-memory.ctypes.data % 64 :][:4096].reshape(64, 64)  # as jax needs it to share
    arrays = {"x": aligned}
    feed = resident_feed(arrays, 4)
    before = np.array(feed.resident["x"])
    arrays["x"][:] = 0
    assert np.array_equal(feed.resident["x"], before)


@pytest.mark.parametrize(
    ("batch_size", "data_seed", "match"),
    [
        (11, 0, "--batch_size=11 is larger than the training data of 10 examples; give at most 10"),
        (0, 0, "--batch_size=0: give a positive number"),
        (4, -1, "--data_seed=-1"),
    ],
)
def test_invalid_input_is_refused(batch_size, data_seed, match):
    with pytest.raises(UserError, match=match):
        resident_feed(example_arrays(), batch_size, data_seed)


@pytest.mark.parametrize("function", [resident_feed, padded_batches])
def test_arrays_of_different_lengths_are_refused(function):
    with pytest.raises(ValueError, match="same length"):
        function({"x": np.zeros([3, 2]), "y": np.zeros(2)}, 1)


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (8, 4), (3, 7), (1, 1), (0, 3)])
def test_padded_batches_pass_everything_once_in_order(n, batch_size):
    arrays = example_arrays(n)
    batches = list(padded_batches(arrays, batch_size))
    assert len(batches) == -(-n // batch_size)
    for name, values in arrays.items():
        kept = [batch[name][batch["mask"] == 1] for batch in batches]
        assert np.array_equal(np.concatenate([*kept, values[:0]]), values)
    for batch in batches:
        assert batch["mask"].dtype == np.float32
        assert set(np.unique(batch["mask"])) <= {0.0, 1.0}
        assert all(len(values) == batch_size for values in batch.values())


def test_padded_batches_of_chosen_rows_keep_their_order():
    rows = np.array([7, 2, 9, 0, 2])
    batches = list(padded_batches({"n": np.arange(10)}, 2, rows))
    assert [batch["n"].tolist() for batch in batches] == [[7, 2], [9, 0], [2, 2]]
    assert [batch["mask"].tolist() for batch in batches] == [[1, 1], [1, 1], [1, 0]]


@pytest.mark.parametrize(("arrays", "batch_size"), [({"x": np.zeros(3)}, 0), ({"mask": np.zeros(3)}, 1), ({}, 1)])
def test_padded_batches_refuse_before_the_first_batch(arrays, batch_size):
    with pytest.raises(ValueError, match="padded_batches"):
        padded_batches(arrays, batch_size)
