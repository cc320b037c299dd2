"""Moving averages against a loop in NumPy, on one device and on eight; which codes are replaced, and by what."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vaex import quantizers as vq

N, K, D = 64, 7, 3


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def start(k=K):
    return vq.init_codebook(draw(k, D, seed=9))


def loop(state, z, indices, decay, smoothing, mask=None):
    """The paper's equations, one vector after another."""
    codebook, counts, sums = (np.asarray(x, np.float64) for x in state)
    number, total = np.zeros(len(counts)), np.zeros_like(sums)
    for j, i in enumerate(indices):
        if mask is None or mask[j]:
            number[i] += 1
            total[i] += z[j]
    counts, sums = decay * counts + (1 - decay) * number, decay * sums + (1 - decay) * total
    everything = counts.sum()
    for i in range(len(counts)):
        smooth = (counts[i] + smoothing) / (everything + len(counts) * smoothing) * everything
        codebook[i] = sums[i] / smooth if smooth > 0 else codebook[i]
    return codebook, counts, sums


def assert_states_close(a, b, rtol=2e-5, atol=2e-6):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


@pytest.mark.parametrize("smoothing", [0.0, 1e-5, 0.5])
@pytest.mark.parametrize("masked", [False, True])
def test_update_equals_a_loop(smoothing, masked):
    state = expected = start()
    update = jax.jit(vq.update_codebook)
    for step in range(4):
        z, mask = draw(N, D, seed=step), np.arange(N) % 3 > 0 if masked else None
        indices = np.asarray(vq.nearest_code(state.codebook, z))
        expected = loop(expected, z, indices, 0.9, smoothing, mask)
        padded = z if mask is None else np.where(mask[:, None], z, np.nan)
        state = update(
            state, padded.reshape(4, -1, D), indices.reshape(4, -1), decay=0.9, smoothing=smoothing,
            mask=None if mask is None else mask.reshape(4, -1),
        )  # fmt: skip
        assert_states_close(state, expected)


def test_a_constant_batch_is_a_fixed_point():
    """From its own means nothing moves, and from anywhere else it gets there."""
    z, indices = draw(N, D), np.arange(N) % K
    means = np.stack([z[indices == i].mean(0) for i in range(K)])
    counts = np.bincount(indices).astype(np.float32)
    fixed = vq.CodebookState(means, counts, means * counts[:, None])
    update = jax.jit(partial(vq.update_codebook, z=z, indices=indices))
    assert_states_close(update(fixed, decay=0.9, smoothing=0.0), fixed, rtol=1e-5, atol=1e-6)
    state = jax.lax.fori_loop(0, 300, lambda _, s: update(s, decay=0.9), start())
    assert_states_close(state, fixed, rtol=1e-4, atol=1e-5)


def test_unused_codes_stay_and_divide_by_nothing():
    state = vq.CodebookState(draw(K, D), jnp.zeros(K), jnp.zeros((K, D)))
    after = vq.update_codebook(state, draw(4, D), np.zeros(4, int), decay=0.9, smoothing=0.0)
    np.testing.assert_array_equal(after.codebook[1:], state.codebook[1:])
    np.testing.assert_allclose(after.codebook[0], draw(4, D).mean(0), rtol=1e-5)
    nothing = vq.update_codebook(state, draw(4, D), np.full(4, -1), decay=0.9)
    np.testing.assert_array_equal(nothing.codebook, state.codebook)


def test_bfloat16_codebooks_have_wide_averages():
    state = vq.init_codebook(jnp.asarray(draw(K, D), jnp.bfloat16))
    z = jnp.asarray(draw(N, D, seed=1), jnp.bfloat16)
    after = vq.update_codebook(state, z, vq.nearest_code(state.codebook, z), decay=0.999)
    assert [x.dtype for x in after] == [jnp.bfloat16, jnp.float32, jnp.float32]
    assert np.all(after.counts != 1)


@pytest.fixture(scope="module")
def mesh():
    if jax.device_count() < 8:
        pytest.skip("needs eight devices")
    return jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


def step(key, state, z, mask, axis_name=None):
    """What a training step does, on global arrays or within one shard."""
    quantized = vq.vector_quantize(state.codebook, z)
    state = vq.update_codebook(state, z, quantized.indices, decay=0.9, mask=mask, axis_name=axis_name)
    entropy = vq.lookup_free_entropy(z, mask=mask, axis_name=axis_name).batch
    use = vq.code_perplexity(quantized.indices, num_codes=K, mask=mask, axis_name=axis_name)
    used = vq.code_usage(quantized.indices, num_codes=K, mask=mask, axis_name=axis_name)
    return state, (entropy, use, used)


def test_a_sharded_batch_gives_the_same_state(mesh):
    """By jit on global arrays, and by shard_map with the axis named."""
    data, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    key, state, z, mask = jax.random.key(0), start(), draw(N, D), np.arange(N) < N - 5
    expected = jax.jit(step)(key, state, z, mask)
    sharded = jax.device_put((z, mask), data)
    result = jax.jit(step)(key, jax.device_put(state, whole), *sharded)
    spec = PartitionSpec("data")
    named = jax.shard_map(
        partial(step, axis_name="data"),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(), spec, spec),
        out_specs=PartitionSpec(),
    )
    for other in (result, jax.jit(named)(key, state, z, mask)):
        assert_states_close(jax.tree.leaves(other), jax.tree.leaves(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_sharded_replacement(mesh):
    """On global arrays the same codes as on one device; with the axis named, as many distinct vectors of all shards."""
    data, spec = NamedSharding(mesh, PartitionSpec("data")), PartitionSpec("data")
    state = start()._replace(counts=jnp.array([0.1, 9.0, 0.1, 0.1, 9.0, 0.1, 0.1]))
    z, mask, key = draw(16, D), np.arange(16) % 4 > 0, jax.random.key(3)
    replace = partial(vq.replace_dead_codes, threshold=1.0)
    expected = jax.jit(lambda z, mask: replace(key, state, z, mask=mask))(z, mask)
    sharded = jax.jit(lambda z, mask: replace(key, state, z, mask=mask))(*jax.device_put((z, mask), data))
    assert_states_close(sharded, expected, rtol=0, atol=0)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(PartitionSpec(), spec, spec), out_specs=PartitionSpec())
    def named(key, z, mask):
        return replace(key, state, z, mask=mask, axis_name="data")

    seen = set()
    for seed in range(60):
        rows = sources(named(jax.random.key(seed), z, mask).codebook[dead(state)], z)
        assert len(set(rows)) == 5
        seen |= set(rows)
    assert seen == set(np.flatnonzero(mask))


def dead(state, threshold=1.0):
    return np.asarray(state.counts < threshold)


def sources(codes, z):
    """Which vector of the batch each code is."""
    equal = np.all(np.asarray(codes)[:, None] == z, axis=-1)
    assert np.all(equal.sum(1) == 1)
    return equal.argmax(1).tolist()


def test_exactly_the_dead_codes_are_replaced():
    state = start()._replace(counts=jnp.array([0.1, 9.0, 0.99, 1.0, 5.0, 0.0, 1.01]))
    z = draw(N, D)
    after = jax.jit(vq.replace_dead_codes)(jax.random.key(0), state, z, threshold=1.0)
    gone = np.array([True, False, True, False, False, True, False])
    for new, old in zip(after, state, strict=True):
        np.testing.assert_array_equal(np.asarray(new)[~gone], np.asarray(old)[~gone])
        assert np.all(np.asarray(new)[gone] != np.asarray(old)[gone])
    assert len(set(sources(after.codebook[gone], z))) == 3
    np.testing.assert_allclose(after.counts[gone], np.mean(state.counts), rtol=1e-6)
    np.testing.assert_allclose(after.sums[gone], after.codebook[gone] * after.counts[gone][:, None], rtol=1e-6)
    assert_states_close(
        vq.replace_dead_codes(jax.random.key(0), state, z, threshold=0.0), state, rtol=0, atol=0
    )  # count 0 is not under 0
    revived = vq.replace_dead_codes(jax.random.key(0), state, z, threshold=100.0)
    np.testing.assert_array_equal(revived.counts, 100.0)


def test_replacements_are_uniform_over_the_batch():
    """Each of 10 vectors equally often, within 5 standard errors."""
    state, z = start()._replace(counts=jnp.array([0.0, 0.0, *[9.0] * 5])), draw(10, D)
    keys = jax.random.split(jax.random.key(1), 2000)
    replace = jax.jit(jax.vmap(lambda key: vq.replace_dead_codes(key, state, z, threshold=1.0).codebook[:2]))
    codes = replace(keys)
    share = np.bincount(sources(np.reshape(codes, (-1, D)), z), minlength=10) / len(keys)
    assert np.all(np.abs(share - 0.2) < 5 * np.sqrt(0.2 * 0.8 / len(keys)))


def test_few_or_no_vectors_to_draw_from():
    state, z = start()._replace(counts=jnp.zeros(K)), draw(3, D)
    replace = partial(vq.replace_dead_codes, jax.random.key(0), state, threshold=1.0)
    rows = sources(replace(z).codebook, z)
    assert set(rows) == {0, 1, 2}
    assert set(sources(replace(z, mask=np.array([1, 0, 1])).codebook, z)) == {0, 2}
    assert_states_close(replace(z, mask=np.zeros(3)), state, rtol=0, atol=0)


@pytest.mark.slow
def test_training_a_codebook_with_replacement_uses_all_codes():
    """From codes all far away but one; without replacement that one takes everything."""
    z = draw(512, D) + 5 * draw(16, D, seed=1)[np.arange(512) % 16]
    state = vq.init_codebook(jnp.full((16, D), 100.0).at[0].set(0.0))

    def train(threshold):
        def body(i, state):
            state = vq.update_codebook(state, z, vq.nearest_code(state.codebook, z), decay=0.8)
            return vq.replace_dead_codes(jax.random.fold_in(jax.random.key(0), i), state, z, threshold=threshold)

        return vq.nearest_code(jax.lax.fori_loop(0, 50, body, state).codebook, z)

    assert vq.code_usage(train(0.0), num_codes=16) == 1 / 16
    assert vq.code_usage(train(0.5), num_codes=16) == 1.0
