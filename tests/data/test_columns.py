"""Tables of real numbers: what is measured of their columns, missing entries, and what is said of both."""

import numpy as np
import pytest

from vaex import data
from vaex.data.announcement import Choices, lines
from vaex.data.measure import columns, described, measure
from vaex.data.spec import Dataset, Spec
from vaex.errors import UserError

RNG = np.random.default_rng(0)
SCALES, MEANS = np.array([1e-5, 1.0, 1e6]), np.array([3e-5, -40.0, 2e6])
TABLE = RNG.normal(size=(500, 3)) * SCALES + MEANS


def with_gaps(x, share=0.2, seed=1):
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)


def test_location_and_scale_are_mean_and_deviation_of_each_column():
    spec = described(Dataset.from_arrays(TABLE))
    train = Dataset.from_arrays(TABLE).splits["train"]["x"].astype(np.float64)
    np.testing.assert_allclose(spec.scale, train.std(0), rtol=5e-3)
    assert np.all(np.abs(np.array(spec.location) - train.mean(0)) < 1e-3 * train.std(0))
    assert not spec.missing


def test_columns_that_never_change_keep_their_numbers():
    x = np.stack([np.full(50, 7.25), np.linspace(-1, 1, 50)], 1).astype(np.float32)
    location, scale = columns(measure(Spec("t", (2,), "real"), x))
    assert (location[0], scale[0]) == (7.25, 1.0)


def test_missing_entries_are_left_out_of_every_measure():
    gaps = with_gaps(TABLE).astype(np.float32)
    gaps[0] = np.nan
    result = measure(Spec("t", (3,), "real", missing=True), gaps)
    exact = gaps.astype(np.float64)
    np.testing.assert_allclose(result.mean, np.nanmean(exact, 0), rtol=1e-6)
    np.testing.assert_allclose(result.deviation, np.nanstd(exact, 0), rtol=1e-5)
    assert (result.low, result.high) == (np.nanmin(gaps), np.nanmax(gaps))
    assert result.missing == pytest.approx(np.isnan(gaps).mean())


def test_a_column_without_any_value_is_measured_as_constant():
    gaps = TABLE.copy()
    gaps[:, 1] = np.nan
    spec = Dataset.from_arrays(gaps).spec
    assert (spec.location[1], spec.scale[1]) == (0.0, 1.0) and spec.missing


@pytest.mark.parametrize("scale", [1.0, 0.01], ids=["any", "in_unit_interval"])
def test_vectors_with_nan_are_real_numbers_with_missing_entries(scale, tmp_path):
    x = with_gaps(RNG.random((40, 3)) * scale)
    np.savez(tmp_path / "t.npz", x=x)
    for spec in (Dataset.from_arrays(x).spec, data.load(str(tmp_path / "t.npz")).spec):
        assert (spec.kind, spec.levels, spec.missing) == ("real", None, True)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.where(np.eye(5) > 0, np.inf, 1.5), "infinite, the first at index \\(0, 0\\)"),
        (np.full((5, 2), np.nan), "all values are NaN"),
        (np.full((5, 4, 4), np.nan), "80 values that are NaN or infinite"),
    ],
    ids=["infinite", "nothing_observed", "images"],
)
def test_what_is_no_missing_entry_is_refused(x, message):
    with pytest.raises(UserError, match=message):
        Dataset.from_arrays(x)


def test_batches_with_gaps_need_examples_that_show_them():
    def batches(step):
        return with_gaps(TABLE[:32]) if step > 40 else TABLE[:32]

    dataset = Dataset.from_batches(batches)
    with pytest.raises(UserError, match=r"batch 41 has missing values.*validation="):
        dataset.source.feed(32).plan(41 - dataset.source.offset, 1)


def test_standardising_is_resolved_and_refused_where_there_is_nothing_to_standardise():
    spec = data.resolve(Dataset.from_arrays(TABLE).spec, standardize="none")
    assert (spec.location, spec.scale) == ((), ())
    with pytest.raises(UserError, match="--standardize=none: grey holds no real numbers"):
        data.resolve(Spec("grey", (4, 4, 1), "grey", levels=256), standardize="none")
    with pytest.raises(UserError, match="--standardize=all"):
        data.resolve(spec, standardize="all")


def test_the_first_line_tells_of_gaps_and_of_standardising():
    dataset = Dataset.from_arrays(with_gaps(TABLE))
    said = lines(dataset, dataset.spec, Choices("auto", "auto", "gaussian, one learned scale"))
    assert "% of them missing; columns standardised (--standardize=none keeps them)" in said[0]
    assert not any("warning" in line for line in said)


def test_columns_that_float32_cannot_hold_apart_are_named():
    x = TABLE.copy()
    x[:, 0] = 1e9 + 100.0 * RNG.normal(size=len(x))
    dataset = Dataset.from_arrays(x)
    said = lines(dataset, dataset.spec, Choices("auto", "auto", "gaussian, one learned scale"))
    assert any("the mean of column 0 is so far from 0" in line for line in said)
