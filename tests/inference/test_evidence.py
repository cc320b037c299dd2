"""Bounds of an evidence from both sides, against their closed forms for Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from vaex import inference
from vaex.errors import UserError

EVIDENCE = 2.0
FAMILY = inference.MeanField(1)
PARAMS = {"loc": jnp.array([0.5]), "log_scale": jnp.log(jnp.array([1.2]))}


def log_density(x):
    """N(0, 1), times exp(2)."""
    return EVIDENCE - 0.5 * jnp.sum(jnp.square(x)) - 0.5 * jnp.log(2 * jnp.pi)


def expectation(function, density):
    return integrate.quad(lambda x: function(x) * density(x), -15, 15)[0]


@pytest.mark.parametrize("with_posterior", [pytest.param(False, marks=pytest.mark.slow), True])
def test_every_bound_of_a_gaussian(with_posterior):
    target, q = stats.norm(), stats.norm(0.5, 1.2)

    def log_weight(x):
        return EVIDENCE + target.logpdf(x) - q.logpdf(x)

    draws = jax.random.normal(jax.random.key(9), (400, 1)) if with_posterior else None
    bounds = jax.jit(
        lambda key: inference.bound_evidence(
            key, log_density, FAMILY, PARAMS, num_samples=20_000, num_chains=200, temperatures=5, posterior=draws
        )
    )(jax.random.key(0))
    expected = {
        "elbo": expectation(log_weight, q.pdf),
        "importance": EVIDENCE,
        "annealed": EVIDENCE,
        "evidence_upper": expectation(log_weight, target.pdf),
        "chi": 0.5 * np.log(expectation(lambda x: np.exp(2 * log_weight(x)), q.pdf)),
    }
    if with_posterior:
        expected["annealed_upper"] = EVIDENCE
    else:
        assert bounds.annealed_upper is None
    for name, value in expected.items():
        estimate = getattr(bounds, name)
        assert 0 < estimate.error < 0.08
        np.testing.assert_allclose(estimate.value, value, atol=4 * float(estimate.error), err_msg=name)
    lower, upper = bounds.thermodynamic_lower.value, bounds.thermodynamic_upper.value
    assert bounds.elbo.value < lower < EVIDENCE < upper < bounds.evidence_upper.value + 0.02
    grid = np.linspace(0, 1, 6)  # the sums, of expectations by quadrature
    rising = [
        expectation(lambda x, b=b: log_weight(x) * q.pdf(x) ** (1 - b) * target.pdf(x) ** b, lambda x: 1.0)
        / expectation(lambda x, b=b: q.pdf(x) ** (1 - b) * target.pdf(x) ** b, lambda x: 1.0)
        for b in grid
    ]
    np.testing.assert_allclose([lower, upper], [np.mean(rising[:-1]), np.mean(rising[1:])], atol=0.02)


def test_what_cannot_be_bounded_is_refused():
    with pytest.raises(UserError, match="num_samples is 5"):
        inference.bound_evidence(jax.random.key(0), log_density, FAMILY, PARAMS, num_samples=5)
    with pytest.raises(UserError, match=r"posterior has shape \(3, 2\), expected \[m, 1\]"):
        inference.bound_evidence(jax.random.key(0), log_density, FAMILY, PARAMS, posterior=jnp.zeros((3, 2)))
