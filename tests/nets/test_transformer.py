"""The causal transformer: no logit depends on later codes, the cache changes nothing, samples follow the logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.nets import CausalTransformer, Dropout, sample_codes
from vaex.ops.platforms import compiling_for

KINDS = (0, 1, 0, 1, 2)
NET = CausalTransformer(KINDS, codes=6, width=8, layers=2, heads=2)
CODES = jnp.asarray(np.random.default_rng(0).permuted(np.tile(np.arange(6), (3, 1)), axis=1)[:, :5], jnp.int32)
CONDITION = jnp.eye(3)
KEY = jax.random.key(0)


@pytest.fixture
def variables(filled):
    return filled(NET, CODES, CONDITION)


def test_logits_depend_on_codes_before_them_alone(variables):
    """The Jacobian in the embeddings says so: the codes of all positions differ, so each row of embeddings is one position."""
    codes = CODES[:1]

    def logits(embedding):
        return NET.apply({"params": {**variables["params"], "embedding": embedding}}, codes, CONDITION[:1])[0]

    jacobian = np.asarray(jax.jit(jax.jacrev(logits))(variables["params"]["embedding"]))
    size = np.abs(jacobian).max(axis=(1, 3))  # [position of the logit, row]
    rows = 1 + np.asarray(codes[0]) + 6 * np.asarray(KINDS)
    assert np.all(size[:, 0] > 0)  # the start
    for position in range(5):
        for other in range(5):
            assert (size[position, rows[other]] > 0) == (other < position), (position, other)


@pytest.mark.slow
def test_cached_logits_equal_those_of_all_positions_at_once(variables):
    expected = NET.apply(variables, CODES, CONDITION)
    step = jax.jit(
        lambda codes, position, cache: NET.apply(variables, codes, position, cache, CONDITION, method="step")
    )
    cache, previous = NET.cache(3), jnp.full(3, 5, jnp.int32)  # without effect at the first position
    for position in range(5):
        logits, cache = step(previous, position, cache)
        np.testing.assert_allclose(logits, expected[:, position], rtol=1e-4, atol=1e-5)
        previous = CODES[:, position]


@pytest.mark.slow
def test_logits_depend_on_the_condition_and_the_kind(variables):
    logits = NET.apply(variables, CODES, CONDITION)
    others = NET.apply(variables, CODES, jnp.roll(CONDITION, 1, axis=0))
    assert np.all(np.abs(logits - others).max(axis=(1, 2)) > 1e-3)
    swapped = CausalTransformer((2, *KINDS[1:]), codes=6, width=8, layers=2, heads=2)
    difference = np.abs(logits - swapped.apply(variables, CODES, CONDITION)).max(axis=(0, 2))
    assert np.all(difference[:2] > 1e-3)  # by the output layer of the first position, and the embedding of its code


@pytest.mark.slow
def test_samples_follow_the_logits_and_keep_the_prefix(variables):
    net = CausalTransformer((0, 0), codes=3, width=4, layers=1, heads=1)
    params = jax.jit(net.init)(KEY, jnp.zeros((1, 2), jnp.int32))["params"]
    params = {**params, "output": 30.0 * params["output"]}
    pairs = jnp.asarray([[a, b] for a in range(3) for b in range(3)])
    draw = jax.jit(lambda key, temperature: sample_codes(net, params, key, 20_000, temperature=temperature))
    for temperature in (1.0, 0.5):
        logits = np.asarray(net.apply({"params": params}, pairs), np.float64) / temperature
        shares = np.exp(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
        expected = np.prod(np.take_along_axis(shares, np.asarray(pairs)[..., None], -1)[..., 0], axis=1)
        drawn = np.asarray(draw(KEY, temperature))
        frequencies = np.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9) / len(drawn)
        assert np.all(np.abs(frequencies - expected) < 4.5 * np.sqrt(expected / len(drawn)) + 1e-9)
    prefix = jnp.asarray([[2], [0]])
    np.testing.assert_array_equal(sample_codes(net, params, KEY, 2, prefix=prefix)[:, :1], prefix)


def test_dropout_drops_its_rate_and_keeps_the_mean():
    for rate in (0.0, 0.25):
        factors = np.asarray(Dropout(KEY, jnp.float32(rate)).factors((40_000,)))
        assert abs(np.mean(factors == 0) - rate) < 0.01
        np.testing.assert_allclose(np.unique(factors[factors > 0]), 1 / (1 - rate), rtol=1e-6)


@pytest.mark.slow
def test_dropout_changes_training_logits(variables):
    plain = NET.apply(variables, CODES, CONDITION)
    none = NET.apply(variables, CODES, CONDITION, Dropout(KEY, jnp.float32(0.0)))
    np.testing.assert_allclose(none, plain, rtol=1e-5, atol=1e-6)
    assert np.abs(NET.apply(variables, CODES, CONDITION, Dropout(KEY, jnp.float32(0.5))) - plain).max() > 1e-2


@pytest.mark.slow
def test_gradients_of_many_positions_equal_those_of_few_at_a_time(filled):
    """XLA on CPU has computed wrong sums of products over an axis that is used again, for large arrays only."""
    net = CausalTransformer((0,) * 49, codes=16, width=32, layers=1, heads=4)
    codes = jnp.asarray(np.random.default_rng(1).integers(0, 16, (64, 49)), jnp.int32)
    variables = filled(net, codes[:1])

    @jax.jit
    def gradient(codes):
        def loss(variables):
            logits = jax.nn.log_softmax(net.apply(variables, codes))
            return -jnp.sum(jnp.take_along_axis(logits, codes[..., None], axis=-1))

        return jax.grad(loss)(variables)

    parts = [gradient(codes[start : start + 4]) for start in range(0, 64, 4)]
    total = jax.tree.map(lambda *leaves: np.sum(np.asarray(leaves, np.float64), axis=0), *parts)

    def assert_close(at_once, summed):
        np.testing.assert_allclose(at_once, summed, rtol=0, atol=2e-5 * np.abs(summed).max())

    jax.tree.map(assert_close, gradient(codes), total)


@pytest.mark.slow
@pytest.mark.parametrize("length", [128, 150])
def test_blocks_of_queries_change_nothing(filled, length):
    """Logits and gradients on CPU, where blocks of 64 attend together, are those of all positions at once, as on accelerators."""
    net = CausalTransformer((0,) * length, codes=4, width=8, layers=2, heads=2)
    codes = jax.random.randint(KEY, (2, length), 0, 4)
    params = filled(net, codes)["params"]

    def loss(params):
        logits = net.apply({"params": params}, codes)
        return jnp.sum(jax.nn.log_softmax(logits)[..., 0] ** 2), logits

    def compute():
        def traced_anew(params):
            return loss(params)

        return jax.jit(jax.value_and_grad(traced_anew, has_aux=True))(params)

    (_, logits), gradients = compute()
    with compiling_for("tpu"):
        (_, expected), expected_gradients = compute()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    for computed, right in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True):
        np.testing.assert_allclose(computed, right, rtol=1e-3, atol=1e-4 * np.abs(right).max())
