"""Densities of ``Transformed`` distributions: those of their samples, and they integrate to one."""

import jax
import numpy as np
import pytest
from helpers.flow_table import FLOWS, filled

from vaex import flows as vf
from vaex.distributions import Normal, Transformed


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_the_density_is_that_of_the_samples(name):
    """sample_and_log_prob, one pass forward, and log_prob, one back, agree; shapes with a batch and samples."""
    flow = FLOWS[name]

    @jax.jit
    def program(key, params):
        distribution = Transformed(
            Normal(np.zeros((2, 3), np.float32), log_scale=np.zeros((2, 3), np.float32)), flow, params
        )
        value, log_prob = distribution.sample_and_log_prob(key, (5,))
        return value, log_prob, distribution.log_prob(value)

    value, log_prob, again = program(jax.random.key(0), filled(flow, batch=(2,), dtype=np.float32, scale=0.5))
    assert value.shape == (5, 2, 3) and log_prob.shape == (5, 2)
    np.testing.assert_allclose(again, log_prob, rtol=1e-3, atol=1e-3)


PLANE = {
    "planar": vf.Planar(2),
    "radial": vf.Radial(2),
    "sylvester": vf.Sylvester(2, 2, 2),
    "affine coupling": vf.AffineCoupling(2, (6,)),
    "spline coupling": vf.SplineCoupling(2, (6,), num_bins=4, context_dim=1),
    "iaf": vf.InverseAutoregressive(2, (6,), context_dim=1),
    "maf": vf.MaskedAutoregressive(2, (6,)),
    "chain": vf.chain(vf.AffineCoupling(2, (6,)), vf.Householder(2), vf.reverse(2), vf.Radial(2)),
}


@pytest.mark.parametrize("name", PLANE)
def test_the_density_integrates_to_one_and_its_moments_are_those_of_the_samples(name):
    """By quadrature on a grid; the samples' moments within four standard errors."""
    flow = PLANE[name]
    step = 0.08
    axis = np.arange(-14.0, 14.0, step, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)

    @jax.jit
    def program(key, params):
        distribution = Transformed(Normal(np.zeros(2, np.float32), log_scale=np.zeros(2, np.float32)), flow, params)
        return distribution.log_prob(grid), distribution.sample(key, (20_000,))

    log_prob, sample = program(jax.random.key(0), filled(flow, scale=0.5, dtype=np.float32))
    mass = np.exp(np.asarray(log_prob, np.float64)) * step**2
    np.testing.assert_allclose(mass.sum(), 1.0, atol=2e-3)
    for moment in (lambda z: z, np.square, lambda z: z[:, :1] * z[:, 1:]):
        x = moment(np.asarray(sample, np.float64))
        exact = (mass[:, None] * moment(grid.astype(np.float64))).sum(0)
        assert np.all(np.abs(x.mean(0) - exact) < 4 * x.std(0) / len(x) ** 0.5 + 2e-3 * (1 + np.abs(exact)))
