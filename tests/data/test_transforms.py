"""From stored values to model inputs: exact values, the Bernoulli's and the uniform's moments, and the law that
``intensities`` is the mean of ``prepare``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import data
from vaex.data import Spec, intensities, prepare, resolve
from vaex.errors import UserError

GREY = Spec("grey", (17,), "grey", levels=17)
ALL_LEVELS = np.arange(17, dtype=np.uint8)[None]
SPECS = {
    "none": GREY,
    "dynamic": resolve(GREY, binarize="dynamic"),
    "threshold": resolve(GREY, binarize="threshold"),
    "uniform": resolve(GREY, dequantize="uniform"),
    "continuous": Spec("continuous", (17,), "grey"),
    "continuous dynamic": resolve(Spec("continuous", (17,), "grey"), binarize="dynamic"),
}
DRAWS = 4000


def stored(spec):
    return ALL_LEVELS if spec.levels else np.linspace(0, 1, 17, dtype=np.float32)[None]


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels_map_onto_0_to_1_exactly_at_the_ends(levels):
    spec = Spec("levels", (levels,), "grey", levels=levels)
    x = jax.jit(lambda x: prepare(spec, jax.random.key(0), x))(np.arange(levels, dtype=np.uint8)[None])
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x[0], np.arange(levels) / (levels - 1), rtol=2e-7)
    assert x[0, 0] == 0
    assert x[0, -1] == 1


def test_real_values_pass_unchanged():
    x = np.array([[-3.5, 1e6]], np.float32)
    spec = Spec("real", (2,), "real")
    assert np.array_equal(prepare(spec, jax.random.key(0), x), x)
    assert np.array_equal(intensities(spec, x), x)


@pytest.mark.parametrize("name", SPECS)
def test_intensities_are_the_mean_of_prepare(name):
    spec = SPECS[name]
    x = stored(spec)
    keys = jax.random.split(jax.random.key(7), DRAWS)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: prepare(spec, key, x)))(keys), np.float64)[:, 0]
    mean = np.asarray(intensities(spec, x))[0]
    error = draws.std(axis=0) / np.sqrt(DRAWS)
    assert np.all(np.abs(draws.mean(axis=0) - mean) <= 4 * error + 1e-6)
    assert draws.min() >= 0
    assert draws.max() <= 1
    assert (error.max() > 0) == (name in ("dynamic", "uniform", "continuous dynamic"))


def test_dynamic_draws_are_0_or_1_and_sure_values_stay():
    spec = SPECS["dynamic"]
    draws = jax.vmap(lambda key: prepare(spec, key, ALL_LEVELS))(jax.random.split(jax.random.key(0), 500))
    assert set(np.unique(draws).tolist()) == {0.0, 1.0}
    assert not draws[..., 0].any()
    assert draws[..., -1].all()


def test_threshold_is_strictly_above_one_half():
    assert np.array_equal(prepare(SPECS["threshold"], jax.random.key(0), ALL_LEVELS)[0], np.arange(17) > 8)


def test_dequantised_values_fill_their_level():
    """(k + u) / 17 with u uniform: each draw lies in its level's interval, and u has the uniform's variance 1/12."""
    draws = jax.vmap(lambda key: prepare(SPECS["uniform"], key, ALL_LEVELS))(jax.random.split(jax.random.key(1), DRAWS))
    u = np.asarray(draws[:, 0], np.float64) * 17 - np.arange(17)
    assert u.min() > -1e-5
    assert u.max() < 1 + 1e-5
    standard_error = np.sqrt(
        (1 / 80 - 1 / 144) / u.size
    )  # of the variance: fourth central moment minus variance squared
    assert abs(u.var() - 1 / 12) < 4 * standard_error


@pytest.mark.parametrize("name", ["dynamic", "uniform"])
def test_noise_is_a_pure_function_of_the_key(name):
    x = np.full([4, 17], 8, np.uint8)
    first, again, other = (prepare(SPECS[name], jax.random.key(seed), x) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(np.asarray(first), axis=0)) > 1  # rows have their own noise


@pytest.mark.parametrize(
    ("spec", "x", "match"),
    [
        (GREY, np.zeros([2, 17], np.float32), "expected integer level indices 0..16"),
        (GREY, np.zeros([2, 16], np.uint8), r"shape \(2, 16\), expected \[b, 17\]"),
        (GREY, np.uint8(3), "shape"),
        (SPECS["continuous"], ALL_LEVELS, "expected floats"),
    ],
)
def test_values_that_the_spec_does_not_describe_are_refused(spec, x, match):
    for function in (lambda: prepare(spec, jax.random.key(0), x), lambda: intensities(spec, x)):
        with pytest.raises(ValueError, match=match):
            jax.eval_shape(function)


# --- flips and moves -------------------------------------------------------------------------------------------------


def test_flips_turn_about_half_of_the_images_and_nothing_else():
    x = np.arange(1000 * 12, dtype=np.int32).reshape(1000, 3, 4, 1)
    found = np.asarray(data.augment(jax.random.key(0), x, flip=True))
    turned = [np.array_equal(a, b[:, ::-1]) for a, b in zip(found, x, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(found, x, strict=True)]
    assert np.all(np.logical_xor(turned, kept))
    assert abs(np.mean(turned) - 0.5) < 4 * 0.5 / 1000**0.5


def test_crops_move_each_image_by_its_own_whole_pixels():
    x = np.zeros((2000, 7, 7, 1), np.uint8)
    x[:, 3, 3] = 1
    found = np.asarray(data.augment(jax.random.key(0), x, crop=2))
    assert found.dtype == np.uint8 and np.all(found.sum((1, 2, 3)) == 1)
    rows, columns = np.nonzero(found[..., 0])[1:]
    counts = np.bincount((rows - 1) * 5 + columns - 1, minlength=25)
    assert len(counts) == 25 and np.all(np.abs(counts - 80) < 4 * (80 * 24 / 25) ** 0.5 + 1)
    np.testing.assert_array_equal(data.augment(jax.random.key(1), x), x)  # off by default


def test_augmenting_is_pure_and_refuses_what_is_no_image():
    x = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), np.uint8)
    one, other = (data.augment(jax.random.key(3), x, flip=True, crop=1) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"augment: x has shape \(5, 6\), expected images"):
        data.augment(jax.random.key(0), x[..., 0, 0], flip=True)
    with pytest.raises(UserError, match="--crop=6: expected 0 to 5"):
        data.augment(jax.random.key(0), x, crop=6)
