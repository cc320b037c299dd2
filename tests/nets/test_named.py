"""Networks by name: shapes, gradients, conditions, the data that each is for; grids against Linen's layers and images."""

import typing

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaex
from vaex import testing
from vaex.errors import UserError
from vaex.models.networks import NetworkConfig
from vaex.nets import (
    NETWORKS,
    ConvDecoder,
    ConvEncoder,
    GridDecoder,
    GridEncoder,
    NetworkSizes,
    RecurrentEncoder,
    TransformerEncoder,
)

LAWS = ("one_trace", "finite_gradients", "stable_state")
SIZES = NetworkSizes(hidden=(8, 4), channels=(3, 5), activation="tanh")
SHAPES = {
    "mlp": [(7,), (3, 2, 1)],
    "conv": [(9, 8, 3)],
    "resnet": [(8, 8, 1), (11, 9, 3)],
    "conv1d": [(9, 3, 1), (12, 2)],
    "conv3d": [(5, 4, 6), (4, 5, 4, 2)],
    "recurrent": [(6, 3, 1), (5, 2)],
    "transformer": [(6, 3, 1), (5, 2)],
}
CASES = [
    pytest.param(name, shape, marks=[] if name == "conv1d" and shape == shapes[0] else pytest.mark.slow)
    for name, shapes in SHAPES.items()
    for shape in shapes
]


def normal(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_the_option_offers_all_names():
    assert set(typing.get_args(typing.get_type_hints(NetworkConfig)["network"])) == set(NETWORKS) == set(SHAPES)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_shapes_gradients_and_conditions(name, shape, filled):
    kind = NETWORKS[name]
    encoder, decoder = kind.encoder(SIZES, shape, 6), kind.decoder(SIZES, shape, 2)
    x, z, labels = normal(0, (3, *shape)), normal(1, (3, 4)), np.eye(5, dtype=np.float32)[:3]
    encoding = filled(encoder, x, labels)
    decoding = filled(decoder, z, labels)

    @jax.jit
    def run(encoding, decoding, x):
        def loss(trees, x):
            code = encoder.apply(trees[0], x, labels)
            return jnp.sum(code**2) + jnp.sum(decoder.apply(trees[1], z, labels) ** 2), code

        (_, code), gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)((encoding, decoding), x)
        pairs = encoder.apply(encoding, x, labels[:, None])  # all labels for all examples
        stacked = encoder.apply(encoding, jnp.stack([x, x + 1.0]), labels)
        return code, gradients, pairs, stacked, decoder.apply(decoding, z, labels)

    code, (of_params, of_x), pairs, stacked, raw = run(encoding, decoding, x)
    assert kind.fits(shape) and code.shape == (3, 6) and raw.size == 3 * np.prod(shape) * 2 and raw.shape[0] == 3
    for leaf in jax.tree.leaves(of_params):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)
    assert np.all(np.asarray(of_x) != 0), "a value of x is not read"
    assert pairs.shape == (3, 3, 6) and stacked.shape == (2, 3, 6)
    np.testing.assert_allclose(pairs[[0, 1, 2], [0, 1, 2]], code, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stacked[0], code, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_grids_equal_linens_convolutions(axes, filled):
    shape = (*(9, 6, 5)[:axes], 2)

    class Reference(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.tanh(nn.Conv(3, (4,) * axes, 2, 1, name="conv_0")(x))
            if min(x.shape[1:-1]) >= 4:
                x = nn.tanh(nn.Conv(5, (4,) * axes, 2, 1, name="conv_1")(x))
            return nn.Dense(6, name="output")(nn.tanh(nn.Dense(7, name="hidden")(x.reshape(len(x), -1))))

    encoder, x = GridEncoder(shape, axes, 6, (3, 5), 7, "tanh"), normal(0, (2, *shape))
    variables = filled(encoder, x)
    result, expected = (jax.jit(module.apply)(variables, x) for module in (encoder, Reference()))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_grids_of_two_axes_are_images(filled):
    shape = (9, 12, 3)
    x, z = normal(0, (2, *shape)), normal(1, (2, 5))
    for grid, images, inputs in (
        (GridEncoder(shape, 2, 6, (3, 4), 7), ConvEncoder(6, (3, 4), 7), x),
        (GridDecoder(shape, 2, (3, 4), 7), ConvDecoder(shape, (3, 4), 7), z),
    ):
        variables = filled(images, inputs)
        assert jax.tree.structure(variables) == jax.tree.structure(jax.eval_shape(grid.init, jax.random.key(0), inputs))
        np.testing.assert_allclose(grid.apply(variables, inputs), images.apply(variables, inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_both_directions_of_the_recurrent_encoder(filled):
    """Reversed series with the two units exchanged give the same code."""
    encoder, x = RecurrentEncoder((6, 3), 4, 5, "tanh"), normal(0, (2, 6, 3))
    params = filled(encoder, x)["params"]
    kernel = params["hidden"]["kernel"]
    exchanged = params | {
        "forward": params["backward"],
        "backward": params["forward"],
        "hidden": params["hidden"] | {"kernel": np.concatenate([kernel[5:], kernel[:5]])},
    }
    code = encoder.apply({"params": params}, x)
    np.testing.assert_allclose(encoder.apply({"params": exchanged}, x[:, ::-1]), code, rtol=1e-4, atol=1e-5)
    assert not np.allclose(encoder.apply({"params": params}, x[:, ::-1]), code, atol=1e-3)


@pytest.mark.slow
def test_the_transformer_knows_order_by_positions_alone(filled):
    encoder, x = TransformerEncoder((6, 3), 4, 8, 2), normal(0, (2, 6, 3))
    params = filled(encoder, x)["params"]
    without = params | {"positions": {"embedding": np.zeros((6, 8), np.float32)}}
    order = np.array([3, 0, 5, 1, 4, 2])
    for tree, same in ((without, True), (params, False)):
        codes = [encoder.apply({"params": tree}, inputs) for inputs in (x, x[:, order])]
        assert np.allclose(*codes, rtol=1e-4, atol=1e-5) == same


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((20, 8), {"network": "conv1d"}, r"--network=conv1d needs series \[t, ...\] of at least 4 steps"),
        ((20, 8), {"network": "recurrent"}, r"--network=recurrent needs series \[t, ...\], but"),
        ((20, 8, 8), {"network": "conv3d"}, r"--network=conv3d needs volumes \[d, h, w\] of at least 4 a side"),
        ((20, 8, 7), {"network": "resnet"}, "--network=resnet needs images of at least 8x8"),
        ((20, 8, 8), {"network": "resnet", "channels": ()}, "--network=resnet needs at least one width in --channels"),
        (
            (20, 8, 8),
            {"network": "recurrent", "hidden": ()},
            "--network=recurrent needs at least one width in --hidden",
        ),
        ((20, 8, 8), {"network": "transformer", "hidden": (6,)}, "is 6, expected a multiple of 4"),
    ],
)
def test_networks_for_other_data_are_refused(data, options, message):
    x = np.random.default_rng(0).integers(0, 9, data, np.uint8)
    with pytest.raises(UserError, match=message) as caught:
        vaex.train("vae", x, steps=1, progress=False, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        ("resnet", (9, 8, 1)),
        ("conv1d", (8, 4, 1)),
        ("conv3d", (5, 4, 4)),
        ("recurrent", (8, 4, 1)),
        ("transformer", (8, 4, 1)),
    ],
)
def test_a_model_keeps_the_laws(network, shape):
    subjects = testing.build_subjects("vae", shape, network=network, hidden=(8,), channels=(3, 4))
    for law in LAWS:
        testing.check_law(law, subjects)


@pytest.mark.slow
def test_networks_pass_as_values():
    x = np.random.default_rng(0).integers(0, 9, (30, 12, 3), np.uint8)
    encoder = GridEncoder((12, 3, 1), 1, 16, channels=(4, 8), hidden=8)
    run = vaex.train("vae", x, layout="hwc", encoder=encoder, network="recurrent", hidden=(8,), steps=3, progress=False)
    assert run.encode(x[:2]).mean.shape == (2, 10) and run.reconstruct(x[:2]).shape[:3] == (2, 12, 3)
