"""Conv and ConvTranspose compared with Linen's layers: the same parameters from the same key, the same results."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.nets import Conv, ConvTranspose

pytestmark = pytest.mark.optimised

MASK = (np.arange(3 * 3 * 3 * 5).reshape(3, 3, 3, 5) % 2).astype(np.float32)
CONVS = [
    ((2, 8, 9, 3), {"kernel_size": (4, 4), "strides": 2, "padding": 1}),
    ((2, 8, 9, 3), {"kernel_size": (3, 3), "strides": (2, 1), "padding": [1, (0, 2)], "use_bias": False}),
    ((2, 8, 9, 3), {"kernel_size": (3, 3), "padding": "CIRCULAR", "kernel_dilation": 2}),
    ((2, 8, 9, 3), {"kernel_size": (4, 3), "strides": None, "padding": "REFLECT"}),
    ((2, 8, 9, 3), {"kernel_size": (3, 3), "padding": [(0, 1), (1, 1)], "input_dilation": 2}),
    ((2, 8, 9, 3), {"kernel_size": (3, 3), "mask": MASK, "use_bias": True}),
    ((2, 8, 9, 5), {"kernel_size": (3, 3), "feature_group_count": 5}),
    ((2, 8, 9, 3), {"kernel_size": (3, 3), "dtype": jnp.bfloat16}),
    ((2, 9, 3), {"kernel_size": 4, "padding": "CAUSAL", "kernel_dilation": 2}),
    ((8, 9, 3), {"kernel_size": (3, 3)}),
    ((2, 1, 3, 8, 9, 3), {"kernel_size": (3, 3)}),
]
TRANSPOSED = [
    ((2, 4, 5, 3), {"kernel_size": (4, 4), "strides": (2, 2)}),
    ((2, 4, 5, 3), {"kernel_size": (3, 3), "strides": (2, 3), "padding": "VALID", "transpose_kernel": True}),
    ((2, 4, 5, 3), {"kernel_size": (3, 3), "padding": 1, "kernel_dilation": (2, 2), "use_bias": False}),
    ((2, 4, 5, 3), {"kernel_size": (3, 3), "strides": (2, 2), "mask": MASK}),
    ((2, 4, 5, 3), {"kernel_size": (3, 3), "strides": (2, 2), "padding": [(1, 2), (2, 0)], "dtype": jnp.bfloat16}),
    ((2, 5, 3), {"kernel_size": 4, "strides": 2, "use_bias": True}),
    ((4, 5, 3), {"kernel_size": (3, 3), "strides": (2, 2)}),
    ((2, 1, 3, 4, 5, 3), {"kernel_size": (3, 3), "strides": (2, 2)}),
]
PAIRS = [
    *((nn.Conv, Conv, *case) for case in CONVS),
    *((nn.ConvTranspose, ConvTranspose, *case) for case in TRANSPOSED),
]


@pytest.mark.parametrize(
    ("linen", "ours", "shape", "settings"), PAIRS, ids=lambda value: getattr(value, "__name__", None)
)
def test_layer_replaces_linens(linen, ours, shape, settings, filled):
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    reference, layer = linen(features=5, **settings), ours(features=5, **settings)
    variables = filled(reference, x)
    shapes = [jax.eval_shape(module.init, jax.random.key(0), x) for module in (reference, layer)]
    assert shapes[0] == shapes[1]
    expected, result = jax.jit(lambda variables: (reference.apply(variables, x), layer.apply(variables, x)))(variables)
    assert result.dtype == expected.dtype
    # Linen rounds to bfloat16 (2**-8) once before the bias and once after; so does vaex, from another order of summation.
    tolerance = 2**-7 if result.dtype == jnp.bfloat16 else 1e-5
    expected = np.asarray(expected, np.float32)
    np.testing.assert_allclose(
        np.asarray(result, np.float32), expected, rtol=0, atol=tolerance * np.abs(expected).max()
    )


@pytest.mark.slow
@pytest.mark.parametrize(("linen", "ours"), [(nn.Conv, Conv), (nn.ConvTranspose, ConvTranspose)])
def test_parameters_start_as_linens(linen, ours):
    settings = {"bias_init": nn.initializers.normal(1.0), "param_dtype": jnp.float16}
    layers = [layer(features=5, kernel_size=(3, 3), **settings) for layer in (linen, ours)]
    x = jnp.zeros((1, 4, 4, 3))
    expected, result = jax.jit(lambda key: [layer.init(key, x) for layer in layers])(jax.random.key(1))
    jax.tree.map(partial(np.testing.assert_array_equal, strict=True), expected, result)


@pytest.mark.parametrize("layer", [Conv, ConvTranspose])
def test_the_lowering_reaches_the_program(layer):
    x = jnp.zeros((1, 4, 4, 2))
    program = lambda name: str(  # noqa: E731
        jax.make_jaxpr(layer(3, (4, 4), strides=(2, 2), lowering=name).init)(jax.random.key(0), x)
    )
    assert "conv_general_dilated" in program("conv")
    assert "conv_general_dilated" not in program("matmul")
    assert "platform_index" in program("auto")


def test_xlas_transposed_convolution_is_the_one_of_linen():
    """No kernel is reversed: in a loop on CPU, the transpose of a convolution of three channels takes five times as long."""
    x = jnp.ones((2, 5, 6, 4))
    ours, stock = (
        str(jax.make_jaxpr(layer.init_with_output)(jax.random.key(0), x))
        for layer in (
            ConvTranspose(3, (4, 4), strides=(2, 2), lowering="conv"),
            nn.ConvTranspose(3, (4, 4), strides=(2, 2)),
        )
    )
    for text in (ours, stock):
        assert text.count("conv_general_dilated[") == 1 and "lhs_dilation=(2, 2)" in text and "rev[" not in text


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Conv(3, (3, 3), conv_general_dilated=jax.lax.conv_general_dilated), "Conv: conv_general_dilated is set"),
        (Conv(3, (3, 3), mask=MASK), r"Conv: mask has shape \(3, 3, 3, 5\), expected the kernel's \(3, 3, 2, 3\)"),
        (Conv(3, (3, 3), lowering="gemm"), "convolve: lowering='gemm' is not known"),
        (ConvTranspose(3, (3, 3), preferred_element_type=jnp.float32), "ConvTranspose: preferred_element_type is set"),
        (ConvTranspose(3, (3, 3), padding="CIRCULAR"), "convolve_transpose: padding='CIRCULAR' is not known here"),
    ],
)
def test_unsupported_settings_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 2)))
