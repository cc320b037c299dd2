"""Over every flow: parameters per example, populations, bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.flow_table import both_ways, filled, points


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_parameters_may_differ_per_example(flow, direction):
    """Leaves [b, ...] beside z [k, b, d]: each example has its own map."""
    params, z = filled(flow, batch=(4,), dtype=np.float32), points((8, 4, 3), dtype=np.float32)
    value, log_det = jax.jit(getattr(flow, direction))(params, z)
    assert value.shape == z.shape and log_det.shape == (8, 4)
    for i in (0, 3):
        example = jax.tree.map(lambda x, i=i: x[i], params)
        exact, exact_log_det = both_ways(flow)(example, z[:, i])[direction][0][1]
        np.testing.assert_allclose(value[:, i], exact, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(log_det[:, i], exact_log_det, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_population_vmaps_over_flows_and_points(flow):
    params, z = filled(flow, batch=(5,), dtype=np.float32), points((5, 8, 3), dtype=np.float32)
    value, log_det = jax.jit(jax.vmap(jax.vmap(flow.forward, (None, 0))))(params, z)
    exact, exact_log_det = both_ways(flow)(jax.tree.map(lambda x: x[2], params), z[2])["forward"][0][1]
    np.testing.assert_allclose(value[2], exact, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(log_det[2], exact_log_det, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_bfloat16(flow, direction):
    """Out comes bfloat16, near the result in float32; log-determinants keep float32."""
    params, z = filled(flow, dtype=jnp.bfloat16), points((8, 3), dtype=jnp.bfloat16)
    value, log_det = jax.jit(getattr(flow, direction))(params, z)
    assert value.dtype == jnp.bfloat16 and log_det.dtype == np.float32
    wide = jax.tree.map(lambda x: x.astype(np.float32), (params, z))
    exact, exact_log_det = both_ways(flow)(*wide)[direction][0][1]
    np.testing.assert_allclose(value.astype(np.float32), exact, rtol=2**-8, atol=1e-4)
    np.testing.assert_allclose(log_det, exact_log_det, rtol=1e-4, atol=1e-4)
