"""convolve and convolve_transpose against lax: values and both gradients, by every lowering and algorithm."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vaex.ops import convolve, convolve_transpose
from vaex.ops.cpu_conv import winograd
from vaex.ops.cpu_conv.shapes import ConvShape

NUMBERS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}
ODD_PADS = ((1, 2), (2, 0))
CROP_PADS = ((-1, 2), (3, -2))
# image, kernel, strides, dilation, padding, channels, features
CONVOLUTIONS = [
    # 4x4 with stride 2: wide layers, first layer, colour, odd images, a crop
    ((8, 8), (4, 4), (2, 2), (1, 1), ((1, 1), (1, 1)), 8, 8),
    ((8, 8), (4, 4), (2, 2), (1, 1), ((1, 1), (1, 1)), 1, 8),
    ((8, 12), (4, 4), (2, 2), (1, 1), "SAME", 3, 8),
    ((9, 7), (4, 4), (2, 2), (1, 1), ((1, 1), (1, 1)), 8, 3),
    ((9, 10), (4, 4), (2, 2), (1, 1), "VALID", 3, 1),
    ((11, 9), (4, 4), (2, 2), (1, 1), CROP_PADS, 3, 3),
    # 3x3
    ((7, 6), (3, 3), (1, 1), (1, 1), "SAME", 8, 8),
    ((5, 8), (3, 3), (1, 1), (1, 1), "VALID", 1, 8),
    ((6, 6), (3, 3), (1, 1), (1, 1), ODD_PADS, 3, 1),
    ((8, 8), (3, 3), (1, 1), (1, 1), CROP_PADS, 8, 3),
    ((9, 8), (3, 3), (2, 2), (1, 1), "SAME", 3, 8),
    ((8, 7), (3, 3), (2, 2), (1, 1), ((1, 1), (1, 1)), 8, 8),
    ((9, 9), (3, 3), (1, 1), (2, 2), "SAME", 3, 8),
    ((9, 8), (3, 3), (2, 2), (2, 2), ODD_PADS, 3, 3),
    # 1x1
    ((5, 6), (1, 1), (1, 1), (1, 1), "VALID", 8, 3),
    ((5, 6), (1, 1), (2, 2), (1, 1), "SAME", 3, 8),
    ((5, 6), (1, 1), (3, 3), (1, 1), ((2, 1), (4, 0)), 1, 1),
    # the rest
    ((9, 9), (5, 5), (1, 1), (1, 1), "SAME", 3, 8),
    ((11, 10), (5, 5), (2, 2), (1, 1), ((2, 2), (2, 2)), 8, 3),
    ((13, 11), (5, 5), (3, 3), (1, 1), "SAME", 1, 3),
    ((8, 9), (2, 5), (3, 1), (1, 2), ((0, 1), (4, 3)), 3, 3),
    ((4, 4), (4, 4), (1, 1), (1, 1), "VALID", 8, 3),
    ((3, 3), (1, 1), (1, 1), (1, 1), ((3, -3), (0, 0)), 1, 1),
    ((9,), (4,), (2,), (1,), ((1, 1),), 3, 8),
    ((5, 6, 7), (3, 4, 2), (1, 2, 2), (2, 1, 1), "SAME", 3, 3),
]
# image, kernel, strides, dilation, padding, channels, features, transpose_kernel
TRANSPOSED = [
    ((4, 4), (4, 4), (2, 2), (1, 1), ((2, 2), (2, 2)), 8, 8, False),
    ((4, 4), (4, 4), (2, 2), (1, 1), "SAME", 8, 1, False),
    ((3, 5), (4, 4), (2, 2), (1, 1), ((2, 3), (2, 2)), 8, 3, True),
    ((4, 3), (3, 3), (2, 2), (1, 1), "SAME", 3, 8, True),
    ((4, 3), (3, 3), (2, 2), (1, 1), "VALID", 1, 3, False),
    ((5, 4), (3, 3), (1, 1), (1, 1), "SAME", 3, 3, True),
    ((3, 4), (2, 2), (3, 3), (1, 1), "VALID", 3, 3, False),
    ((4, 4), (1, 1), (2, 2), (1, 1), "SAME", 3, 3, False),
    ((4, 3), (5, 5), (3, 3), (1, 1), ((1, 2), (4, 5)), 3, 8, False),
    ((4, 3), (3, 3), (2, 2), (2, 2), "SAME", 3, 3, False),
    ((4,), (4,), (2,), (1,), "SAME", 3, 8, True),
]


def normal(seed, shape):
    # by NumPy, because JAX would compile a generator for every shape
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def pulled_back(function):
    """(x, kernel, cotangent) -> value and both gradients."""

    def run(x, kernel, cotangent):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(cotangent.astype(y.dtype))

    return run


def compare(ours, reference, x, kernel, tolerance=1e-5):
    shape = jax.eval_shape(reference, x, kernel).shape
    assert jax.eval_shape(ours, x, kernel).shape == shape
    cotangent = normal(9, shape)
    both = jax.jit(lambda *args: (pulled_back(ours)(*args), pulled_back(reference)(*args)))
    for name, result, expected in zip(("y", "dx", "dkernel"), *both(x, kernel, cotangent), strict=True):
        assert result.dtype == expected.dtype
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * scale, err_msg=name)


def reference_conv(x, kernel, strides, padding, dilation, groups=1):
    numbers = NUMBERS[kernel.ndim - 2]
    options = {"rhs_dilation": dilation, "dimension_numbers": numbers, "feature_group_count": groups}
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv_equals_lax_in_value_and_gradients(case):
    image, size, strides, dilation, padding, channels, features = case
    x, kernel = normal(0, (2, *image, channels)), normal(1, (*size, channels, features))
    ours = partial(convolve, strides=strides, padding=padding, kernel_dilation=dilation)
    compare(ours, partial(reference_conv, strides=strides, padding=padding, dilation=dilation), x, kernel)


# image, padding, channels, features: large enough for Winograd
WINOGRAD = [
    ((16, 16), "SAME", 32, 32),
    pytest.param(((17, 14), ((0, 2), (3, 1)), 16, 64), marks=pytest.mark.slow),
    pytest.param(((18, 17), CROP_PADS, 64, 16), marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize("spread", ["around zero", "positive"])
@pytest.mark.parametrize("case", WINOGRAD, ids=str)
def test_winograd_equals_lax_in_value_and_gradients(case, spread):
    image, padding, channels, features = case
    x, kernel = normal(0, (64, *image, channels)), normal(1, (3, 3, channels, features))
    if spread == "positive":  # as after a relu: interpolation subtracts large numbers
        x, kernel = np.abs(x), np.abs(kernel)
    program = jax.jit(partial(convolve, padding=padding)).lower(x, kernel).as_text()
    assert program.count("call @_matmul") == 36
    reference = partial(reference_conv, strides=(1, 1), padding=padding, dilation=(1, 1))
    compare(partial(convolve, padding=padding), reference, x, kernel)


def test_winograd_is_for_large_plain_convolutions_in_float32():
    conv = ConvShape((16, 16), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), channels=32, features=32)
    x = jax.ShapeDtypeStruct((64, 16, 16, 32), jnp.float32)
    assert winograd.applies(conv, x)
    others = {
        "kernel": (5, 5), "strides": (2, 2), "dilation": (2, 2), "channels": 8, "image": (8, 8),
        "precision": lax.Precision.HIGHEST,
    }  # fmt: skip
    for name, value in others.items():
        assert not winograd.applies(conv._replace(**{name: value}), x), name
    assert not winograd.applies(conv, jax.ShapeDtypeStruct((64, 16, 16, 32), jnp.bfloat16))
    assert not winograd.applies(conv, jax.ShapeDtypeStruct((32, 16, 16, 32), jnp.float32))


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose_equals_lax_in_value_and_gradients(case):
    image, size, strides, dilation, padding, channels, features, transpose = case
    last = (features, channels) if transpose else (channels, features)
    x, kernel = normal(0, (2, *image, channels)), normal(1, (*size, *last))
    options = {"strides": strides, "padding": padding, "transpose_kernel": transpose}
    reference = partial(lax.conv_transpose, **options, rhs_dilation=dilation, dimension_numbers=NUMBERS[len(image)])
    compare(partial(convolve_transpose, **options, kernel_dilation=dilation), reference, x, kernel)


@pytest.mark.parametrize(
    ("strides", "dilation", "groups"), [((1, 1), (2, 3), 1), ((2, 1), (3, 2), 1), ((1, 1), (2, 2), 2)]
)
def test_input_dilation_equals_lax(strides, dilation, groups):
    x, kernel, pads = normal(0, (2, 4, 5, 4)), normal(1, (3, 4, 4 // groups, 6)), ((1, 2), (-1, 3))
    reference = partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=pads,
        lhs_dilation=dilation,
        feature_group_count=groups,
    )
    compare(
        partial(convolve, strides=strides, padding=pads, input_dilation=dilation, feature_group_count=groups),
        lambda x, kernel: reference(x, kernel, dimension_numbers=NUMBERS[2]),
        x,
        kernel,
    )


@pytest.mark.parametrize(("groups", "channels", "features"), [(2, 4, 6), (3, 3, 3)])
def test_groups_equal_lax(groups, channels, features):
    x, kernel = normal(0, (2, 7, 6, channels)), normal(1, (4, 4, channels // groups, features))
    ours = partial(convolve, strides=2, padding=1, feature_group_count=groups)
    pads = ((1, 1), (1, 1))
    compare(ours, lambda x, k: reference_conv(x, k, (2, 2), pads, (1, 1), groups), x, kernel)


@pytest.mark.parametrize("lowering", ["matmul", "matmul_jvp", "conv"])
def test_every_lowering_gives_the_same(lowering):
    x, kernel = normal(0, (2, 9, 8, 3)), normal(1, (4, 4, 3, 8))
    pads = ((1, 1), (1, 1))
    reference = partial(reference_conv, strides=(2, 2), padding=pads, dilation=(1, 1))
    compare(partial(convolve, strides=2, padding=1, lowering=lowering), reference, x, kernel)
    up = partial(lax.conv_transpose, strides=(2, 2), padding="SAME", dimension_numbers=NUMBERS[2])
    compare(partial(convolve_transpose, strides=2, lowering=lowering), up, x, kernel)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_summed_in_float32_and_rounded_once(dtype):
    """All but a few entries equal the float32 result's rounding exactly; another order of summation may move a tie."""
    arrays = normal(0, (8, 12, 12, 8)), normal(1, (4, 4, 8, 8)), normal(2, (8, 6, 6, 8))
    low = [array.astype(dtype) for array in arrays]
    ours = jax.jit(pulled_back(partial(convolve, strides=2, padding=1)))
    for result, exact in zip(ours(*low), ours(*(array.astype(np.float32) for array in low)), strict=True):
        assert result.dtype == dtype
        assert np.mean(np.asarray(result) == np.asarray(exact).astype(dtype)) > 0.99


@pytest.mark.parametrize("axes", [(0, 0), (None, 0), (0, None)])
def test_population_under_vmap_equals_each_member(axes):
    members = 3
    x = normal(0, (*([members] if axes[0] == 0 else []), 2, 8, 8, 3))
    kernel = normal(1, (*([members] if axes[1] == 0 else []), 4, 4, 3, 5))
    cotangent = normal(2, (members, 2, 4, 4, 5))
    run = pulled_back(partial(convolve, strides=2, padding=1))
    together = jax.jit(jax.vmap(run, (*axes, 0)))(x, kernel, cotangent)
    alone = jax.jit(run)
    for member in range(members):
        expected = alone(
            x if axes[0] is None else x[member], kernel if axes[1] is None else kernel[member], cotangent[member]
        )
        for batched, single in zip(together, expected, strict=True):
            np.testing.assert_allclose(batched[member], single, rtol=0, atol=1e-5 * float(np.abs(single).max()))


def test_shared_kernel_collects_the_gradient_of_all_members():
    x, kernel = normal(0, (3, 2, 6, 6, 3)), normal(1, (3, 3, 3, 4))
    mapped = jax.vmap(convolve, (0, None))
    compare(mapped, lambda x, k: convolve(x.reshape(-1, *x.shape[2:]), k).reshape(3, 2, 6, 6, 4), x, kernel)


@pytest.mark.slow
@pytest.mark.parametrize("lowering", ["auto", "matmul_jvp"])
def test_gradients_of_replicated_kernels_are_summed_in_shard_map(lowering):
    devices = jax.devices()[:2]
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)
    x, kernel = normal(0, (2, 6, 6, 3)), normal(1, (4, 4, 3, 4))

    def loss(x, kernel):
        y = convolve(x, kernel, 2, lowering=lowering)
        return (convolve_transpose(y, kernel, 2, transpose_kernel=True, lowering=lowering) ** 2).sum()

    specs = (jax.sharding.PartitionSpec("data"), jax.sharding.PartitionSpec())
    sharded = jax.shard_map(
        lambda *args: lax.psum(loss(*args), "data"), mesh=mesh, in_specs=specs, out_specs=jax.sharding.PartitionSpec()
    )
    gradients = jax.jit(jax.grad(sharded, (0, 1)))(x, kernel), jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
    for sharded_gradient, gradient in zip(*gradients, strict=True):
        np.testing.assert_allclose(sharded_gradient, gradient, rtol=0, atol=1e-5 * np.abs(gradient).max())


def test_data_parallel_gradients_move_nothing_but_the_kernels_sum():
    devices = jax.devices()[:2]
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)
    by_rows, replicated = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in (("data",), ())
    )

    def loss(kernel, x):
        return (convolve_transpose(convolve(x, kernel, 2), kernel, 2, transpose_kernel=True) ** 2).sum()

    args = jax.device_put(normal(1, (4, 4, 3, 4)), replicated), jax.device_put(normal(0, (2, 6, 6, 3)), by_rows)
    with jax.set_mesh(mesh):
        compiled = jax.jit(jax.grad(loss)).lower(*args).compile()
    assert re.findall(r"(all-\w+|collective-\w+|reduce-scatter)\(", compiled.as_text()) == ["all-reduce"]
    expected = jax.jit(jax.grad(loss))(*jax.device_get(args))
    np.testing.assert_allclose(compiled(*args), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_second_derivatives_in_reverse_mode_equal_lax():
    x, kernel = normal(0, (1, 6, 6, 2)), normal(1, (4, 4, 2, 3))

    def curvature(convolve):
        def penalty(*args):  # on the gradients in both arguments, differentiated in both
            gradients = jax.grad(lambda x, kernel: jnp.sum(jnp.tanh(convolve(x, kernel))), (0, 1))(*args)
            return sum((gradient**2).sum() for gradient in gradients)

        return jax.grad(penalty, (0, 1))

    reference = partial(reference_conv, strides=(2, 2), padding=((1, 1), (1, 1)), dilation=(1, 1))
    ours, theirs = jax.jit(
        lambda x, k: (curvature(partial(convolve, strides=2, padding=1))(x, k), curvature(reference)(x, k))
    )(x, kernel)
    for result, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max()))


def test_forward_mode_by_the_lowering_that_names_it():
    x, kernel = normal(0, (1, 4, 4, 1)), normal(1, (4, 4, 1, 2))
    forward = jax.jit(jax.jacfwd(partial(convolve, strides=2, padding=1, lowering="matmul_jvp")))(x, kernel)
    reverse = jax.jit(jax.jacrev(partial(convolve, strides=2, padding=1)))(x, kernel)
    np.testing.assert_allclose(forward, reverse, atol=1e-6)


CONVOLUTION = re.compile(r"\bconvolution\(|custom_call_target=\"[^\"]*conv")


def training_loop(convolve):
    """Gradients in both arguments, inside a scan."""

    def step(carry, _):
        return jax.tree.map(jnp.subtract, carry, jax.grad(lambda c: (convolve(*c) ** 2).sum())(carry)), None

    return jax.jit(lambda x, kernel: lax.scan(step, (x, kernel), None, length=2))


@pytest.mark.parametrize(
    ("convolve", "size"),
    [
        (partial(convolve, strides=2, padding=1), 4),
        (partial(convolve, padding="SAME"), 3),
        (partial(convolve, strides=3, padding="VALID", kernel_dilation=2), 2),
        (partial(convolve_transpose, strides=2), 4),
        (jax.vmap(partial(convolve, strides=2), (0, 0)), 3),
    ],
)
def test_no_convolution_is_left_in_the_cpu_program(convolve, size):
    leading = (2,) if not isinstance(convolve, partial) else ()
    args = normal(0, (*leading, 2, 8, 8, 3)), normal(1, (*leading, size, size, 3, 3))
    program = training_loop(convolve).lower(*args).compile().as_text()
    assert not CONVOLUTION.search(program)
    assert " while(" in program
    assert " conditional(" not in program


def test_lowering_conv_does_leave_convolutions():
    """The test above can fail."""
    ours = partial(convolve, strides=2, padding=1, lowering="conv")
    args = normal(0, (2, 8, 8, 3)), normal(1, (4, 4, 3, 3))
    assert CONVOLUTION.search(training_loop(ours).lower(*args).compile().as_text())


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("convolve", [partial(convolve, strides=2, padding=1), partial(convolve_transpose, strides=2)])
def test_accelerators_get_convolutions(platform, convolve):
    args = normal(0, (2, 8, 8, 3)), normal(1, (4, 4, 3, 3))
    text = training_loop(convolve).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 3
    assert "stablehlo.dot_general" not in text


@pytest.mark.parametrize(
    ("image", "channels", "features", "size", "strides", "scattered"),
    [
        (32, 32, 32, 4, 2, (True, True)),
        (16, 32, 64, 4, 2, (True, False)),  # borders weigh more
        (8, 64, 64, 4, 2, (False, False)),
        (64, 1, 32, 4, 2, (False, False)),
        (16, 64, 64, 3, 1, (True, False)),
        (16, 8, 8, 1, 1, (True, True)),
    ],
)
def test_taps_are_stacked_or_added_as_measured_best(image, channels, features, size, strides, scattered):
    twice = lambda value: (value, value)  # noqa: E731
    conv = ConvShape(twice(image), twice(size), twice(strides), ((1, 1), (1, 1)), (1, 1), channels, features)
    assert conv.scattered == scattered


X = jnp.zeros((2, 8, 8, 3))
KERNEL = jnp.zeros((4, 4, 3, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: convolve(X, jnp.zeros((4, 4, 2, 5))),
            r"convolve: kernel has shape \(4, 4, 2, 5\), expected .* feature_group_count=1",
        ),
        (lambda: convolve(X, KERNEL, feature_group_count=3), "groups must divide both c and features"),
        (lambda: convolve(X[0, 0], KERNEL), r"convolve: x has shape \(8, 3\) and kernel .* add the missing axes"),
        (
            lambda: convolve(X, KERNEL.astype(jnp.bfloat16)),
            "convolve: x is float32 and kernel bfloat16, expected one dtype",
        ),
        (
            lambda: convolve(X, KERNEL, padding="SAMME"),
            "convolve: padding='SAMME' is not known here; did you mean SAME",
        ),
        (lambda: convolve(X, KERNEL, padding=((1, 1),)), r"convolve: padding=\(\(1, 1\),\), expected 2 int"),
        (lambda: convolve(X, KERNEL, padding="CAUSAL"), "convolve: padding='CAUSAL' is not known here"),
        (lambda: convolve(X, KERNEL, input_dilation=2), "convolve: padding='SAME' is not known here"),
        (lambda: convolve(X, KERNEL, strides=(2, 2, 2)), r"convolve: strides=\(2, 2, 2\), expected 2 positive"),
        (lambda: convolve(X, KERNEL, strides=0), "convolve: strides=0, expected 2 positive"),
        (
            lambda: convolve(X, KERNEL, padding="VALID", kernel_dilation=3),
            r"convolve: x of shape .* leave an image of \(-1, -1\)",
        ),
        (
            lambda: convolve(X, KERNEL, lowering="matmull"),
            "convolve: lowering='matmull' is not known; did you mean matmul",
        ),
        (
            lambda: convolve_transpose(X, KERNEL, transpose_kernel=True),
            "convolve_transpose: kernel has 5 input channels, expected 3",
        ),
        (
            lambda: convolve_transpose(X, KERNEL, padding="CIRCULAR"),
            "convolve_transpose: padding='CIRCULAR' is not known here",
        ),
        (lambda: convolve_transpose(X, KERNEL, 2, (-9, -9)), "convolve_transpose: x of shape .* leave an image"),
    ],
)
def test_invalid_input_is_refused_with_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
