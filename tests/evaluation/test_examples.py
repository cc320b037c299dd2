"""Choice of examples and their division into batches: what they promise for any number of examples."""

import numpy as np
import pytest

from vaex.evaluation.examples import chosen_examples, divided_examples, random_order


@pytest.mark.parametrize("n", [0, 1, 2, 499, 10_000])
def test_an_order_holds_every_example_once_and_never_changes(n):
    assert sorted(random_order(n)) == list(range(n))
    np.testing.assert_array_equal(random_order(n), random_order(n))


def test_the_order_is_that_of_earlier_runs():
    """Log-likelihoods of runs are paired by it: it is written to no file, and must not change."""
    assert random_order(10).tolist() == [5, 3, 4, 1, 9, 2, 6, 8, 7, 0]


def test_smaller_choices_begin_larger_ones():
    for count in (1, 7, 100):
        np.testing.assert_array_equal(
            chosen_examples(100, count), chosen_examples(100, 60)[:count] if count < 60 else random_order(100)
        )
    assert len(chosen_examples(5, 1000)) == 5


def test_a_choice_represents_a_sorted_split():
    """Of 10,000 examples sorted by class, 1,000 hold each of 10 classes about 100 times: chi-square of 9 degrees of freedom."""
    counts = np.bincount(chosen_examples(10_000, 1000) // 1000, minlength=10)
    assert np.sum((counts - 100) ** 2 / 100) < 30


@pytest.mark.parametrize("n", [1, 2, 499, 500, 501, 600, 999, 1000, 1001, 1499, 10_000])
def test_batches_are_even_and_leave_nothing_out(n):
    batches = divided_examples(random_order(n), 500)
    sizes = [len(batch) for batch in batches]
    assert sorted(np.concatenate(batches)) == list(range(n)) and max(sizes) - min(sizes) <= 1
    assert (min(sizes) >= 500 and max(sizes) < 1000) if n >= 500 else sizes == [n]
    with pytest.raises(ValueError, match="size=0, expected at least 1"):
        divided_examples(random_order(n), 0)
