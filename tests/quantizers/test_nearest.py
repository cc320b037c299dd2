"""Nearest codes and lookups against brute force, ties, and vectors far from the origin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import quantizers as vq
from vaex.quantizers import nearest


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def brute_force(z, codebook):
    """[..., k] squared distances by differences, in float64."""
    return np.square(z[..., None, :].astype(np.float64) - codebook.astype(np.float64)).sum(-1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3,), (50, 3), (2, 5, 7, 3), (0, 3)])
def test_nearest_equals_brute_force(shape):
    z, codebook = draw(*shape), draw(17, 3, seed=1)
    indices = jax.jit(vq.nearest_code)(codebook, z)
    assert indices.dtype == jnp.int32
    np.testing.assert_array_equal(indices, brute_force(z, codebook).argmin(-1))
    np.testing.assert_allclose(vq.squared_distances(codebook, z), brute_force(z, codebook), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_many_codes_are_compared_a_block_at_a_time(distance, monkeypatch):
    """Blocks of 8, the last of which is not full; codes repeat beyond their block."""
    z, codebook = draw(40, 3), np.concatenate([draw(19, 3, seed=1), draw(19, 3, seed=1)[::-1]])
    expected = np.asarray(vq.nearest_code(codebook, z, distance=distance))
    assert expected.max() < 19
    for block in (8, 19, 38):
        monkeypatch.setattr(nearest, "BLOCK", block)
        indices = jax.jit(lambda *args: vq.nearest_code(*args, distance=distance))(codebook, z)
        assert indices.dtype == jnp.int32
        np.testing.assert_array_equal(indices, expected)
    missing = z.copy()
    missing[3] = np.nan
    monkeypatch.setattr(nearest, "BLOCK", 8)
    np.testing.assert_array_equal(vq.nearest_code(codebook, missing, distance=distance)[:3], expected[:3])


def test_a_wide_codebook_takes_no_array_of_vectors_times_codes():
    """2^18 codes: [64 vectors, 2^18] would be 67 MB."""
    codebook, chosen = draw(2**18, 8), np.random.default_rng(1).integers(0, 2**18, 64)
    z, state = codebook[chosen] + 1e-3 * draw(64, 8, seed=2), vq.init_codebook(codebook)

    def coded(z, state):
        indices = vq.nearest_code(state.codebook, z)
        return indices, vq.update_codebook(state, z, indices, decay=0.5, smoothing=0.0)

    indices, updated = jax.jit(coded)(z, state)
    np.testing.assert_array_equal(indices, chosen)
    counts, sums = np.bincount(chosen, minlength=2**18), np.zeros((2**18, 8))
    np.add.at(sums, chosen, z)
    np.testing.assert_allclose(updated.counts, 0.5 * state.counts + 0.5 * counts)
    np.testing.assert_allclose(updated.sums, 0.5 * np.asarray(state.sums) + 0.5 * sums, rtol=1e-5, atol=1e-6)
    text = str(jax.make_jaxpr(coded)(z, state))
    assert "64,262144" not in text and "262144,64" not in text and "64,16384" in text


def test_cosine_compares_directions():
    z, codebook = draw(50, 3), draw(17, 3, seed=1) * np.geomspace(1e-3, 1e3, 17, dtype=np.float32)[:, None]
    cosine = (z @ codebook.T) / np.linalg.norm(z, axis=-1)[:, None] / np.linalg.norm(codebook, axis=-1)
    indices = vq.nearest_code(codebook, z, distance="cosine")
    np.testing.assert_array_equal(indices, cosine.argmax(-1))
    assert np.any(indices != vq.nearest_code(codebook, z))
    on_sphere = vq.nearest_code(vq.unit_norm(codebook), vq.unit_norm(z))
    np.testing.assert_array_equal(indices, on_sphere)
    assert vq.nearest_code(codebook, np.zeros(3, np.float32), distance="cosine") == 0


def test_ties_go_to_the_lowest_index():
    codebook = np.array([[5.0, 5.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
    z = np.array([[0.0, 0.0], [2.0, 0.0], [-1.0, 1.0], [0.5, 0.5]], np.float32)
    np.testing.assert_array_equal(vq.nearest_code(codebook, z), [1, 1, 2, 1])
    np.testing.assert_array_equal(vq.nearest_code(codebook[::-1], z), [0, 0, 1, 0])


def test_far_from_the_origin_nothing_cancels():
    """A constant added to vectors and codes leaves their differences; the textbook form rounds them to multiples of 64."""
    z, codebook = draw(200, 8) + np.float32(1e4), draw(17, 8, seed=1) + np.float32(1e4)
    exact = brute_force(z, codebook)
    rounding = 1e-3  # of the products of centred coordinates, up to 40 each in eight dimensions, to 24 bits
    np.testing.assert_allclose(vq.squared_distances(codebook, z), exact, rtol=1e-4, atol=rounding)
    chosen = np.take_along_axis(exact, np.asarray(vq.nearest_code(codebook, z))[:, None], -1)[:, 0]
    assert np.all(chosen - exact.min(-1) < rounding)  # the smallest gap between two codes is of 2e-4


def test_vectors_far_from_all_codes_still_find_the_nearest():
    """|z|^2 = 1e12 would swallow what tells the codes apart."""
    codebook = np.array([[0.0, 0.0], [0.0, 0.5], [0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(vq.nearest_code(codebook, np.array([[0.0, 1e6], [1e6, 0.3]], np.float32)), [2, 1])


def test_lookup_gives_rows_and_their_gradient():
    codebook, indices = draw(5, 2), np.array([[4, 0, 4]])
    np.testing.assert_array_equal(vq.lookup(codebook, indices), codebook[indices])
    np.testing.assert_array_equal(vq.nearest_code(codebook, vq.lookup(codebook, np.arange(5))), np.arange(5))
    gradient = jax.grad(lambda c: vq.lookup(c, indices).sum())(codebook)
    np.testing.assert_array_equal(gradient, np.array([1, 0, 0, 0, 2])[:, None] * np.ones(2))
    outside = vq.lookup(codebook, np.array([-1, 5, 2]))
    np.testing.assert_array_equal(np.isnan(outside), [[True, True], [True, True], [False, False]])


@pytest.mark.slow
def test_unit_norm_has_the_projection_as_gradient():
    z = draw(4, 3) * np.array([[1e-30], [1.0], [1e30], [0.0]], np.float32)
    unit = vq.unit_norm(z)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), [1, 1, 1, 0], rtol=1e-6)
    jacobian = np.asarray(jax.vmap(jax.jacobian(vq.unit_norm))(z), np.float64)
    length = np.linalg.norm(z.astype(np.float64), axis=-1)[:3, None, None]
    projection = np.eye(3) - unit[:3, :, None] * unit[:3, None, :]
    np.testing.assert_allclose(jacobian[:3] * length, projection, atol=1e-5)
    np.testing.assert_array_equal(jacobian[3], 0)
