"""Residual encoder and decoder: sizes, every pixel is read, every pixel is reached."""

import jax
import numpy as np
import pytest

from vaex.errors import UserError
from vaex.nets import ResidualDecoder, ResidualEncoder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "stages", "size"),
    [((8, 8, 1), 2, (2, 2)), ((9, 14, 3), 2, (2, 3)), ((5, 7, 2), 1, (2, 3)), ((9, 3), 2, (2,)), ((30, 1), 1, (15,))],
)
def test_feature_maps_read_every_value_and_come_back_to_the_size(shape, stages, size, filled):
    encoder = ResidualEncoder(4, stages, blocks=stages - 1, activation="tanh", axes=len(size))
    decoder = ResidualDecoder(shape, 4, stages, blocks=stages - 1, activation="tanh")
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    features = np.zeros((2, *size, 4), np.float32)
    up, down = filled(encoder, x), filled(decoder, features)
    assert encoder.apply(up, x).shape == (2, *size, 4) and decoder.apply(down, features).shape == x.shape
    pixels = jax.jit(jax.grad(lambda x: encoder.apply(up, x).sum()))(x)
    assert np.all(np.asarray(pixels) != 0)
    reached = jax.jit(jax.grad(lambda f: (decoder.apply(down, f) * x).sum()))(features)
    assert np.all(np.asarray(reached) != 0)


def test_a_block_of_zeros_changes_nothing(filled):
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 1)).astype(np.float32)
    encoder = ResidualEncoder(4, 1, blocks=2, activation="tanh")
    variables = filled(encoder, x)
    block = jax.tree.map(np.zeros_like, variables["params"]["block_1"])
    without = {name: leaf for name, leaf in variables["params"].items() if name != "block_1"}
    plain = ResidualEncoder(4, 1, blocks=1, activation="tanh").apply({"params": without}, x)
    np.testing.assert_array_equal(encoder.apply({"params": {**without, "block_1": block}}, x), plain)
    assert np.abs(encoder.apply(variables, x) - plain).max() > 1e-3


def test_invalid_input_is_refused():
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 3, 4\), expected \[..., 2, 2, n\]"):
        jax.eval_shape(ResidualDecoder((8, 8, 1), 4, 2).init, jax.random.key(0), np.zeros((1, 3, 3, 4), np.float32))
    with pytest.raises(UserError, match="activation='rely'"):
        jax.eval_shape(
            ResidualEncoder(4, 1, activation="rely").init, jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32)
        )
