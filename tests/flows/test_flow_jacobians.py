"""In float64, over every flow: log-determinants against jacobians, round trips, gradients against finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.flow_table import filled, points

DIRECTIONS = [("forward", "inverse"), ("inverse", "forward")]


@functools.cache
def program(flow):
    @jax.jit
    def compiled(params, z):
        out = {}
        for name, back_name in DIRECTIONS:
            there, back = getattr(flow, name), getattr(flow, back_name)
            value, log_det = there(params, z)
            jacobian = jax.vmap(jax.jacfwd(lambda z, there=there: there(params, z)[0]))(z)
            out[name] = {
                "grad": jax.grad(lambda p, z, there=there: objective(there, p, z), (0, 1))(params, z),
                "objective": objective(there, params, z),
                "value": value,
                "log_det": log_det,
                "back": back(params, value),
                "slogdet": jnp.linalg.slogdet(jacobian)[1],
            }
        return out

    return compiled


def objective(move, params, z):
    value, log_det = move(params, z)
    weights = np.random.default_rng(2).standard_normal(value.shape)
    return jnp.sum(weights * value) + jnp.sum(log_det * weights[..., 0])


@functools.cache
def run(flow):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, program(flow)(filled(flow), points((20, 3))))


@pytest.mark.slow
@pytest.mark.parametrize(("there", "back"), DIRECTIONS)
def test_log_determinants_are_those_of_the_jacobian(flow, there, back):
    out = run(flow)[there]
    np.testing.assert_allclose(out["log_det"], out["slogdet"], rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("there", "back"), DIRECTIONS)
def test_round_trips(flow, there, back):
    out = run(flow)[there]
    again, log_det_back = out["back"]
    np.testing.assert_allclose(again, points((20, 3)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_det_back, -out["log_det"], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("there", "back"), DIRECTIONS)
def test_gradients_equal_finite_differences(flow, there, back):
    """In parameters, context and z at once, along random directions; the inverse's pass through roots and sequences."""
    with jax.enable_x64(True):
        params, z = filled(flow), points((20, 3))
        for seed in (3, 4):
            way = filled(flow, seed=seed, scale=1.0), points((20, 3), seed=seed, scale=1.0)
            ends = [
                program(flow)(*jax.tree.map(lambda x, d, step=step: x + step * d, (params, z), way))[there]["objective"]
                for step in (1e-6, -1e-6)
            ]
            parts = jax.tree.leaves(jax.tree.map(np.vdot, run(flow)[there]["grad"], way))
            np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, sum(parts), rtol=1e-5, atol=1e-5)
