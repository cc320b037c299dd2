"""Top-down networks at their initial parameters: spread of kernels and outputs, priors, leading axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.nets import LadderNetwork, Level, TopDownNetwork
from vaex.nets.initializers import draw_parameters
from vaex.nets.residual_cells import Bottleneck

KEY = jax.random.key(0)
NETWORK = TopDownNetwork((8, 8, 1), (Level((4, 4), 2, 8), Level((1, 1), 1, 6)), latents=2, outputs=1)


def test_parameters_have_the_standard_deviations_they_are_declared_with():
    declared = {"kernel": jnp.full((200, 300), 0.25), "bias": jnp.zeros(7)}
    params = draw_parameters(KEY, declared)
    np.testing.assert_allclose(np.std(params["kernel"]), 0.25, rtol=0.02)
    assert np.abs(params["kernel"]).max() <= 0.25 * 2 / 0.87 and np.all(params["bias"] == 0)
    other = draw_parameters(jax.random.key(1), declared)["kernel"]
    assert abs(np.corrcoef(params["kernel"].ravel(), other.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(("kernel", "layers"), [(1, 2), (3, 4)])
def test_bottleneck_of_scale_0_starts_with_zeros(kernel, layers):
    block = Bottleneck(5, 2, kernel, scale=0.0)
    x = jax.random.normal(KEY, (2, 4, 4, 3))
    params = draw_parameters(KEY, block.init(KEY, x)["params"])
    assert len(params) == layers and np.all(np.asarray(block.apply({"params": params}, x)) == 0)


@pytest.mark.slow
def test_stacked_cells_start_different_and_priors_as_standard_normal():
    params, statistics = NETWORK.init(KEY)
    kernel = params["level_0"]["down"]["posterior"]["layer_0"]["kernel"]
    assert kernel.shape[0] == 2 and not np.allclose(kernel[0], kernel[1])
    assert statistics == ()
    result = NETWORK.top_down(params, jax.random.normal(KEY, (3, sum(NETWORK.sizes))), None, "prior")
    assert np.all(np.asarray(result.prior_mean) == 0) and np.all(np.asarray(result.prior_log_scale) == 0)
    assert result.posterior_mean is None and NETWORK.names == ("1x1", "4x4", "4x4")
    assert NETWORK.output(params, result.features).shape == (3, 8, 8, 1)


@pytest.mark.slow
def test_leading_axes_equal_separate_passes():
    params, _ = NETWORK.init(KEY)
    activations, _ = NETWORK.bottom_up(params, (), jax.random.normal(KEY, (3, 8, 8, 1)))
    code = jax.random.normal(KEY, (2, 3, sum(NETWORK.sizes)))
    both = NETWORK.top_down(params, code, activations, "posterior")
    second = NETWORK.top_down(params, code[1], activations, "posterior")
    for a, b in zip(both, second, strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("network", [NETWORK, LadderNetwork((3,), (5, 4), (2, 1), 1)])
def test_a_posterior_without_activations_is_refused(network):
    params, _ = network.init(KEY)
    with pytest.raises(ValueError, match="source is 'posterior', but activations is None; give those of bottom_up"):
        network.top_down(params, jnp.zeros((2, sum(network.sizes))), None, "posterior")
