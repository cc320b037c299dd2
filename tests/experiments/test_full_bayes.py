"""Full variational Bayes (appendix F of the AEVB paper) against the evidence by quadrature of a model with one weight."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ROOT
from scipy import optimize, special, stats

from vaex import inference
from vaex.distributions import Normal

pytestmark = pytest.mark.nightly

NOISE = 0.5
X = np.array([0.3, -1.1, 2.0, 0.7, -0.4, 1.6, -2.2, 0.1])


@pytest.fixture
def full_bayes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    return importlib.import_module("lessons.full_bayes")


def encode(phi, x):
    return Normal(phi["slope"] * x, log_scale=phi["log_scale"])


def decode(theta, z):
    return Normal(theta["w"] * z, NOISE)


PHI = {"slope": jnp.array([0.5]), "log_scale": jnp.zeros(1)}


def log_evidence():
    """log p(X) of x = w z + noise, w and z standard normal: given w, x is normal."""
    grid = np.linspace(-8, 8, 4001)
    deviation = np.sqrt(grid**2 + NOISE**2)
    joint = stats.norm.logpdf(grid) + np.sum(stats.norm.logpdf(X[:, None], 0, deviation), axis=0)
    return special.logsumexp(joint) + np.log(grid[1] - grid[0])


def exact_bound(params):
    """The bound in closed form: w ~ N(m, s), z_i ~ N(slope x_i, tau)."""
    m, log_s, slope, log_tau = params
    s, tau, mean = np.exp(log_s), np.exp(log_tau), slope * X
    squares = X**2 - 2 * X * m * mean + (m**2 + s**2) * (mean**2 + tau**2)
    likelihood = -0.5 * squares / NOISE**2 - 0.5 * np.log(2 * np.pi * NOISE**2)
    of_z = 0.5 * (mean**2 + tau**2 - 1) - log_tau
    return np.sum(likelihood - of_z) - (0.5 * (m**2 + s**2 - 1) - log_s)


@pytest.mark.slow
def test_a_fit_reaches_the_optimum_of_the_bound_and_batches_estimate_it(full_bayes):
    """By quadrature the evidence, in closed form the bound and its optimum; a quarter of the examples gives its mean."""
    method = full_bayes.Method(inference.MeanField({"w": inference.real()}, scale=0.1), True)
    x = jnp.asarray(X, jnp.float32)[:, None]
    fit = jax.jit(lambda key: full_bayes.train(key, method, PHI, jnp.array([0.7]), encode, decode, x, x, 1500))(
        jax.random.key(0)
    )
    keys = jax.random.split(jax.random.key(1), 4000)

    @jax.jit
    def estimates(keys):
        def pair(key):
            rows = jax.random.choice(key, 8, (2,), replace=False)
            return [
                full_bayes.evidence_bound(key, fit.params, method, encode, decode, part, 8) for part in (x, x[rows])
            ]

        return jax.vmap(pair)(keys)

    whole, part = map(np.asarray, estimates(keys))
    error = whole.std() / np.sqrt(len(keys))
    best = -optimize.minimize(lambda params: -exact_bound(params), [0.7, -1.0, 0.5, 0.0]).fun
    assert best < log_evidence()
    np.testing.assert_allclose(whole.mean(), best, atol=4 * error + 0.03)
    np.testing.assert_allclose(part.mean(), whole.mean(), atol=4 * part.std() / np.sqrt(len(keys)))


def test_a_point_has_the_prior_or_none(full_bayes):
    family = inference.PointMass({"w": inference.real()})
    params = {"theta": {"loc": jnp.array([0.7])}, "phi": PHI}
    x = jnp.asarray(X, jnp.float32)[:, None]
    bounds = [
        full_bayes.evidence_bound(jax.random.key(0), params, full_bayes.Method(family, prior), encode, decode, x, 8)
        for prior in (True, False)
    ]
    np.testing.assert_allclose(bounds[0] - bounds[1], stats.norm.logpdf(0.7), rtol=1e-4)
