"""Inputs prepared at each use are the same in any order and company of reading."""

import jax
import numpy as np
import pytest

from vaex import data
from vaex.data.loader.lazy_inputs import LazyInputs, chosen_intensities
from vaex.data.spec import Spec
from vaex.data.storage.mapped_rows import MappedRows

KEY = jax.random.key(7)
STORED = np.random.default_rng(0).integers(0, 256, (23, 4, 3, 1), np.uint8)
GREY = Spec("grey", (4, 3, 1), "grey", levels=256)
SPECS = {
    "none": GREY,
    "dynamic": GREY._replace(binarize="dynamic"),
    "threshold": GREY._replace(binarize="threshold"),
    "uniform": GREY._replace(dequantize="uniform"),
}


def one_by_one(spec):
    """All inputs, each example prepared by itself with a key of its number."""
    prepare = jax.jit(lambda key, x: data.prepare(spec, key, x))
    return np.concatenate([prepare(jax.random.fold_in(KEY, i), STORED[i : i + 1]) for i in range(len(STORED))])


def on_the_disk(x):
    return MappedRows(np.asarray(x)[::-1], np.arange(len(x))[::-1], lambda raw: raw, x.shape[1:], x.dtype)


@pytest.mark.slow
@pytest.mark.parametrize("where", [np.asarray, on_the_disk])
@pytest.mark.parametrize("block", [1, 5, 500])
@pytest.mark.parametrize("name", SPECS)
def test_inputs_do_not_depend_on_how_they_are_read(name, block, where):
    expected = one_by_one(SPECS[name])
    inputs = LazyInputs(SPECS[name], KEY, where(STORED), block)
    assert len(inputs) == len(STORED)
    for rows in (np.arange(23), np.arange(4, 9), np.array([22, 0, 22, 7]), np.array([], int), np.arange(23)):
        found = inputs[rows]
        assert found.dtype == np.float32 and np.array_equal(found, expected[rows])


def test_draws_are_those_of_independent_coins():
    inputs = LazyInputs(SPECS["dynamic"], KEY, np.full((4000, 4, 3, 1), 51, np.uint8), 500)
    drawn = inputs[np.arange(4000)].reshape(4000, 12)
    assert abs(drawn.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / drawn.size)
    covariance = np.cov(drawn.T) - 0.16 * np.eye(12)
    assert np.abs(covariance).max() < 5 * 0.16 / np.sqrt(4000)
    between = np.mean((drawn[::2] - 0.2) * (drawn[1::2] - 0.2))
    assert abs(between) < 4 * 0.16 / np.sqrt(24_000)


@pytest.mark.parametrize("where", [np.asarray, on_the_disk])
@pytest.mark.parametrize("name", SPECS)
def test_chosen_intensities_are_the_intensities(name, where):
    expected = np.asarray(data.intensities(SPECS[name], STORED))
    for rows in (np.arange(23), np.array([5, 0, 22, 5]), np.array([], int)):
        assert np.array_equal(chosen_intensities(SPECS[name], where(STORED), rows, 4), expected[rows])
