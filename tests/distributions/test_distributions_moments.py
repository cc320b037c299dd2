"""What is called mean and variance is the expectation and its variance: SciPy's, or sums and integrals of the density, in float64.

``test_distributions`` compares the same with samples, for every family.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from scipy import integrate

from vaex import distributions as vd

LOC, SCALE = np.array([-0.4, 0.1, 0.9]), np.array([0.02, 0.3, 2.0])
LOGITS = np.array([-3.0, 0.2, 6.0])
CLASSES = np.array([[0.3, -1.0, 2.0, 0.1, 0.5], [0.0, 0.0, 0.0, 0.0, 0.0], [-9.0, 1.0, 1.0, 1.0, 9.0]])


def levels_moments(log_prob, levels):
    """By enumeration of the grid; ``log_prob`` of values [levels, 1] is [levels, n]."""
    grid = np.arange(levels)[:, None] / (levels - 1)
    p = np.exp(np.asarray(log_prob(jnp.asarray(grid)), np.float64))
    np.testing.assert_allclose(p.sum(0), 1.0, rtol=1e-10)
    mean = (p * grid).sum(0)
    return mean, (p * (grid - mean) ** 2).sum(0)


def density_moments(log_prob, low, high, n):
    """By quadrature of each of n elements' density."""
    evaluate = jax.jit(log_prob)

    def moment(i, power):
        return integrate.quad(lambda x: x**power * np.exp(float(evaluate(jnp.full(n, x))[i])), low, high, limit=200)[0]

    mean = np.array([moment(i, 1) for i in range(n)])
    return mean, np.array([moment(i, 2) for i in range(n)]) - mean**2


def logistic(loc, log_scale, levels=16):
    return vd.DiscretizedLogistic(loc, log_scale=log_scale, levels=levels, event_ndims=0)


def mixture_of(components, logits):
    """Moments by the law of total variance, from components' moments [n, K] that are computed elsewhere."""
    (means, variances), share = components, np.exp(logits) / np.exp(logits).sum()
    mean = means @ share
    return mean, variances @ share + (means**2) @ share - mean**2


def independent_levels():
    d = logistic(jnp.asarray(LOC), np.log(SCALE))
    return vd.Independent(d, 1), levels_moments(d.log_prob, 16)


def logistic_mixture():
    loc = np.stack([LOC, LOC[::-1]], -1)
    d = logistic(jnp.asarray(loc), np.log(SCALE)[:, None] + np.zeros(2))
    flat = logistic(jnp.asarray(loc.ravel()), np.repeat(np.log(SCALE), 2))
    each = [x.reshape(3, 2) for x in levels_moments(flat.log_prob, 16)]
    return vd.Mixture(jnp.array([0.3, -0.5]), d), mixture_of(each, np.array([0.3, -0.5]))


CASES = {
    "Normal": lambda: (vd.Normal(LOC, SCALE), st.norm(LOC, SCALE).stats()),
    "Laplace": lambda: (vd.Laplace(LOC, SCALE), st.laplace(LOC, SCALE).stats()),
    "Bernoulli": lambda: (vd.Bernoulli(LOGITS), st.bernoulli(1 / (1 + np.exp(-LOGITS))).stats()),
    "ContinuousBernoulli": lambda: (
        vd.ContinuousBernoulli(LOGITS),
        density_moments(vd.ContinuousBernoulli(LOGITS, event_ndims=0).log_prob, 0, 1, 3),
    ),
    "LevelCategorical": lambda: (
        vd.LevelCategorical(CLASSES),
        levels_moments(vd.LevelCategorical(jnp.asarray(CLASSES), event_ndims=0).log_prob, 5),
    ),
    "DiscretizedLogistic": lambda: (
        logistic(jnp.asarray(LOC), np.log(SCALE)),
        levels_moments(logistic(jnp.asarray(LOC), np.log(SCALE)).log_prob, 16),
    ),
    "Independent": independent_levels,
    "Mixture of DiscretizedLogistic": logistic_mixture,
    "Mixture of Normal": lambda: (
        vd.Mixture(jnp.array([0.3, -0.5]), vd.Normal(np.stack([LOC, LOC[::-1]], -1), SCALE[:, None], event_ndims=0)),
        mixture_of((np.stack([LOC, LOC[::-1]], -1), np.stack([SCALE**2] * 2, -1)), np.array([0.3, -0.5])),
    ),
    "Delta": lambda: (vd.Delta(LOC), (LOC, 0 * LOC)),
    "MultivariateNormal": lambda: (
        vd.MultivariateNormal(LOC, scale_tril=np.tril(1.0 + np.arange(9.0).reshape(3, 3))),
        (LOC, [1.0, 41.0, 194.0]),
    ),
    "LowRankNormal": lambda: (vd.LowRankNormal(LOC, SCALE[:, None], scale=SCALE), (LOC, 2 * SCALE**2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_mean_and_variance(name):
    with jax.enable_x64(True):
        d, (mean, variance) = CASES[name]()
        np.testing.assert_allclose(d.mean, mean, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(d.variance, variance, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kappa", [0.01, 2.0, 50.0])
def test_moments_of_the_von_mises_fisher_distribution_by_quadrature_over_the_angle(kappa):
    with jax.enable_x64(True):
        d = vd.VonMisesFisher(jnp.array([1.0, 0.0, 0.0]), jnp.asarray(kappa))

        def weigh(t):  # on the sphere in R^3 the cosine is uniform but for this
            return np.exp(kappa * (t - 1))

        norm, first, second = (integrate.quad(lambda t, p=p: t**p * weigh(t), -1, 1)[0] for p in range(3))
        np.testing.assert_allclose(d.mean, [first / norm, 0, 0], rtol=1e-8, atol=1e-12)
        along = second / norm - (first / norm) ** 2
        across = 0.5 * (1 - second / norm)
        np.testing.assert_allclose(d.variance, [along, across, across], rtol=1e-6)


def colour(levels, components=2, seed=0, wide=0.0):
    rng = np.random.default_rng(seed)
    shape = (4, components)
    return vd.DiscretizedLogisticMixture(
        rng.normal(size=shape),
        rng.uniform(-0.3, 1.3, (*shape, 3)),
        log_scale=rng.uniform(-7.0, 0.5, (*shape, 3)) + wide,
        coupling=rng.uniform(-1, 1, (*shape, 3)),
        levels=levels,
        event_ndims=1,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("levels", [4, 9])
def test_the_mean_of_colours_by_enumeration_of_all_of_them(levels, seed):
    """Exact for the first channel, to a quarter of a level for the two after it."""
    with jax.enable_x64(True):
        d = colour(levels, seed=seed)
        grid = np.stack(np.meshgrid(*[np.arange(levels) / (levels - 1)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
        p = np.exp(np.asarray(d.log_prob(jnp.asarray(grid))))
        np.testing.assert_allclose(p.sum(0), 1.0, rtol=1e-8)
        expected = np.einsum("np,nc->pc", p, grid[:, 0])
        np.testing.assert_allclose(d.mean[:, 0], expected[:, 0], rtol=1e-8)
        np.testing.assert_allclose(d.mean, expected, rtol=0, atol=0.25 / (levels - 1))


@pytest.mark.slow
def test_the_mean_of_grey_pixels_is_exact():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        loc, log_scale, logits = (
            rng.uniform(-0.3, 1.3, (4, 2, 1)),
            rng.uniform(-7, 0.5, (4, 2, 1)),
            rng.normal(size=(4, 2)),
        )
        d = vd.DiscretizedLogisticMixture(
            logits, loc, log_scale=log_scale, coupling=np.zeros((4, 2, 0)), levels=256, event_ndims=1
        )
        mean, _ = levels_moments(lambda grid: d.log_prob(jnp.asarray(grid)[:, None]), 256)
        np.testing.assert_allclose(d.mean[:, 0], mean, rtol=1e-8)


def level_shares(loc, scale, levels):
    """Probabilities of the levels [..., levels] of a rounded and clipped logistic variable, by SciPy."""
    edges = (np.arange(levels - 1) + 0.5) / (levels - 1)
    below = st.logistic.cdf((edges - np.asarray(loc)[..., None]) / scale)
    ends = np.zeros((*below.shape[:-1], 1))
    return np.diff(np.concatenate([ends, below, ends + 1], axis=-1), axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [64, 256])
def test_the_mean_of_each_channel_by_enumeration_of_the_ones_before_it(levels):
    """SciPy's probabilities of all levels of the earlier channels; exact for the first channel, to 0.002 for the others."""
    grid = np.arange(levels) / (levels - 1)
    with jax.enable_x64(True):
        d = colour(levels, components=2, seed=5)
        loc, scale, c = np.asarray(d.loc), np.exp(np.asarray(d.log_scale)), np.asarray(d.coupling)
        share = np.exp(np.asarray(d.logits)) / np.exp(np.asarray(d.logits)).sum(-1, keepdims=True)
        expected = np.zeros((len(loc), 3))
        for pixel, k in np.ndindex(*share.shape):
            m, s, (c10, c20, c21) = loc[pixel, k], scale[pixel, k], c[pixel, k]
            first = level_shares(m[0], s[0], levels)
            second = level_shares(m[1] + c10 * (grid - 0.5), s[1], levels)  # [first, second]
            third = m[2] + c20 * (grid[:, None] - 0.5) + c21 * (grid - 0.5)
            means = np.stack([level_shares(row, s[2], levels) @ grid for row in third])
            moments = first @ grid, first @ (second @ grid), first @ np.sum(second * means, axis=1)
            expected[pixel] += share[pixel, k] * np.array(moments)
        np.testing.assert_allclose(d.mean[:, 0], expected[:, 0], rtol=1e-7)
        np.testing.assert_allclose(d.mean, expected, rtol=0, atol=0.002)


@pytest.mark.slow
def test_the_mean_of_eight_bit_colours_is_that_of_samples():
    d = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), colour(256, components=3))
    x = np.asarray(jax.jit(lambda key: d.sample(key, (40_000,)))(jax.random.key(0)), np.float64)
    assert np.all(np.abs(x.mean(0) - d.mean) < 4.5 * x.std(0) / 200 + 0.002)


def test_a_location_is_not_called_a_mean():
    """Beyond [0, 1], where levels end, the two differ; a wrapped normal's location is the Fréchet mean of its points."""
    d = vd.DiscretizedLogistic(jnp.array([1.7]), 0.1)
    np.testing.assert_array_equal(d.loc, np.float32(1.7))
    assert 0.99 < float(d.mean[0]) < 1.0
    assert vd.PoincareNormal(jnp.array([0.4, 0.3]), 1.0).mean is None
