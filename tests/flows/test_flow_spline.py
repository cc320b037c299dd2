"""The rational-quadratic spline: its shape, its tails, its knots, its inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.flows import rational_quadratic_spline

BOUND = 2.5


def settings(bins=5, scale=1.0, seed=0, shape=()):
    generator = np.random.default_rng(seed)
    return [scale * generator.standard_normal((*shape, size)) for size in (bins, bins, bins - 1)]


def knots(logits):
    """By the definition, with the smallest share of a thousandth."""
    shares = 1e-3 + (1 - 1e-3 * len(logits)) * np.exp(logits) / np.exp(logits).sum()
    return BOUND * (2 * np.concatenate([[0.0], np.cumsum(shares)]) - 1)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.3, 1.0, 10.0])
def test_monotone_with_tails_that_are_the_identity(scale):
    x = np.linspace(-2 * BOUND, 2 * BOUND, 4001)
    with jax.enable_x64(True):
        for seed in range(5):
            value, log_slope = rational_quadratic_spline(*settings(scale=scale, seed=seed), x, bound=BOUND)
            outside = np.abs(x) > BOUND
            np.testing.assert_array_equal(value[outside], x[outside])
            np.testing.assert_array_equal(log_slope[outside], 0.0)
            assert np.all(np.diff(value) > 0)
            assert np.all(np.abs(value[~outside]) <= BOUND * (1 + 1e-15))


def test_values_and_slopes_at_the_knots():
    """The knots map to the knots, where the slopes are those asked for (7 tanh(s / 7) in logs) and 1 at the ends."""
    with jax.enable_x64(True):
        widths, heights, log_slopes = settings()
        value, log_slope = rational_quadratic_spline(widths, heights, log_slopes, knots(widths), bound=BOUND)
        np.testing.assert_allclose(value, knots(heights), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(log_slope, [0.0, *7 * np.tanh(log_slopes / 7), 0.0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("inverse", [False, True])
def test_continuous_with_its_derivative_across_the_knots(inverse):
    with jax.enable_x64(True):
        widths, heights, log_slopes = settings()
        at = knots(heights if inverse else widths)
        sides = [
            rational_quadratic_spline(widths, heights, log_slopes, at + e, bound=BOUND, inverse=inverse)
            for e in (-1e-9, 1e-9)
        ]
        np.testing.assert_allclose(sides[0][0], sides[1][0], atol=1e-7)
        np.testing.assert_allclose(sides[0][1], sides[1][1], atol=1e-6)


def test_the_curve_is_that_of_the_paper():
    """Equation 4 of Durkan et al., bin by bin, in NumPy."""
    widths, heights, log_slopes = settings()
    xs, ys, slopes = knots(widths), knots(heights), np.exp([0.0, *7 * np.tanh(log_slopes / 7), 0.0])
    theta = np.linspace(0.05, 0.95, 7)
    with jax.enable_x64(True):
        for k in range(5):
            s = (ys[k + 1] - ys[k]) / (xs[k + 1] - xs[k])
            top = (ys[k + 1] - ys[k]) * (s * theta**2 + slopes[k] * theta * (1 - theta))
            exact = ys[k] + top / (s + (slopes[k + 1] + slopes[k] - 2 * s) * theta * (1 - theta))
            x = xs[k] + theta * (xs[k + 1] - xs[k])
            value = rational_quadratic_spline(widths, heights, log_slopes, x, bound=BOUND)[0]
            np.testing.assert_allclose(value, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "tolerance"), [(0.3, 1e-13), (1.0, 1e-12), (5.0, 1e-7)])
def test_the_inverse_undoes_it_and_slopes_are_derivatives(scale, tolerance):
    """In float64. Where a bin is far flatter than its ends the slope inside falls to 1e-8: there rounding counts more."""
    with jax.enable_x64(True):
        for seed in range(5):
            arguments = settings(scale=scale, seed=seed)
            x = np.random.default_rng(seed).uniform(-3, 3, 200)
            value, log_slope = rational_quadratic_spline(*arguments, x, bound=BOUND)
            again, back = rational_quadratic_spline(*arguments, value, bound=BOUND, inverse=True)
            np.testing.assert_allclose(again, x, rtol=0, atol=tolerance)
            np.testing.assert_allclose(back, -log_slope, rtol=1e-6, atol=1e4 * tolerance)
            slope = jax.vmap(jax.grad(lambda x, a=arguments: rational_quadratic_spline(*a, x, bound=BOUND)[0]))(x)
            np.testing.assert_allclose(jnp.log(slope), log_slope, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_zero_settings_are_the_identity_and_one_bin_is_enough():
    x = np.linspace(-3, 3, 13, dtype=np.float32)
    for bins in (1, 4):
        value, log_slope = rational_quadratic_spline(np.zeros(bins), np.zeros(bins), np.zeros(bins - 1), x)
        np.testing.assert_allclose(value, x, atol=1e-6)
        np.testing.assert_allclose(log_slope, 0.0, atol=1e-6)


@pytest.mark.parametrize("inverse", [False, True])
def test_extremes_stay_finite_with_their_gradients(inverse):
    """Settings up to 1e6, at the knots and the ends too."""

    @jax.jit
    def program(x, arguments):
        def both(x, arguments):
            value, log_slope = rational_quadratic_spline(*arguments, x, bound=BOUND, inverse=inverse)
            return jnp.sum(value) + jnp.sum(log_slope)

        return jax.value_and_grad(both, (0, 1))(x, arguments)

    for scale in (1.0, 1e2, 1e6):
        arguments = [np.asarray(a, np.float32) for a in settings(scale=scale)]
        x = np.concatenate([[-1e4, -BOUND, 0.0, BOUND, 1e4, 1e-30], knots(arguments[int(inverse)] / scale)])
        for leaf in jax.tree.leaves(program(x.astype(np.float32), arguments)):
            assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
    ("sizes", "bound", "message"),
    [
        ((4, 5, 3), 1.0, r"heights has shape \(5,\), expected 4 values"),
        ((4, 4, 4), 1.0, r"log_slopes has shape \(4,\), expected 3 values"),
        ((1000, 1000, 999), 1.0, "between 1 and 999 bins"),
        ((4, 4, 3), -1.0, "bound is -1.0, expected a positive number"),
    ],
)
def test_wrong_settings_are_refused(sizes, bound, message):
    with pytest.raises(ValueError, match=message):
        rational_quadratic_spline(*map(np.zeros, sizes), np.zeros(7), bound=bound)
