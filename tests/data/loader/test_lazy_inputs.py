"""Inputs prepared at each use equal those of one pass over all the data, in any order of reading."""

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


def in_one_pass(spec, block):
    """All inputs at once: block by block, each drawn with its own key, the last one filled up."""
    prepare = jax.jit(lambda key, x: data.prepare(spec, key, x))
    size = min(block, len(STORED))
    batches = data.padded_batches({"x": STORED}, size)
    parts = [np.asarray(prepare(jax.random.fold_in(KEY, i), batch["x"])) for i, batch in enumerate(batches)]
    return np.concatenate(parts)[: len(STORED)]


def on_the_disk(x):
    return MappedRows(np.asarray(x)[::-1], np.arange(len(x))[::-1], lambda raw: raw, x.shape[1:], x.dtype)


@pytest.mark.parametrize("where", [np.asarray, on_the_disk])
@pytest.mark.parametrize("block", [1, 5, 500])
@pytest.mark.parametrize("name", SPECS)
def test_inputs_do_not_depend_on_how_they_are_read(name, block, where):
    expected = in_one_pass(SPECS[name], block)
    inputs = LazyInputs(SPECS[name], KEY, where(STORED), block)
    assert len(inputs) == len(STORED)
    for rows in (np.arange(23), np.arange(4, 9), np.array([22, 0, 22, 7]), np.array([], int), np.arange(23)):
        found = inputs[rows]
        assert found.dtype == np.float32 and np.array_equal(found, expected[rows])


def test_reading_in_order_prepares_each_block_once():
    inputs = LazyInputs(SPECS["dynamic"], KEY, STORED, 6)
    prepare, made = inputs._prepare, []
    inputs._prepare = lambda key, x: made.append(len(x)) or prepare(key, x)
    for start in range(0, 23, 3):
        inputs[np.arange(start, min(start + 3, 23))]
    assert made == [6] * 4


@pytest.mark.parametrize("where", [np.asarray, on_the_disk])
@pytest.mark.parametrize("name", SPECS)
def test_chosen_intensities_are_the_intensities(name, where):
    expected = np.asarray(data.intensities(SPECS[name], STORED))
    for rows in (np.arange(23), np.array([5, 0, 22, 5]), np.array([], int)):
        assert np.array_equal(chosen_intensities(SPECS[name], where(STORED), rows, 4), expected[rows])
