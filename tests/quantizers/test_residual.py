"""One codebook, several in a row, one per group: against loops, and round trips through indices."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import quantizers as vq

Q, K, D = 4, 16, 6


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def nearest(z, codebook):
    return np.square(z[:, None] - codebook).sum(-1).argmin(-1)


@pytest.fixture(scope="module")
def trained():
    """Vectors, and codebooks made stage by stage from what the stages before left."""
    z = draw(400, D) * np.linspace(0.5, 2.0, D, dtype=np.float32)
    kmeans = jax.jit(lambda key, z: vq.kmeans_codebook(key, z, num_codes=K))
    remainder, codebooks = z, []
    for stage in range(Q):
        codebooks.append(np.asarray(kmeans(jax.random.key(stage), remainder)))
        remainder = remainder - codebooks[-1][nearest(remainder, codebooks[-1])]
    return z, np.stack(codebooks)


def test_vector_quantize_puts_the_parts_together():
    z, codebook = draw(2, 10, D), draw(K, D, seed=1)
    result = jax.jit(vq.vector_quantize)(codebook, z)
    indices = vq.nearest_code(codebook, z)
    np.testing.assert_array_equal(result.indices, indices)
    np.testing.assert_array_equal(result.codes, codebook[indices])
    np.testing.assert_array_equal(vq.nearest_code(codebook, result.codes), indices)
    for loss in (result.commitment_loss, result.codebook_loss):
        np.testing.assert_allclose(loss, np.square(z - codebook[indices]).sum(-1), rtol=1e-5)
    cosine = vq.vector_quantize(codebook, z, distance="cosine")
    np.testing.assert_array_equal(cosine.indices, vq.nearest_code(codebook, z, distance="cosine"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gradient", "estimator"), [("straight_through", vq.straight_through), ("rotation", vq.rotation_trick)]
)
@pytest.mark.parametrize("quantize", [vq.vector_quantize, vq.residual_quantize, vq.grouped_quantize])
def test_gradients_by_name(quantize, gradient, estimator):
    """Codes pass gradients to the vectors as the estimator does, and none to the codebook."""
    z, weights = draw(5, D), draw(5, D, seed=2)
    shape = {"residual_quantize": (Q, K, D), "grouped_quantize": (2, K, D // 2)}.get(quantize.__name__, (K, D))
    codebook = draw(*shape, seed=1)
    loss = lambda z, c: (quantize(c, z, gradient=gradient).codes * weights).sum()  # noqa: E731
    to_z, to_codebook = jax.grad(loss, (0, 1))(z, codebook)
    codes = quantize(codebook, z).codes
    groups = (5, 2, D // 2) if quantize is vq.grouped_quantize else z.shape
    expected = jax.grad(
        lambda z: (estimator(z.reshape(groups), codes.reshape(groups)) * weights.reshape(groups)).sum()
    )(z)
    np.testing.assert_allclose(to_z, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(to_codebook, 0)


def test_codebook_loss_moves_the_chosen_codes_only():
    z, codebook = draw(3, D), draw(K, D, seed=1)
    gradient = jax.grad(lambda c: vq.vector_quantize(c, z).codebook_loss.sum())(codebook)
    expected = np.zeros_like(codebook)
    for vector, i in zip(z, nearest(z, codebook), strict=True):
        expected[i] += 2 * (codebook[i] - vector)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_residual_equals_a_loop(trained):
    z, codebooks = trained
    result = jax.jit(vq.residual_quantize)(codebooks, z)
    remainder, indices, inputs, loss = z, [], [], 0.0
    for codebook in codebooks:
        indices.append(nearest(remainder, codebook))
        inputs.append(remainder)
        remainder = remainder - codebook[indices[-1]]
        loss = loss + np.square(remainder).sum(-1)
    np.testing.assert_array_equal(result.indices, np.stack(indices, -1))
    np.testing.assert_allclose(result.codes, z - remainder, atol=1e-5)
    np.testing.assert_allclose(result.commitment_loss, loss, rtol=1e-4)
    np.testing.assert_allclose(result.codebook_loss, loss, rtol=1e-4)
    np.testing.assert_allclose(vq.residual_inputs(codebooks, z, result.indices), inputs, atol=1e-5)
    np.testing.assert_array_equal(vq.residual_lookup(codebooks, result.indices), result.codes)


def test_residual_losses_pull_each_stage_only():
    """Gradient to z: the sum of the stages' 2 r; to a code: -2 r of its own stage, earlier codes being constants."""
    z, codebooks = draw(1, D), draw(Q, K, D, seed=1)
    quantized = vq.residual_quantize(codebooks, z)
    inputs = np.asarray(vq.residual_inputs(codebooks, z, quantized.indices))[:, 0]
    chosen = codebooks[np.arange(Q), quantized.indices[0]]
    to_z = jax.grad(lambda z: vq.residual_quantize(codebooks, z).commitment_loss.sum())(z)
    np.testing.assert_allclose(to_z[0], 2 * (inputs - chosen).sum(0), rtol=1e-4, atol=1e-5)
    to_codes = jax.grad(lambda c: vq.residual_quantize(c, z).codebook_loss.sum())(codebooks)
    moved = np.asarray(to_codes)[np.arange(Q), quantized.indices[0]]
    np.testing.assert_allclose(moved, 2 * (chosen - inputs), rtol=1e-4, atol=1e-5)
    assert np.count_nonzero(np.any(to_codes != 0, axis=-1)) == Q
    none = jax.grad(lambda c: vq.residual_quantize(c, z).commitment_loss.sum())(codebooks)
    np.testing.assert_array_equal(none, 0)


def test_error_falls_with_depth(trained):
    z, codebooks = trained
    errors = [float(np.square(z).sum(-1).mean())]
    for depth in range(1, Q + 1):
        codes = vq.residual_quantize(codebooks[:depth], z).codes
        errors.append(float(np.square(z - codes).sum(-1).mean()))
    assert all(b < a for a, b in itertools.pairwise(errors))
    assert errors[-1] < 0.25 * errors[1]


def test_a_stack_of_states_is_updated_by_vmap(trained):
    z, codebooks = trained
    states = jax.vmap(vq.init_codebook)(codebooks)
    indices = vq.residual_quantize(codebooks, z).indices
    update = jax.vmap(partial(vq.update_codebook, decay=0.9))
    after = update(states, vq.residual_inputs(codebooks, z, indices), jnp.moveaxis(indices, -1, 0))
    assert after.codebook.shape == codebooks.shape
    one = vq.update_codebook(vq.init_codebook(codebooks[0]), z, indices[:, 0], decay=0.9)
    for x, y in zip(after, one, strict=True):
        np.testing.assert_allclose(x[0], y, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_grouped_is_each_group_by_itself():
    z, codebooks = draw(2, 5, D), draw(3, K, D // 3, seed=1)
    result = jax.jit(vq.grouped_quantize)(codebooks, z)
    each = [vq.vector_quantize(book, part) for part, book in zip(np.split(z, 3, -1), codebooks, strict=True)]
    np.testing.assert_array_equal(result.codes, np.concatenate([x.codes for x in each], -1))
    np.testing.assert_array_equal(result.indices, np.stack([x.indices for x in each], -1))
    np.testing.assert_allclose(result.commitment_loss, np.sum([x.commitment_loss for x in each], 0), rtol=1e-5)
    np.testing.assert_allclose(result.codebook_loss, np.sum([x.codebook_loss for x in each], 0), rtol=1e-5)
    np.testing.assert_array_equal(vq.grouped_lookup(codebooks, result.indices), result.codes)
