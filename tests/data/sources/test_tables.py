"""Tables: files made here, and how their columns are expected to be read."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from vaex import data
from vaex.data.columns import Column, as_table, check_codes, codes_of, write_csv
from vaex.data.spec import Dataset
from vaex.errors import UserError

RNG = np.random.default_rng(0)
N = 200
COLUMNS = {  # name -> entries, and the type that they are read as
    "height": (RNG.normal(1.7, 0.1, N), "gaussian"),
    "age": (RNG.integers(18, 90, N), "gaussian"),
    "visits": (RNG.poisson(9.0, N) * (RNG.random(N) < 0.9), "negative_binomial"),
    "grade": (RNG.integers(1, 6, N), "categorical"),
    "smoker": (np.arange(N) % 3 == 0, "bernoulli"),
    "sex": (np.array(["f", "m"])[RNG.integers(0, 2, N)], "bernoulli"),
    "city": (np.array(["Aachen, west", "Bonn", 'Köln "am Rhein"'])[RNG.integers(0, 3, N)], "categorical"),
    "code": (np.array([4, 9])[RNG.integers(0, 2, N)], "bernoulli"),
    "site": (np.full(N, 7), "constant"),
}
TABLE = {name: entries for name, (entries, _) in COLUMNS.items()}
TYPES = {name: kind for name, (_, kind) in COLUMNS.items()}


def with_gaps(table, share=0.1):
    rng, gaps = np.random.default_rng(1), {}
    for name, entries in table.items():
        objects = np.array(entries.tolist(), object)
        objects[rng.random(len(objects)) < share] = None
        gaps[name] = objects
    return gaps


def rows(dataset):
    return np.concatenate([dataset.splits[split]["x"] for split in ("train", "validation", "test")])


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("kind", ["csv", "parquet", "mapping"])
def test_types_are_inferred_and_rows_come_back(kind, gaps, tmp_path):
    table = with_gaps(TABLE) if gaps else TABLE
    if kind == "mapping":
        dataset = Dataset.from_table(table)
    else:
        path = tmp_path / f"people.{kind}"
        if kind == "csv":
            write_csv(path, table)
        else:
            pyarrow.parquet.write_table(pa.table({name: entries.tolist() for name, entries in table.items()}), path)
        dataset = data.load(str(path))
    spec = dataset.spec
    assert {column.name: column.type for column in spec.columns} == TYPES
    assert (spec.shape, spec.kind, spec.missing) == ((len(TABLE),), "real", gaps)
    assert spec.columns[6].categories == ("Aachen, west", "Bonn", 'Köln "am Rhein"')
    again = as_table(spec.columns, rows(dataset))
    order = np.concatenate(
        [data.order.epoch_order(2**64 - 1, 0, N)[part] for part in (np.s_[40:], np.s_[:20], np.s_[20:40])]
    )
    for name, entries in table.items():
        expected, got = entries[order].tolist(), again[name].tolist()
        if name == "height":
            np.testing.assert_allclose(np.array(got, float), np.array(expected, float), rtol=1e-6)
        else:
            assert got == expected
    first = {name: entries[:5] for name, entries in again.items()}
    np.testing.assert_array_equal(codes_of("encode", spec.columns, first), rows(dataset)[:5])


def test_location_and_scale_are_of_the_training_rows_as_networks_see_them():
    skewed = np.exp(RNG.normal(2.0, 0.5, N))
    spec = (dataset := Dataset.from_table({"a": skewed, "b": TABLE["visits"]}, columns="a:log_normal")).spec
    a, b = dataset.splits["train"]["x"].astype(float).T
    for column, values in zip(spec.columns, (np.log(a), np.log1p(b)), strict=True):
        np.testing.assert_allclose([column.location, column.scale], [values.mean(), values.std()], rtol=1e-2)
    as_given = data.resolve(spec, standardize="none").columns
    assert [(column.location, column.scale) for column in as_given] == [(0.0, 1.0)] * 2


def test_types_are_given_and_columns_dropped_or_made_labels():
    given = "height:student_t,visits:zero_inflated_poisson,grade:ordinal,site:drop"
    dataset = Dataset.from_table(TABLE, columns=given, label_column="city")
    types = {column.name: column.type for column in dataset.spec.columns}
    assert "site" not in types and "city" not in types
    assert (types["height"], types["visits"], types["grade"]) == ("student_t", "zero_inflated_poisson", "ordinal")
    assert dataset.spec.label_names == ("Aachen, west", "Bonn", 'Köln "am Rhein"') and dataset.spec.num_classes == 3
    sizes = Dataset.from_table({"s": ["S", "L", "M"] * 20}, columns="s:ordinal(S<M<L)")
    assert sizes.spec.columns[0].categories == ("S", "M", "L")
    assert set(np.unique(rows(sizes))) == {0.0, 1.0, 2.0}


def test_masked_entries_are_missing():
    masked = np.ma.MaskedArray(np.arange(80) % 4, np.arange(80) % 5 == 0)
    dataset = Dataset.from_table({"a": masked, "b": np.linspace(0, 1.5, 80)})
    assert dataset.spec.missing and dataset.spec.columns[0].type == "categorical"
    assert np.isnan(rows(dataset)).sum(0).tolist() == [16, 0]


NAMES = np.array([f"person {index}" for index in range(40)])
DATES = np.array([datetime.date(2020, 1, 1)] * 40, object)


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        ({"id": NAMES}, None, "40 different texts in 40 rows, .*--columns=id:drop"),
        ({"day": DATES}, None, "column 'day' holds date, expected numbers, bools or texts"),
        ({"a": np.full(40, np.nan)}, None, "no observed entry; leave it out with --columns=a:drop"),
        ({"a": np.array([1.0, np.inf] * 20)}, None, "20 infinite entries"),
        ({"a": np.linspace(-1, 1, 40)}, "a:log_normal", "log_normal needs positive numbers, but the least is -1"),
        ({"a": np.linspace(0, 1, 40)}, "a:poisson", "needs counts 0, 1, 2"),
        ({"a": np.arange(40)}, "a:bernoulli", "needs two different values, but it has 40"),
        ({"a": ["u", "v", "w", "u"] * 10}, "a:ordinal", r"texts have no order; .*a:ordinal\(u<v<w\)"),
        ({"a": ["u", "v", "w", "u"] * 10}, "a:gaussian", "needs numbers, but it holds texts such as 'u'"),
        ({"a": np.arange(40)}, "a:gausian", "did you mean gaussian"),
        ({"a": np.arange(40)}, "b:gaussian", "--columns=b: table has no such column; .*Known: a"),
        ({"a": np.arange(40)}, "a:drop", "no column is left"),
        ({"a": np.arange(40), "b": np.arange(39)}, None, r"columns of \[39, 40\] rows"),
        ({"a": np.zeros((40, 2))}, None, r"has shape \(40, 2\), expected one entry for each row"),
    ],
)
def test_what_no_type_holds_is_refused_with_the_remedy(table, columns, message):
    with pytest.raises(UserError, match=message):
        Dataset.from_table(table, columns=columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", "cannot be read as csv"),
        ("a,a\n1,2\n3,4\n", "two columns are called 'a'"),
    ],
)
def test_broken_files_are_refused(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        data.load(str(tmp_path / "t.csv"))
    (tmp_path / "t.parquet").write_text(text)
    with pytest.raises(UserError, match="cannot be read as parquet"):
        data.load(str(tmp_path / "t.parquet"))
    with pytest.raises(UserError, match="no such file"):
        data.load(str(tmp_path / "other.csv"))


def test_codes_of_other_categories_are_refused():
    columns = (Column("sex", "bernoulli", "str", ("f", "m")), Column("visits", "poisson", "int"))
    check_codes("encode", columns, np.array([[1.0, 7.0], [np.nan, np.nan]]))
    for wrong, message in (([2.0, 1.0], "expected codes 0 to 1"), ([0.0, 1.5], "expected counts")):
        with pytest.raises(UserError, match=message):
            check_codes("encode", columns, np.array([wrong]))
    with pytest.raises(UserError, match="'d' is no category of the training data"):
        codes_of("encode", columns, {"sex": ["d"], "visits": [1]})
    with pytest.raises(UserError, match="no column 'sx' in the training data; did you mean sex"):
        codes_of("encode", columns, {"sx": ["f"]})


@pytest.mark.parametrize("kind", ["npz", "mapping", "masked"])
def test_masks_of_vectors_say_what_is_missing(kind, tmp_path):
    x, mask = RNG.normal(size=(40, 3)), RNG.random((40, 3)) < 0.8
    arrays = {"x": x, "mask": mask}
    if kind == "npz":
        np.savez(tmp_path / "t.npz", **arrays)
        dataset = data.load(str(tmp_path / "t.npz"))
    else:
        dataset = Dataset.from_arrays(arrays if kind == "mapping" else np.ma.MaskedArray(x, ~mask))
    expected = Dataset.from_arrays(np.where(mask, x, np.nan))
    assert dataset.spec.missing and dataset.spec.data_hash == expected.spec.data_hash
    np.testing.assert_array_equal(rows(dataset), rows(expected))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((40, 2)), r"mask has shape \(40, 2\), expected \(40, 3\), that of x"),
        (np.full((40, 3), 2), "holds other values than 0 and 1"),
    ],
)
def test_other_masks_are_refused(mask, message):
    with pytest.raises(UserError, match=message):
        Dataset.from_arrays({"x": RNG.normal(size=(40, 3)), "mask": mask})
