"""Distributions of a table's columns against SciPy and against sums written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

from vaex import distributions as vd

LOC, SCALE = np.array([-3.0, 0.2, 40.0]), np.array([0.01, 1.0, 500.0])
X = np.array([[0.1, 2.0, 0.5], [3.0, 1e-3, 1e4]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_densities_are_scipys(dtype):
    rtol = 3e-5 if dtype == np.float32 else 1e-11
    df, spread = np.array([1.0, 3.0, 90.0]), np.array([0.1, 1.0, 3.0])
    with jax.enable_x64(dtype == np.float64):
        loc, scale, x = (jnp.asarray(a, dtype) for a in (LOC, SCALE, X))
        student = vd.StudentT(loc, scale, df=df.astype(dtype), event_ndims=0).log_prob(x)
        normal = vd.LogNormal(loc / 10, jnp.asarray(spread, dtype), event_ndims=0)
        np.testing.assert_allclose(student, st.t(df, LOC, SCALE).logpdf(X), rtol=rtol)
        reference = st.lognorm(spread, scale=np.exp(LOC / 10))
        np.testing.assert_allclose(normal.log_prob(x), reference.logpdf(X), rtol=rtol)
        for ours, theirs in ((normal.mean, reference.mean()), (normal.variance, reference.var())):
            np.testing.assert_allclose(ours, theirs, rtol=rtol)
        np.testing.assert_allclose(normal.median, reference.median(), rtol=rtol)


def test_zeros_are_inflated():
    counts, rates, share = np.array([0, 1, 6, 40])[:, None], np.array([0.1, 5.0, 30.0]), np.array([0.02, 0.5, 0.9])
    logits = jnp.asarray(np.log(share / (1 - share)), jnp.float32)
    d = vd.ZeroInflated(vd.Poisson(jnp.log(jnp.asarray(rates, jnp.float32)), 0), logits, event_ndims=0)
    expected = np.log((counts == 0) * share + (1 - share) * st.poisson(rates).pmf(counts))
    np.testing.assert_allclose(d.log_prob(jnp.asarray(counts, jnp.float32)), expected, rtol=2e-5)
    table = np.arange(200.0)[:, None]
    pmf = (table == 0) * share + (1 - share) * st.poisson(rates).pmf(table)
    np.testing.assert_allclose(d.mean, (pmf * table).sum(0), rtol=1e-5)
    np.testing.assert_allclose(d.variance, (pmf * table**2).sum(0) - (pmf * table).sum(0) ** 2, rtol=1e-5)


@pytest.mark.parametrize("location", [0.3, -40.0, 60.0])
def test_ordered_categories_are_differences_of_logistic_functions(location):
    """And stay finite, with their gradients, where a difference of sigmoids in float32 would be 0."""
    cuts = np.array([-2.0, -1.9, 0.5, 4.0])
    logits = vd.ordinal_logits(jnp.float32(location), jnp.asarray(cuts, jnp.float32))
    below = st.logistic.logcdf(cuts - location), st.logistic.logsf(cuts - location)
    expected = [
        below[0][0],
        *(
            below[0][j] + below[1][j - 1] + np.log(-np.expm1(cuts[j - 1] - cuts[j]))  # of sigma(b) - sigma(a)
            for j in range(1, 4)
        ),
        below[1][-1],
    ]
    np.testing.assert_allclose(logits, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(jax.nn.logsumexp(logits), 0.0, atol=1e-5)
    gradient = jax.grad(lambda eta: vd.ordinal_logits(eta, jnp.asarray(cuts, jnp.float32))[2])(jnp.float32(location))
    assert np.isfinite(gradient)


@pytest.mark.slow
def test_rows_leave_out_missing_entries_and_keep_the_order_of_columns():
    loc = jnp.array([1e6, -2.0])
    logits = jnp.array([[0.3, -1.0, 2.0]])

    def rows(loc):
        parts = (vd.Normal(loc, 1.0, event_ndims=0), vd.CategoricalCodes(logits, event_ndims=0))
        return vd.Rows(parts, ((2, 0), (1,)))

    x = jnp.array([[-1.5, 2.0, 1e6 + 1], [jnp.nan, 0.0, jnp.nan], [jnp.nan] * 3])
    codes = np.array(logits[0]) - np.log(np.exp(np.array(logits[0])).sum())
    full = st.norm(1e6).logpdf(1e6 + 1) + st.norm(-2).logpdf(-1.5) + codes[2]
    np.testing.assert_allclose(rows(loc).log_prob(x), [full, codes[0], 0.0], rtol=1e-5)
    gradient = jax.grad(lambda loc: rows(loc).log_prob(x).sum())(loc)
    np.testing.assert_allclose(gradient, [1.0, 0.5], rtol=1e-4)
    draws = rows(loc).sample(jax.random.key(0), (50,))
    assert set(np.unique(draws[:, 1])) <= {0.0, 1.0, 2.0} and draws[:, 0].mean() < 0 < draws[:, 2].mean()
    np.testing.assert_allclose(rows(loc).mean, [-2.0, 2.0, 1e6])
    with pytest.raises(ValueError, match="each place once"):
        _ = vd.Rows((vd.Normal(loc, 1.0, event_ndims=0),), ((0, 2),)).batch_shape
