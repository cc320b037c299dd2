"""Sparse matrices: read as their dense arrays are, a few rows at a time; counts with library sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.stats as st

import vaex
from vaex import data
from vaex.data.sources import sparse
from vaex.data.spec import Dataset, Spec
from vaex.errors import UserError
from vaex.models import likelihoods, registry
from vaex.schedules import resolve

RNG = np.random.default_rng(0)
SHARES = RNG.dirichlet(np.full(12, 0.3), size=3)
GROUPS = np.arange(200) % 3
TOTALS = np.exp(RNG.normal(5.0, 1.0, 200))
COUNTS = RNG.poisson(TOTALS[:, None] * SHARES[GROUPS])
MATRICES = {
    "counts": COUNTS,
    "bits": (COUNTS > 3).astype(np.float32),
    "real": np.where(COUNTS > 3, RNG.normal(size=COUNTS.shape), 0),
}


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("name", MATRICES)
def test_rows_and_values_are_those_of_the_dense_array(name, form, tmp_path):
    scipy.sparse.save_npz(tmp_path / "m.npz", getattr(scipy.sparse, f"{form}_matrix")(MATRICES[name]))
    read = data.load(str(tmp_path / "m.npz"))
    dense = Dataset.from_arrays(MATRICES[name] if name != "bits" else MATRICES[name].astype(bool))
    for split, arrays in dense.splits.items():
        np.testing.assert_array_equal(np.asarray(read.splits[split]["x"]), arrays["x"])
    same = ("shape", "kind", "levels", "counts", "location", "scale", "typical_total", "num_training_examples")
    assert {field: getattr(read.spec, field) for field in same} == {field: getattr(dense.spec, field) for field in same}


def test_the_matrix_is_never_dense(tmp_path, monkeypatch):
    """A matrix that would take 8 TB: a feed takes batches from it."""
    n, d, each = 20_000, 100_000_000, 4
    indices = np.sort(RNG.integers(0, d, (n, each)), axis=1).astype(np.int32).ravel()
    matrix = scipy.sparse.csr_matrix((np.ones(n * each, np.uint16), indices, np.arange(0, n * each + 1, each)), (n, d))
    rows = sparse.SparseMatrix(matrix.indptr, matrix.indices, matrix.data, matrix.shape)
    batch = rows[np.array([17, 3])]
    assert batch.shape == (2, d) and batch.sum() == 2 * each and set(np.flatnonzero(batch[1])) == set(indices[12:16])
    narrow = scipy.sparse.random(3000, 500, 0.01, format="csr", random_state=0)
    narrow.data = np.ceil(narrow.data * 9)
    scipy.sparse.save_npz(tmp_path / "m.npz", narrow)
    asked, gather = [], sparse.SparseMatrix.__getitem__
    monkeypatch.setattr(
        sparse.SparseMatrix, "__getitem__", lambda self, rows: asked.append(len(rows)) or gather(self, rows)
    )
    monkeypatch.setattr(sparse, "PIECE", 100 * 500)
    monkeypatch.setattr("vaex.data.measure.MOST_VALUES", 16 * 100 * 500)
    dataset = data.load(str(tmp_path / "m.npz"))
    feed = data.feed_for("host", dataset.splits["train"], 20)
    assert feed.plan(0, 3)["x"].shape == (3, 20, 500)
    assert max(asked) <= 500


@pytest.mark.parametrize(
    ("form", "parts", "message"),
    [
        ("coo", {}, "format 'coo', expected csr or csc; write it with scipy.sparse.save_npz"),
        ("csr", {"indices": np.array([0, 9])}, "do not fit together"),
        ("csr", {"indptr": np.array([0, 1])}, "do not fit together"),
        ("csr", {"data": np.array([1.0, np.nan])}, "not finite"),
        ("csr", {"data": np.array([1, 70_000])}, "counts reach 70000, expected at most 65535"),
    ],
)
def test_other_matrices_are_refused(form, parts, message, tmp_path):
    whole = {
        "indptr": np.array([0, 1, 2]),
        "indices": np.array([0, 2]),
        "data": np.array([1, 2]),
        "shape": np.array([2, 3]),
    }
    np.savez(tmp_path / "m.npz", format=form.encode(), **{**whole, **parts})
    with pytest.raises(UserError, match=message):
        data.load(str(tmp_path / "m.npz"))


@pytest.mark.parametrize("name", likelihoods.LIBRARY)
def test_rates_are_shares_of_the_total(name):
    """SciPy's density at the total times the softmax; in a model's own bound, too; and at the typical total without an example."""
    spec = Dataset.from_arrays(COUNTS).spec
    likelihood = likelihoods.build(name, spec, totals=True)
    raw = RNG.normal(size=(200, 12, 1)).astype(np.float32)
    x = jnp.asarray(COUNTS / (spec.levels - 1), jnp.float32)
    shares = np.exp(raw[..., 0]) / np.exp(raw[..., 0]).sum(1, keepdims=True)

    def expected(totals):
        mean = totals * shares
        counts = st.poisson(mean) if name == "library_poisson" else st.nbinom(1.0, 1 / (1 + mean))
        return counts.logpmf(COUNTS).sum(1)

    assert likelihood.given is not None
    given = likelihood.given(likelihood.init(), 1.0, raw, x).log_prob(x)
    np.testing.assert_allclose(given, expected(np.maximum(COUNTS.sum(1, keepdims=True), 1)), rtol=2e-4)
    alone = likelihood.distribution(likelihood.init(), 1.0, raw)
    np.testing.assert_allclose(alone.log_prob(x), expected(spec.typical_total), rtol=2e-4)
    np.testing.assert_allclose(alone.mean.sum(-1) * (spec.levels - 1), spec.typical_total, rtol=1e-4)


@pytest.mark.slow
def test_a_model_is_given_the_total_of_its_examples():
    """Twice the counts of all genes: the same code and shares, so the rates double."""
    module = registry.module("vae")
    spec = Spec("cells", (3,), "grey", levels=1000, counts=True, typical_total=30.0)
    config = module.Config(latent_dim=2, hidden=(8,), likelihood="library_poisson")
    model = module.build(config, spec).stages[0].model
    x = jnp.array([[3.0, 10.0, 20.0]]) / 999
    variables = model.init(jax.random.key(0), {"x": x})
    hparams, z = resolve(module.HParams(), jnp.int32(0)), jnp.ones((1, 2))
    of = [model.decode(variables, hparams, z, batch).mean.sum() * 999 for batch in ({"x": x}, {"x": 2 * x}, {})]
    np.testing.assert_allclose(of, [33.0, 66.0, 30.0], rtol=1e-4)


def test_models_that_are_not_given_the_example_refuse_library_sizes():
    with pytest.raises(UserError, match="this model's decoder is not given; use --likelihood=poisson"):
        vaex.train("ladder_vae", COUNTS, likelihood="library_poisson", steps=1, progress=False)


@pytest.mark.slow
def test_library_sizes_separate_groups_from_depth():
    """Cells of three kinds whose depths vary by e: codes tell the kinds, with a better bound than without library sizes."""
    elbos = {}
    for name in ("negative_binomial", "library_negative_binomial"):
        run = vaex.train(
            "vae", COUNTS, likelihood=name, likelihood_scale="per_column", latent_dim=2, hidden=(32,), steps=600,
            batch_size=50, learning_rate=0.003, progress=False,
        )  # fmt: skip
        elbos[name] = float(np.mean(run[0].log_likelihood(jax.random.key(0), COUNTS, num_samples=50)))
        z = np.asarray(run[0].encode(COUNTS).mean)
    assert elbos["library_negative_binomial"] > elbos["negative_binomial"]
    centres = np.stack([z[group == GROUPS].mean(0) for group in range(3)])
    nearest = np.argmin(np.square(z[:, None] - centres).sum(-1), axis=1)
    assert np.mean(nearest == GROUPS) > 0.9


@pytest.mark.slow
def test_flags_for_arrays_are_refused(tmp_path):
    scipy.sparse.save_npz(tmp_path / "m.npz", scipy.sparse.csr_matrix(COUNTS))
    with pytest.raises(UserError, match=r"holds a sparse matrix, .*leave out --layout"):
        data.load(str(tmp_path / "m.npz"), layout="vector")
