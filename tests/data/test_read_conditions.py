"""Conditions that are no classes: which labels are read as such, what is kept of them, and what is refused."""

import numpy as np
import pytest

from vaex import data
from vaex.data import announcement
from vaex.data.conditions import KEPT, Condition, from_json
from vaex.data.spec import Dataset
from vaex.errors import UserError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (40, 6, 5), np.uint8)
REALS = RNG.normal(3.0, 2.0, 40)
HOT = RNG.integers(0, 2, (40, 3))


@pytest.mark.parametrize(
    ("y", "kinds"),
    [
        (REALS, "r"),
        (REALS[:, None], "r"),
        (np.arange(40.0)[:, None], "r"),  # a column of floats is a number, a row of them are classes
        (HOT, "aaa"),
        (HOT.astype(bool), "aaa"),
        (np.c_[HOT, REALS], "aaar"),
        (np.arange(40), ""),
        (np.arange(40.0), ""),
        (np.where(HOT[:, 0] == 1, "a", "b"), ""),
    ],
)
def test_real_numbers_and_several_attributes_are_conditions_and_whole_numbers_are_classes(tmp_path, y, kinds):
    np.savez(tmp_path / "a.npz", x=X, y=y)
    for dataset in (Dataset.from_arrays(X, y), data.load(str(tmp_path / "a.npz"))):
        read = dataset.spec.conditions
        assert "".join("a" if each.binary else "r" for each in read) == kinds
        assert (dataset.spec.num_classes == 0) == bool(kinds)
        arrays = dataset.splits["train"]["y"]
        assert (arrays.shape[1:], arrays.dtype) == (((len(kinds),), np.float32) if kinds else ((), np.int32))
        if kinds:
            together = np.concatenate([part["y"] for part in dataset.splits.values()])
            np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(np.float32(y).reshape(40, -1), axis=0))


def test_what_is_measured_is_of_the_training_examples():
    y = np.c_[REALS, HOT[:, 0], np.full(40, 7.5)]
    dataset = Dataset.from_arrays({"x": X, "y": y, "condition_names": ["age", "glasses", "dose"]})
    train = dataset.splits["train"]["y"]
    age, glasses, dose = dataset.spec.conditions
    np.testing.assert_allclose([age.location, age.scale], [train[:, 0].mean(), train[:, 0].std()], rtol=1e-6)
    np.testing.assert_allclose([age.low, age.high], np.quantile(train[:, 0], [0.05, 0.95]), rtol=1e-6)
    assert glasses == Condition("glasses", True, values=glasses.values) and dose[2:6] == (7.5, 1.0, 7.5, 7.5)
    kept = np.array([each.values for each in (age, glasses, dose)]).T
    assert len(kept) == min(KEPT, len(train)) and {tuple(row) for row in kept} <= {
        tuple(map(float, row)) for row in train
    }
    assert [from_json(list(each)) for each in dataset.spec.conditions] == list(dataset.spec.conditions)


def test_columns_of_a_table_become_conditions():
    table = {
        "a": np.linspace(0.0, 1.5, 60),
        "city": np.array(["Bonn", "Köln", "Ulm"] * 20),
        "smokes": np.array(["no", "yes"] * 30),
        "age": np.linspace(20.5, 60.0, 60),
        "b": np.linspace(3.0, 1.5, 60),
    }
    spec = Dataset.from_table(table, label_column="age,city,smokes").spec
    names = ["age", "city=Bonn", "city=Köln", "city=Ulm", "smokes=yes"]
    assert [each.name for each in spec.conditions] == names and [each.name for each in spec.columns] == ["a", "b"]
    assert [each.binary for each in spec.conditions] == [False, True, True, True, True]
    assert [each.name for each in Dataset.from_table(table, label_column="age").spec.conditions] == ["age"]
    assert Dataset.from_table(table, label_column="city").spec.label_names == ("Bonn", "Köln", "Ulm")
    table["age"][3] = np.nan
    with pytest.raises(UserError, match="--label_column=age: 1 rows of table lack it"):
        Dataset.from_table(table, label_column="age,city")
    with pytest.raises(UserError, match="--label_column=height: table has no such column"):
        Dataset.from_table(table, label_column="city,height")


def test_batches_bring_conditions():
    def batches(step):
        rng = np.random.default_rng(step)
        return rng.integers(0, 256, (100, 6, 5), np.uint8), rng.normal(size=(100, 2))

    dataset = Dataset.from_batches(batches, y="y")
    assert len(dataset.spec.conditions) == 2 and dataset.spec.num_classes == 0
    batch = dataset.source.feed(100).plan(0, 2)
    assert batch["y"].shape == (2, 100, 2) and batch["y"].dtype == np.float32


def test_the_lines_before_training_name_conditions():
    spec = Dataset.from_arrays({"x": X, "y": np.c_[HOT, REALS], "condition_names": ["p", "q", "r", "age"]})
    lines = announcement.lines(spec, data.resolve(spec.spec), announcement.Choices("auto", "auto", "gaussian"))
    (line,) = (line for line in lines if line.startswith("conditions"))
    assert line.startswith("conditions: attributes p, q, r; real numbers age (mostly ")


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"y": np.where(REALS > 4, np.nan, REALS)}, "y has NaN or infinity; conditions must be known"),
        ({"y": HOT[:39]}, r"shape \(39, 3\), expected numbers of shape \(40, m\)"),
        ({"y": np.zeros((40, 1), int)}, r"store y.reshape\(-1\), or floats for a condition"),
        ({"y": np.eye(40)}, r"store y.argmax\(1\), since its rows are one-hot"),
        ({"y": HOT, "condition_names": ["a", "b"]}, "condition_names are a, b, expected 3 different ones"),
        ({"y": np.arange(40), "condition_names": ["a"]}, "y holds no conditions"),
        ({"y": HOT, "x_test": X, "y_test": HOT[:, :2]}, "expected as many in every split"),
        ({"y": HOT, "x_test": X, "y_test": np.full(40, "a")}, "labels of test are texts, those of train numbers"),
    ],
)
def test_what_is_no_condition_is_refused(arrays, match):
    with pytest.raises(UserError, match=match):
        Dataset.from_arrays({"x": X, **arrays})


def test_flags_of_classes_are_refused():
    with pytest.raises(UserError, match="--first_label=1: y of arrays holds conditions"):
        Dataset.from_arrays(X, HOT, first_label=1)
