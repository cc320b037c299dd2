"""Unrolled keys compared with JAX's own: the same numbers, and no loop on CPU."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.ops.threefry import fold_in, unrolled

DRAWS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "normal": lambda key: jax.random.normal(key, (3, 5, 7)),
    "scalar": jax.random.uniform,
    "nothing": lambda key: jax.random.normal(key, (0, 3)),
    "uint8": lambda key: jax.random.bits(key, (4, 5), jnp.uint8),
    "uint16": lambda key: jax.random.bits(key, (1000,), jnp.uint16),
    "uint32": lambda key: jax.random.bits(key, (2, 3, 4, 5)),
    "bfloat16": lambda key: jax.random.normal(key, (9,), jnp.bfloat16),
    "gumbel": lambda key: jax.random.gumbel(key, (33,)),
    "categorical": lambda key: jax.random.categorical(key, jnp.zeros((9, 5))),
    "integers": lambda key: jax.random.randint(key, (8,), -3, 100),
    "permutation": lambda key: jax.random.permutation(key, 50),
    "of a split": lambda key: jax.random.normal(jax.random.split(key, (2, 3))[1, 2], (2,)),
    "of a fold": lambda key: jax.random.normal(jax.random.fold_in(key, 2**32 - 1), (2,)),
}


def assert_same(result: jax.Array, expected: jax.Array) -> None:
    """Keys or numbers are equal to the bit."""
    keys = jnp.issubdtype(result.dtype, jax.dtypes.prng_key)
    arrays = [jax.random.key_data(x) if keys else x for x in (result, expected)]
    assert arrays[0].dtype == arrays[1].dtype
    first, second = (np.asarray(x, np.float32) if x.dtype == jnp.bfloat16 else np.asarray(x) for x in arrays)
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_every_draw_is_jaxs_own(draw) -> None:
    for seed in (0, 7, 2**32 - 1):
        key = jax.random.key(seed)
        assert_same(draw(unrolled(key)), draw(key))
        assert_same(jax.jit(lambda key: draw(unrolled(key)))(key), draw(key))
    keys = jax.random.split(jax.random.key(1), 4)
    assert_same(jax.vmap(lambda key: draw(unrolled(key)))(keys), jax.vmap(draw)(keys))


def test_64_bits_are_jaxs_own() -> None:
    with jax.enable_x64(True):
        key = jax.random.key(5)
        assert_same(jax.random.bits(unrolled(key), (6, 7), jnp.uint64), jax.random.bits(key, (6, 7), jnp.uint64))


@pytest.mark.parametrize("data", [0, 1, 2**31, 2**32 - 1])
def test_fold_in_gives_jaxs_own_key(data: int) -> None:
    key, number = jax.random.key(9), jnp.uint32(data)
    assert_same(fold_in(key, number), jax.random.fold_in(key, number))
    assert_same(jax.jit(fold_in)(key, number), jax.random.fold_in(key, number))
    assert fold_in(key, number).dtype == key.dtype


def test_keys_of_other_kinds_come_back_as_they_are() -> None:
    other, old = jax.random.key(0, impl="rbg"), jax.random.PRNGKey(0)
    assert unrolled(other) is other
    assert unrolled(old) is old
    assert unrolled(unrolled(jax.random.key(0))).dtype == unrolled(jax.random.key(0)).dtype
    assert_same(fold_in(other, 3), jax.random.fold_in(other, 3))
    with jax.threefry_partitionable(False):  # its counters are laid out in another way
        key = jax.random.key(4)
        assert_same(jax.random.normal(unrolled(key), (5, 3)), jax.random.normal(key, (5, 3)))


@pytest.mark.parametrize("invalid", [3, None, np.ones(2, np.float32)])
def test_what_is_no_key_is_refused_with_the_remedy(invalid) -> None:
    for name, function in (("unrolled", unrolled), ("fold_in", lambda key: fold_in(key, 1))):
        with pytest.raises(TypeError, match=rf"{name}: got .* expected a key; make one with jax\.random\.key"):
            function(invalid)


def test_an_array_beyond_32_bits_has_its_shape() -> None:
    drawn = jax.eval_shape(lambda key: jax.random.bits(unrolled(key), (1 << 17, 1 << 16)), jax.random.key(0))
    assert drawn.shape == (1 << 17, 1 << 16)


def test_no_loop_is_left_where_jaxs_own_has_one() -> None:
    def loops(draw: Callable[[jax.Array], jax.Array]) -> int:
        return (jax.jit(draw).lower(jax.random.key(0)).compile().as_text() or "").count(" while(")

    assert loops(lambda key: jax.random.normal(jax.random.fold_in(unrolled(key), 1), (64, 8))) == 0
    assert loops(lambda key: jax.random.normal(fold_in(key, 1), (64, 8))) > 0, (
        "jax unrolls by itself: drop vaex.ops.threefry"
    )
