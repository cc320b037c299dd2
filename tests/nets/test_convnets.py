"""ConvEncoder and ConvDecoder: any image size, every pixel used, the same results as Linen's layers."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.errors import UserError
from vaex.nets import ConvDecoder, ConvEncoder
from vaex.nets.convnets import stage_sizes

CHANNELS = (3, 4, 5, 6)
SHAPES = [(8, 8, 1), (9, 8, 3), (11, 13, 2), (28, 28, 1), (33, 16, 4), (8, 40, 1)]


def standard_normal(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize(
    ("height", "width", "stages", "expected"),
    [
        (8, 8, 4, [(8, 8), (4, 4), (2, 2)]),
        (28, 28, 4, [(28, 28), (14, 14), (7, 7), (3, 3)]),
        (64, 64, 4, [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]),
        (64, 9, 2, [(64, 9), (32, 4), (16, 2)]),
        (9, 640, 4, [(9, 640), (4, 320), (2, 160)]),
        (5, 4, 4, [(5, 4), (2, 2)]),
        (16, 16, 0, [(16, 16)]),
    ],
)
def test_stages_halve_until_a_side_has_two_or_three_pixels(height, width, stages, expected):
    assert list(stage_sizes(height, width, stages)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_encoder_equals_linens_layers_and_reads_every_pixel(shape, filled):
    class Reference(nn.Module):
        @nn.compact
        def __call__(self, x):
            for index in range(len(stage_sizes(*shape[:2], 4)) - 1):
                x = nn.tanh(nn.Conv(CHANNELS[index], (4, 4), 2, 1, name=f"conv_{index}")(x))
            x = nn.tanh(nn.Dense(7, name="hidden")(x.reshape(x.shape[0], -1)))
            return nn.Dense(10, name="output")(x)

    encoder = ConvEncoder(10, CHANNELS, hidden=7, activation="tanh")
    x = standard_normal(0, (2, *shape))

    @jax.jit
    def both(variables, x):
        pixels = jax.grad(lambda x: encoder.apply(variables, x).sum())(x)
        return encoder.apply(variables, x), Reference().apply(variables, x), pixels

    result, expected, pixels = both(filled(encoder, x), x)
    assert result.shape == (2, 10)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.all(np.asarray(pixels) != 0)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_decoder_equals_linens_layers_and_fills_every_pixel(shape, filled):
    sizes = stage_sizes(*shape[:2], 4)
    widths = (shape[2], *CHANNELS)

    class Reference(nn.Module):
        @nn.compact
        def __call__(self, z):
            x = nn.tanh(nn.Dense(7, name="hidden")(z))
            x = nn.tanh(nn.Dense(sizes[-1][0] * sizes[-1][1] * widths[len(sizes) - 1], name="grid")(x))
            x = x.reshape(-1, *sizes[-1], widths[len(sizes) - 1])
            for index in reversed(range(len(sizes) - 1)):
                # one row and column too many, of which the odd images need the first
                layer = nn.ConvTranspose(widths[index], (4, 4), (2, 2), ((2, 3), (2, 3)), name=f"conv_{index}")
                x = layer(x)[:, : sizes[index][0], : sizes[index][1]]
                x = nn.tanh(x) if index else x
            return x

    decoder = ConvDecoder(shape, CHANNELS, hidden=7, activation="tanh")
    z = standard_normal(1, (3, 5))

    @jax.jit
    def both(variables, z):
        return decoder.apply(variables, z), Reference().apply(variables, z)

    result, expected = both(filled(decoder, z), z)
    assert result.shape == (3, *shape)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert np.all(np.std(result, axis=0) > 0)


def test_decoder_keeps_the_scale_of_its_activations_at_the_start():
    """Linear layers of true fan-in keep the variance, except at the border, which fewer taps reach.

    From 4 to 8 pixels the border takes 1/8 of it along each axis, which leaves 0.77. The range allows for the randomness of the
    kernels; the initializer of Linen would lose a factor of 4.
    """
    decoder = ConvDecoder((8, 8, 8), (64,), hidden=64, activation="identity")
    variance = jax.jit(lambda key, z: decoder.init_with_output(key, z)[0].var())
    assert 0.77 / 1.5 < variance(jax.random.key(0), standard_normal(0, (64, 64))) < 0.77 * 1.5


@pytest.mark.slow
@pytest.mark.parametrize("module", [ConvEncoder(4, CHANNELS, 7), ConvDecoder((8, 9, 1), CHANNELS, 7)])
def test_all_parameters_learn_inside_a_scan_without_a_stock_convolution(module, filled):
    x = standard_normal(0, (2, 8, 9, 1) if isinstance(module, ConvEncoder) else (2, 5))

    @jax.jit
    def train(start):
        def step(variables, _):
            gradients = jax.grad(lambda v: (module.apply(v, x) ** 2).sum())(variables)
            return jax.tree.map(lambda v, g: v - 1e-2 * g, variables, gradients), gradients

        return jax.lax.scan(step, start, None, length=2)[1]

    start = filled(module, x)
    compiled = train.lower(start).compile()
    assert not re.search(r"\bconvolution\(", compiled.as_text())
    for gradient in jax.tree.leaves(compiled(start)):
        assert np.all(np.isfinite(gradient))
        assert np.any(np.asarray(gradient[0]) != 0)


def test_leading_axes_and_populations(filled):
    shape = (9, 8, 2)
    encoder, decoder = ConvEncoder(4, CHANNELS, 7), ConvDecoder(shape, CHANNELS, 7)
    x = standard_normal(0, (2, 3, *shape))
    members = filled(encoder, x, members=(2,))

    @jax.jit
    def run(members, decoding):
        first = jax.tree.map(lambda leaf: leaf[0], members)
        z, flat = encoder.apply(first, x), encoder.apply(first, x.reshape(6, *shape))
        return z, flat, jax.vmap(encoder.apply, (0, None))(members, x)[0], decoder.apply(decoding, z)

    z, flat, member, images = run(members, filled(decoder, np.zeros((1, 4), np.float32)))
    assert z.shape == (2, 3, 4)
    assert images.shape == (2, 3, *shape)
    np.testing.assert_allclose(z.reshape(6, 4), flat, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(z, member, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "shape", "error", "message"),
    [
        (
            ConvEncoder(4),
            (2, 3, 9, 1),
            UserError,
            "image of 3 x 9 pixels: convolutions need at least 4 on each side; use an MLP",
        ),
        (ConvDecoder((9, 2, 1)), (2, 4), UserError, "image of 9 x 2 pixels"),
        (ConvEncoder(4), (9, 9), ValueError, r"ConvEncoder: x has shape \(9, 9\), expected \[..., h, w, c\]"),
        (ConvEncoder(4, activation="rleu"), (2, 8, 8, 1), UserError, "activation='rleu' is not known"),
        (ConvDecoder((8, 8, 1), activation="rleu"), (2, 4), UserError, "activation='rleu' is not known"),
    ],
)
def test_misuse_is_refused(module, shape, error, message):
    with pytest.raises(error, match=message):
        module.init(jax.random.key(0), jnp.zeros(shape))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "shape"),
    [(ConvEncoder(3, CHANNELS, hidden=7), (2, 9, 8, 3)), (ConvDecoder((9, 8, 3), CHANNELS, hidden=7), (2, 5))],
    ids=["encoder", "decoder"],
)
def test_a_condition_reaches_the_dense_layer_and_broadcasts(module, shape, filled):
    x, every = standard_normal(0, shape), np.eye(3, dtype=np.float32)[:, None]
    variables = filled(module, x, every)
    apply = jax.jit(module.apply)
    together = apply(variables, x, every)
    assert together.shape[:2] == (3, 2)
    for index in range(3):
        alone = apply(variables, x, np.tile(every[index], (2, 1)))
        np.testing.assert_allclose(together[index], alone, rtol=1e-4, atol=1e-5)
    unconditional = {"params": {name: layer for name, layer in variables["params"].items() if name != "condition"}}
    none = apply(variables, x, np.zeros((2, 3), np.float32))
    np.testing.assert_allclose(none, module.apply(unconditional, x), rtol=1e-4, atol=1e-5)
    assert np.abs(together[0] - none).max() > 1e-3
