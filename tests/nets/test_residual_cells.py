"""Cells of hierarchies as they start: spreads of kernels and outputs, and what they compute in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.nets import Level, TopDownNetwork
from vaex.nets.initializers import draw_parameters
from vaex.nets.residual_cells import Bottleneck

KEY = jax.random.key(0)
NETWORK = TopDownNetwork((8, 8, 1), (Level((4, 4), 2, 8), Level((1, 1), 1, 6)), latents=2, outputs=1)


def test_kernels_have_the_spread_they_are_declared_with():
    declared = {"kernel": jnp.full((200, 300), 0.25), "bias": jnp.zeros(7)}
    found = draw_parameters(KEY, declared)
    np.testing.assert_allclose(np.std(found["kernel"]), 0.25, rtol=0.02)
    assert np.abs(found["kernel"]).max() <= 0.25 * 2 / 0.87 and np.all(found["bias"] == 0)
    other = draw_parameters(jax.random.key(1), declared)["kernel"]
    assert abs(np.corrcoef(found["kernel"].ravel(), other.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(("kernel", "layers"), [(1, 2), (3, 4)])
def test_bottleneck_of_scale_0_starts_with_zeros(kernel, layers):
    block = Bottleneck(5, 2, kernel, scale=0.0)
    x = jax.random.normal(KEY, (2, 4, 4, 3))
    params = draw_parameters(KEY, block.init(KEY, x)["params"])
    assert len(params) == layers and np.all(np.asarray(block.apply({"params": params}, x)) == 0)


def test_stacked_cells_start_apart_and_priors_as_standard_normal():
    params, statistics = NETWORK.init(KEY)
    kernel = params["level_0"]["down"]["posterior"]["layer_0"]["kernel"]
    assert kernel.shape[0] == 2 and not np.allclose(kernel[0], kernel[1])
    assert statistics == ()
    found = NETWORK.top_down(params, jax.random.normal(KEY, (3, sum(NETWORK.sizes))), None, "prior")
    assert np.all(np.asarray(found.prior_mean) == 0) and np.all(np.asarray(found.prior_log_scale) == 0)
    assert found.posterior_mean is None and NETWORK.names == ("1x1", "4x4", "4x4")
    assert NETWORK.output(params, found.features).shape == (3, 8, 8, 1)


def test_several_leading_axes_are_as_many_single_ones():
    params, _ = NETWORK.init(KEY)
    activations, _ = NETWORK.bottom_up(params, (), jax.random.normal(KEY, (3, 8, 8, 1)))
    code = jax.random.normal(KEY, (2, 3, sum(NETWORK.sizes)))
    both = NETWORK.top_down(params, code, activations, "posterior")
    one = NETWORK.top_down(params, code[1], activations, "posterior")
    for a, b in zip(both, one, strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-5)
