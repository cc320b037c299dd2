"""Sign codes, and both entropies against a sum over all codes in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import quantizers as vq


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def entropy(p):
    return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), -1)


def direct(z, temperature):
    """Softmax of -|z - c|^2 / tau over all 2^d codes: [n], []."""
    codes = np.array(list(itertools.product([-1, 1], repeat=z.shape[-1])))
    logits = -np.square(z[:, None] - codes).sum(-1) / temperature
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return entropy(p), entropy(p.mean(0))


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 5, 8])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 30.0])
def test_entropies_equal_the_sum_over_all_codes(d, temperature):
    z = 0.4 * draw(40, d)
    sample, batch = direct(z, temperature)
    with jax.enable_x64(True):
        result = jax.jit(lambda z, t: vq.lookup_free_entropy(z, temperature=t))(z.reshape(4, 10, d), temperature)
        np.testing.assert_allclose(result.sample.reshape(-1), sample, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(result.batch, batch, rtol=1e-9, atol=1e-12)
        mask = np.arange(40) % 3 > 0
        padded = vq.lookup_free_entropy(np.where(mask[:, None], z, np.nan), temperature=temperature, mask=mask)
        np.testing.assert_allclose(padded.batch, direct(z[mask], temperature)[1], rtol=1e-9, atol=1e-12)


def test_the_batch_entropy_sees_that_bits_depend():
    """Two equal bits: the average choice has one bit of entropy, where the bits by themselves would have two."""
    z = np.array([[9.0, 9.0], [-9.0, -9.0]], np.float32)
    result = vq.lookup_free_entropy(z)
    np.testing.assert_allclose(result.batch, np.log(2), rtol=1e-5)
    np.testing.assert_allclose(result.sample, 0, atol=1e-6)
    np.testing.assert_allclose(vq.lookup_free_entropy(jnp.zeros((3, 4))).sample, 4 * np.log(2), rtol=1e-6)


@pytest.mark.slow
def test_the_penalty_pulls_apart():
    """Descending mean(sample) - batch from near zero: choices grow sure and spread over the codes."""
    z = jnp.asarray(0.01 * draw(64, 3), jnp.float32)

    def penalty(z):
        result = vq.lookup_free_entropy(z)
        return jnp.mean(result.sample) - result.batch

    after = jax.lax.fori_loop(0, 2000, lambda _, z: z - 2.0 * jax.grad(penalty)(z), z)
    assert penalty(after) < 0.8 * -3 * np.log(2) < penalty(z)
    assert vq.code_usage(vq.lookup_free_quantize(after).indices, num_codes=8) == 1


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 3, 10])
def test_indices_are_in_bijection_with_codes(d):
    codes = np.asarray(vq.lookup_free_lookup(np.arange(2**d), num_bits=d))
    expected = np.array(list(itertools.product([-1, 1], repeat=d)))[:, ::-1]  # the first bit counts fastest
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(vq.lookup_free_indices(codes), np.arange(2**d))
    assert np.isnan(vq.lookup_free_lookup(np.array([-1, 2**d]), num_bits=d)).all()


@pytest.mark.slow
def test_codes_are_the_nearest_signs_with_the_gradient_straight_through():
    z = draw(2, 20, 5).astype(np.float32)
    result, pullback = jax.vjp(lambda z: vq.lookup_free_quantize(z).codes, z)
    np.testing.assert_array_equal(result, np.sign(z))
    np.testing.assert_array_equal(pullback(jnp.asarray(z))[0], z)
    quantized = vq.lookup_free_quantize(z)
    codebook = vq.lookup_free_lookup(np.arange(32), num_bits=5)
    np.testing.assert_array_equal(quantized.indices, vq.nearest_code(codebook, z))
    np.testing.assert_allclose(quantized.commitment_loss, np.square(z - np.sign(z)).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(vq.lookup_free_quantize(np.zeros(3, np.float32)).codes, -np.ones(3))
    most = vq.lookup_free_quantize(np.ones(31, np.float32)).indices
    assert most == 2**31 - 1
    np.testing.assert_array_equal(vq.lookup_free_lookup(most, num_bits=31), np.ones(31))
