"""Runs on tables: trained, saved, loaded, sampled and imputed, with densities that SciPy gives too."""

import json

import jax
import numpy as np
import pyarrow.csv
import pytest
import scipy.stats as st

import vaex
from vaex.data import announcement
from vaex.data.columns import Column, as_table, write_csv
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.models.networks import network_inputs, network_shape

RNG = np.random.default_rng(0)
N = 240
Z = RNG.normal(size=N)
TYPES = (
    "income:log_normal,wild:student_t,grade:ordinal,calls:poisson,visits:negative_binomial,zeros:zero_inflated_poisson,"
    "both:zero_inflated_negative_binomial"
)
TABLE = {
    "age": np.round(45 + 12 * Z + 3 * RNG.normal(size=N)).astype(int),
    "income": np.exp(10 + 0.5 * Z + 0.3 * RNG.normal(size=N)),
    "tiny": 1e-5 * (Z + 0.3 * RNG.normal(size=N)),
    "wild": 1e6 * (Z - 0.3 * RNG.normal(size=N)) + 5e6,
    "sex": np.where(RNG.random(N) < 1 / (1 + np.exp(-2 * Z)), "f", "m"),
    "city": np.array(["a", "b", "c"])[np.digitize(Z + RNG.normal(size=N), [-0.5, 0.5])],
    "grade": np.digitize(Z + 0.5 * RNG.normal(size=N), [-1, 0, 1]),
    "calls": RNG.poisson(np.exp(1 + 0.5 * Z)),
    "visits": RNG.poisson(np.exp(2 + 0.5 * Z)),
    "zeros": np.where(RNG.random(N) < 0.4, 0, RNG.poisson(6, N)),
    "both": np.where(RNG.random(N) < 0.4, 0, RNG.poisson(20, N)),
    "site": np.full(N, 7.5),
}
OPTIONS = {"hidden": (16,), "latent_dim": 2, "columns": TYPES, "progress": False, "batch_size": 50}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained from a CSV file in which a tenth of the entries is missing."""
    folder, gaps = tmp_path_factory.mktemp("tables"), {}
    rng = np.random.default_rng(1)
    for name, entries in TABLE.items():
        gaps[name] = np.array(entries.tolist(), object)
        gaps[name][rng.random(N) < 0.1] = None
    write_csv(folder / "people.csv", gaps)
    return vaex.train("vae", str(folder / "people.csv"), steps=300, out=folder / "run", evaluate=True, **OPTIONS)


def test_what_is_read_is_said():
    dataset = vaex.Dataset.from_table({"a": TABLE["income"], "b": TABLE["city"]}, columns="a:log_normal")
    title = likelihoods.build("auto", dataset.spec).title
    said = announcement.lines(dataset, dataset.spec, announcement.Choices(None, "auto", title))
    assert said == [
        "data: 192 training examples; rows of 2 columns; no entry missing",
        "columns: log_normal: a; categorical: b (3) (--columns=NAME:TYPE reads them otherwise)",
        "likelihood: by column (log normal, categorical), a learned scale each, the default for tables (--likelihood)",
    ]


def columns_of(px, spec):
    """Name -> parameters of the distribution of each column, for the first code."""
    found = {}
    for places, part in zip(px.columns, px.parts, strict=True):
        for at, place in enumerate(places):
            leaf = jax.tree.map(lambda leaf, at=at: np.asarray(leaf, float)[0, at], part)
            found[spec.columns[place].name] = leaf
    return found


def density(name, d, x):
    """Log-density of an entry by SciPy."""
    if name in ("age", "tiny"):
        return st.norm(d.loc, np.exp(d.log_scale)).logpdf(x)
    if name == "wild":
        return st.t(d.df, d.loc, np.exp(d.log_scale)).logpdf(x)
    if name == "income":
        return st.lognorm(np.exp(d.log_scale), scale=np.exp(d.loc)).logpdf(x)
    if name == "calls":
        return st.poisson(np.exp(d.log_rate)).logpmf(x)
    if name == "visits":
        r = np.exp(-d.log_dispersion)
        return st.nbinom(r, r / (r + np.exp(d.log_mean))).logpmf(x)
    if name in ("zeros", "both"):
        share = 1 / (1 + np.exp(-d.logits))
        return np.log(
            (x == 0) * share + (1 - share) * np.exp(density("calls" if name == "zeros" else "visits", d.base, x))
        )
    if name == "sex":
        return -np.log1p(np.exp(-d.logits if x else d.logits))
    return d.logits[int(x)] - np.log(np.exp(d.logits).sum())


def test_densities_are_scipys_in_the_tables_own_units():
    """Column by column, with all others missing: nothing of standardising is left."""
    spec = (dataset := vaex.Dataset.from_table(TABLE, columns=TYPES)).spec
    likelihood = likelihoods.build("auto", spec)
    raw = np.random.default_rng(2).normal(size=(1, len(TABLE), likelihood.channels)).astype(np.float32)
    row = dataset.splits["train"]["x"][0]
    x = np.concatenate([np.where(np.eye(len(TABLE), dtype=bool), row, np.nan), row[None]])

    @jax.jit
    def both(raw):
        px = likelihood.distribution(likelihood.init(), 1.0, raw)
        return px, px.log_prob(x)

    px, nats = both(raw)
    found = columns_of(px, spec)
    for column, alone, entry in zip(spec.columns, nats[:-1], row, strict=True):
        expected = 0.0 if column.type == "constant" else density(column.name, found[column.name], float(entry))
        np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-4, err_msg=column.name)
    np.testing.assert_allclose(nats[-1], nats[:-1].sum(), rtol=1e-5)


@pytest.mark.slow
def test_sampled_rows_are_valid_and_follow_the_columns(run):
    table = as_table(run.spec.columns, run[0].sample(jax.random.key(0), 2000, show="sample"))
    assert list(table) == list(TABLE)
    for name, entries in TABLE.items():
        if entries.dtype.kind == "U":
            assert set(table[name]) == set(entries)
        if entries.dtype.kind == "i":
            assert table[name].dtype == np.int64
        assert name not in ("calls", "visits", "zeros", "both") or table[name].min() >= 0
    assert table["income"].min() > 0 and set(table["grade"]) == {0, 1, 2, 3} and set(table["site"]) == {7.5}
    for name in ("age", "tiny", "wild", "calls"):  # of columns from 1e-5 to 1e6
        assert abs(np.median(table[name]) - np.median(TABLE[name])) < TABLE[name].std(), name
    assert np.std(table["tiny"]) < 5e-5 and np.std(table["wild"]) > 2e5
    written = pyarrow.csv.read_csv(run.directory / "tables" / "samples.csv")
    assert (written.num_rows, written.column_names) == (1000, list(TABLE))
    assert (run.directory / "figures" / "columns.png").exists()


@pytest.mark.slow
def test_a_table_is_imputed_and_read_again(run, tmp_path):
    rows = {"age": [70, None], "income": [None, np.exp(9.3)], "sex": [None, None], "tiny": [2e-5, -1.2e-5]}
    imputed = run[0].impute(jax.random.key(0), rows, num_samples=200)
    mean = as_table(run.spec.columns, imputed.mean)
    assert mean["age"][0] == 70 and mean["income"][0] > 30000 > mean["income"][1]
    assert mean["sex"].tolist() == ["f", "m"] and set(mean["city"]) <= {"a", "b", "c"}
    draws = as_table(run.spec.columns, imputed.draws.reshape(-1, len(TABLE)))
    assert set(draws["grade"]) <= {0, 1, 2, 3} and draws["calls"].dtype == np.int64
    again = vaex.load(run.directory)
    assert again.spec == run.spec
    np.testing.assert_array_equal(again[0].encode(rows).mean, run[0].encode(rows).mean)
    summary = json.loads((run.directory / "summary.json").read_text())
    assert np.isfinite(summary["members"][0]["log_likelihood"])


@pytest.mark.slow
def test_the_bound_does_not_depend_on_standardising():
    """Up to the log-determinant, which is in the density: the same row and parameters give the same nats."""
    table = {"a": TABLE["tiny"], "b": TABLE["wild"]}
    standard = vaex.Dataset.from_table(table)
    scale = np.array([column.scale for column in standard.spec.columns])
    location = np.array([column.location for column in standard.spec.columns])
    raw = standard.splits["train"]["x"]
    by_hand = {name: (np.asarray(entries) - location[i]) / scale[i] for i, (name, entries) in enumerate(table.items())}
    options = {name: value for name, value in OPTIONS.items() if name != "columns"}
    first = vaex.train("vae", standard, steps=50, **options)
    second = vaex.train("vae", vaex.Dataset.from_table(by_hand), steps=50, standardize="none", **options)
    key = jax.random.key(0)
    nats = first[0].log_likelihood(key, raw[:20]), second[0].log_likelihood(key, ((raw - location) / scale)[:20])
    np.testing.assert_allclose(nats[0] + np.log(scale).sum(), nats[1], atol=1e-4)


@pytest.mark.slow
def test_networks_read_numbers_standardised_and_categories_one_hot():
    """And what is observed; what leaves the support of a column, as learned inputs may, stays finite."""
    columns = (
        Column("a", "gaussian", location=10.0, scale=2.0),
        Column("b", "log_normal", location=1.0, scale=0.5),
        Column("c", "categorical", "str", ("u", "v", "w")),
        Column("d", "poisson", "int", location=0.0, scale=2.0),
        Column("e", "constant", "int", ("7",)),
        Column("f", "bernoulli", "str", ("n", "y")),
    )
    spec = Spec("t", (6,), "real", columns=columns, missing=True)
    x = np.array(
        [[14.0, np.e**2, 2.0, np.e - 1, 0.0, 1.0], [np.nan] * 6, [10.0, -1.0, 0.5, -3.0, 0.0, 0.0]], np.float32
    )
    read = np.asarray(network_inputs(spec, x))
    assert read.shape == (3, *network_shape(spec))
    np.testing.assert_allclose(read[0], [2.0, 2.0, 0.5, 1.0, 0.0, 0.0, 1.0, *[1.0] * 6], rtol=1e-5)
    np.testing.assert_array_equal(read[1], 0.0)
    np.testing.assert_allclose(read[2, 4:7], [0.5, 0.5, 0.0])
    assert np.isfinite(jax.grad(lambda x: network_inputs(spec, x).sum())(x)).all()
    complete = spec._replace(missing=False)
    np.testing.assert_array_equal(network_inputs(complete, x[:1]), read[:1, :-6])


@pytest.mark.slow
def test_a_small_table_trains_and_comes_back(tmp_path):
    """From 1e-5 to 1e6 beside a category, with entries missing."""
    table = {name: np.array(TABLE[name].tolist(), object) for name in ("tiny", "wild", "city")}
    table["tiny"][:9] = None
    options = {name: value for name, value in OPTIONS.items() if name != "columns"}
    small = vaex.train("vae", vaex.Dataset.from_table(table), steps=60, **options)
    rows = as_table(small.spec.columns, small[0].sample(jax.random.key(0), 300, show="sample"))
    assert set(rows["city"]) == {"a", "b", "c"}
    for name in ("tiny", "wild"):
        assert 0.3 < np.std(rows[name]) / TABLE[name].std() < 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "gaussian"}, "is a table, whose columns have likelihoods of their own"),
        ({"columns": "a:drop"}, "columns is for data that is loaded by name"),
    ],
)
def test_options_that_are_not_for_tables_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        vaex.train("vae", vaex.Dataset.from_table({"a": TABLE["income"]}), steps=1, progress=False, **options)
