"""k-means against scikit-learn, and batches with fewer distinct vectors than codes."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import quantizers as vq


def inertia(z, codebook):
    return float(np.square(z[:, None].astype(np.float64) - np.asarray(codebook, np.float64)).sum(-1).min(-1).sum())


def blobs(k, seed, n=600, d=4):
    generator = np.random.default_rng(seed)
    centres = 4 * generator.standard_normal((k, d))
    return (centres[generator.integers(k, size=n)] + generator.standard_normal((n, d))).astype(np.float32)


@partial(jax.jit, static_argnames=("num_codes", "num_iterations", "num_starts"))
def kmeans(key, z, num_codes, **settings):
    return vq.kmeans_codebook(key, z, num_codes=num_codes, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("k", [5, 20])
def test_inertia_is_that_of_scikit_learn(k):
    """The best of ten runs within 5% of its best of ten, and single runs as good on average as its own."""
    cluster = pytest.importorskip("sklearn.cluster")
    runs = jax.jit(lambda keys, z: jax.lax.map(lambda key: vq.kmeans_codebook(key, z, num_codes=k), keys))
    ratios = []
    for seed in range(2):
        z = blobs(k, seed)
        best = cluster.KMeans(k, n_init=10, random_state=0).fit(z).inertia_
        assert inertia(z, kmeans(jax.random.key(seed), z, k, num_starts=10)) <= 1.05 * best
        theirs = [cluster.KMeans(k, n_init=1, random_state=i).fit(z).inertia_ for i in range(10)]
        ours = [inertia(z, codebook) for codebook in runs(jax.random.split(jax.random.key(0), 10), z)]
        ratios.append(np.mean(ours) / np.mean(theirs))
    assert np.mean(ratios) <= 1.05


@pytest.mark.slow
def test_lloyds_steps_lower_the_inertia_to_a_fixed_point():
    z, key = blobs(10, 0), jax.random.key(0)
    errors = [inertia(z, kmeans(key, z, 10, num_iterations=i)) for i in (0, 1, 50)]
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(errors))
    codebook = kmeans(key, z, 10, num_iterations=50)
    indices = np.asarray(vq.nearest_code(codebook, z))
    np.testing.assert_allclose(codebook, [z[indices == i].mean(0) for i in range(10)], rtol=1e-4, atol=1e-5)


def test_seeds_are_distinct_vectors_of_the_batch_spread_by_distance():
    """Blobs far apart get one seed each; uniform draws would miss some nearly always."""
    centres = 1000 * np.random.default_rng(0).standard_normal((12, 3))
    z = (np.repeat(centres, 10, axis=0) + np.random.default_rng(1).standard_normal((120, 3))).astype(np.float32)
    seeds = np.asarray(kmeans(jax.random.key(0), z, 12, num_iterations=0))
    rows = [np.flatnonzero((z == seed).all(1)) for seed in seeds]
    assert sorted(int(row[0]) // 10 for row in rows) == list(range(12))


@pytest.mark.slow
@pytest.mark.parametrize("num_iterations", [0, 3])
def test_fewer_distinct_vectors_than_codes(num_iterations):
    """All of them become codes, the rest repeat them and are never chosen."""
    distinct = np.array([[0.0, 1.0], [2.0, 3.0], [-4.0, 5.0]], np.float32)
    z = distinct[np.arange(20) % 3]
    codebook = np.asarray(kmeans(jax.random.key(0), z, 8, num_iterations=num_iterations))
    np.testing.assert_array_equal(np.unique(codebook, axis=0), np.unique(distinct, axis=0))
    assert len(np.unique(vq.nearest_code(codebook, z))) == 3
    masked = kmeans(jax.random.key(0), z, 8, num_iterations=num_iterations, mask=np.arange(20) % 3 > 0)
    np.testing.assert_array_equal(np.unique(masked, axis=0), np.unique(distinct[1:], axis=0))
    one = kmeans(jax.random.key(0), np.ones(2, np.float32), 4)
    np.testing.assert_array_equal(one, np.ones((4, 2)))


@pytest.mark.slow
def test_masked_vectors_count_for_nothing():
    z = blobs(5, 0)
    mask = np.arange(len(z)) % 2 == 0
    padded = np.where(mask[:, None], z, np.nan).reshape(20, 30, 4)
    codebook = kmeans(jax.random.key(0), padded, 5, mask=mask.reshape(20, 30), num_starts=3)
    rest = inertia(z[mask], kmeans(jax.random.key(0), z[mask], 5, num_starts=3))
    assert inertia(z[mask], codebook) <= 1.05 * rest
    assert np.isfinite(kmeans(jax.random.key(0), padded, 5, mask=np.zeros((20, 30)), num_starts=3)).all()


@pytest.mark.slow
def test_members_and_dtypes():
    """vmap over keys gives what each key gives; bfloat16 is averaged in float32."""
    z, keys = blobs(5, 0), jax.random.split(jax.random.key(0), 3)
    members = jax.jit(jax.vmap(lambda key: vq.kmeans_codebook(key, z, num_codes=5)))(keys)
    np.testing.assert_allclose(members[1], kmeans(keys[1], z, 5), rtol=1e-4, atol=1e-5)
    narrow = kmeans(keys[0], jnp.asarray(z, jnp.bfloat16), 5)
    assert narrow.dtype == jnp.bfloat16
    assert inertia(z, narrow.astype(np.float32)) <= 1.05 * inertia(z, members[0])
