"""The order of examples: golden bits, and the law that batches are pieces of one endless sequence of permutations."""

import numpy as np
import pytest

from vaex.data.order import batch_indices, epoch_order


def test_order_is_golden():
    """Raw Philox bits are the same on every machine and NumPy version; a change here changes every run's data."""
    assert epoch_order(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert epoch_order(3, 2, 8).tolist() == [2, 4, 1, 3, 6, 5, 0, 7]


@pytest.mark.parametrize("n", [1, 2, 97, 5000])
def test_every_epoch_is_a_permutation_and_no_two_are_equal(n):
    orders = [epoch_order(seed, epoch, n) for seed in (0, 1, 2**64 - 1) for epoch in (0, 1, 10**9)]
    for order in orders:
        assert order.dtype == np.int32
        assert np.array_equal(np.sort(order), np.arange(n))
    if n > 50:
        assert len({order.tobytes() for order in orders}) == len(orders)


def test_positions_are_uniform():
    """The position of example 0 over 4,000 epochs of 10: chi-square, 9 degrees of freedom, within 4 standard deviations."""
    positions = [int(np.flatnonzero(epoch_order(5, epoch, 10) == 0)[0]) for epoch in range(4000)]
    counts = np.bincount(positions, minlength=10)
    chi_square = float(np.sum((counts - 400.0) ** 2 / 400.0))
    assert abs(chi_square - 9) < 4 * np.sqrt(2 * 9)


@pytest.mark.parametrize(("n", "batch_size", "steps"), [(7, 3, 40), (5, 5, 12), (3, 8, 20), (1, 4, 3), (200, 32, 30)])
def test_batches_are_the_epochs_in_a_row(n, batch_size, steps):
    total = steps * batch_size
    row = np.concatenate([epoch_order(9, epoch, n) for epoch in range(total // n + 1)])[:total].reshape(
        steps, batch_size
    )
    whole = batch_indices(9, n, batch_size, 0, steps)
    assert whole.dtype == np.int32
    assert np.array_equal(whole, row)
    for first, count in ((0, 1), (1, 2), (steps // 2, steps - steps // 2), (steps - 1, 1), (2, 0)):
        assert np.array_equal(batch_indices(9, n, batch_size, first, count), whole[first : first + count])


def test_a_step_far_beyond_32_bits_is_the_right_epoch():
    n, batch_size, step = 60_000, 128, 10**9
    epoch, offset = divmod(step * batch_size, n)
    assert np.array_equal(
        batch_indices(0, n, batch_size, step, 1)[0], epoch_order(0, epoch, n)[offset : offset + batch_size]
    )


def test_a_large_epoch_is_permuted_once_for_many_small_pieces(monkeypatch):
    philox, keys = np.random.Philox, []
    monkeypatch.setattr(np.random, "Philox", lambda key: keys.append(key.tolist()) or philox(key=key))
    for step in range(50):
        batch_indices(0, 10_001, 100, step, 1)
    assert keys == [[0, 0]]


def test_the_cached_permutation_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        epoch_order(0, 0, 4)[0] = 1
    batch_indices(0, 4, 4, 0, 1)[0, 0] = -1
    assert epoch_order(0, 0, 4).min() == 0


@pytest.mark.parametrize(
    "bad", [{"n": 0}, {"batch_size": 0}, {"first_step": -1}, {"count": -1}, {"data_seed": -1}, {"data_seed": 2**64}]
)
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        batch_indices(**({"data_seed": 0, "n": 3, "batch_size": 2, "first_step": 0, "count": 1} | bad))
