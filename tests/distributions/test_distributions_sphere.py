"""The sphere and the Poincaré ball: normalisers by quadrature, samples by their laws, gradients by their exact values."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats as st

from vaex import distributions as vd

LEAST_P = 1e-4
DIMENSIONS = [2, 3, 10, 100]
CONCENTRATIONS = np.array([0.0, 1e-4, 0.1, 1.0, 3.0, 30.0, 300.0, 1e4])


@pytest.fixture
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def cosine_integral(d, k, power=0, upper=None):
    """Integral of (1 - cos t)^power e^(k (cos t - 1)) sin(t)^(d-2), over [0, upper], by substituting the peak away."""
    width = 1.0 / np.sqrt(k / 40 + 1)  # beyond 12 widths the integrand has vanished or the interval has ended
    points = np.unique(
        np.clip(np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]) * width, 0, np.pi if upper is None else upper)
    )
    points = np.append(points, np.pi if upper is None else upper)

    def integrand(t):
        gap = 2 * np.sin(t / 2) ** 2
        return gap**power * np.exp(-k * gap) * np.sin(t) ** (d - 2)

    return sum(scipy.integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-12)[0] for a, b in itertools.pairwise(points))


def direction(d, k):
    return jnp.broadcast_to(jnp.eye(d, dtype=k.dtype)[0], (*jnp.shape(k), d))


@pytest.mark.slow
@pytest.mark.parametrize("d", DIMENSIONS)
def test_von_mises_fisher_normaliser_equals_quadrature(d, x64):
    """To 1e-9 in float64 and 1e-4 nats in float32, with mean length, its complement, entropy and their slopes."""

    @jax.jit
    def facts(k):
        def one(k):
            mu = jnp.eye(d, dtype=k.dtype)[0]
            dist = vd.VonMisesFisher(mu, k)
            return dist.log_prob(mu), dist.mean[0], dist.entropy()

        (peak, mean, entropy), (peak_slope, _, entropy_slope) = jax.vmap(
            lambda k: jax.jvp(one, (k,), (jnp.ones_like(k),))
        )(k)
        return peak, mean, entropy, peak_slope, entropy_slope

    moments = np.array([[cosine_integral(d, k, n) for n in range(3)] for k in CONCENTRATIONS])
    area = np.log(2) + (d - 1) / 2 * np.log(np.pi) - scipy.special.gammaln((d - 1) / 2)  # of the sphere of one less
    gap, square = moments[:, 1] / moments[:, 0], moments[:, 2] / moments[:, 0]
    peak = -np.log(moments[:, 0]) - area
    expected = (peak, 1 - gap, -peak + CONCENTRATIONS * gap, gap, -CONCENTRATIONS * (square - gap**2))
    wide = facts(jnp.asarray(CONCENTRATIONS))
    exact = facts(jnp.asarray(np.float32(CONCENTRATIONS), jnp.float64))
    single = facts(jnp.asarray(CONCENTRATIONS, jnp.float32)) if d == 3 else ()
    for found, value in zip(wide, expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-7, atol=1e-9)
    for found, value in zip(single, exact, strict=False):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, value, rtol=2e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("d", DIMENSIONS)
def test_von_mises_fisher_variance_equals_quadrature(d, x64):
    mu = np.zeros(d)
    mu[:2] = 0.6, 0.8
    k = np.array([0.0, 1e-5, 0.7, 25.0, 2_000.0])
    moments = np.array([[cosine_integral(d, one, n) for n in range(3)] for one in k])
    gap, square = moments[:, 1] / moments[:, 0], moments[:, 2] / moments[:, 0]
    along, across = square - gap**2, (2 * gap - square) / (d - 1)
    expected = across[:, None] * (1 - mu**2) + along[:, None] * mu**2
    for dtype, tolerance in ((jnp.float64, 1e-7), (jnp.float32, 1e-4)):
        found = vd.VonMisesFisher(jnp.tile(jnp.asarray(mu, dtype), (len(k), 1)), jnp.asarray(k, dtype)).variance
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 3, 10])
def test_von_mises_fisher_equals_scipy(d, x64):
    rng = np.random.default_rng(d)
    mu, x = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in rng.normal(size=(2, 6, d)))
    for k in (0.5, 20.0):
        expected = [st.vonmises_fisher(m, k).logpdf(y) for m, y in zip(mu, x, strict=True)]
        np.testing.assert_allclose(vd.VonMisesFisher(3.0 * mu, k).log_prob(x), expected, rtol=1e-10)
        np.testing.assert_allclose(
            vd.VonMisesFisher(mu, k).entropy(), st.vonmises_fisher(mu[0], k).entropy(), rtol=1e-9
        )
    uniform = vd.UniformSphere(d)
    np.testing.assert_allclose(uniform.log_prob(x), vd.VonMisesFisher(mu, 0.0).log_prob(x), rtol=1e-12)
    np.testing.assert_allclose(uniform.entropy(), -uniform.log_prob(x)[0], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("size", [0.0, 1e-30])
def test_von_mises_fisher_without_direction_has_the_first_axis_and_finite_gradients(size):
    zeros, axis = jnp.full(3, size), jnp.array([1.0, 0.0, 0.0])

    def draw(mu):
        return vd.VonMisesFisher(mu, 2.0).sample(jax.random.key(0), (5,))

    np.testing.assert_array_equal(draw(zeros), draw(axis))
    np.testing.assert_array_equal(vd.VonMisesFisher(zeros, 2.0).mode, axis)
    assert np.all(jax.grad(lambda mu: draw(mu)[:, 1].sum())(zeros) == 0)


@pytest.mark.slow
@pytest.mark.parametrize("d", DIMENSIONS)
def test_von_mises_fisher_samples(d):
    """Unit length; mean gap and squared tangent within 5 standard errors of quadrature; tangents uniform."""
    n = 3_000
    k = np.array([0.0, 0.7, 25.0, 2_000.0])
    rng = np.random.default_rng(d)
    mu = rng.normal(size=d)
    mu /= np.linalg.norm(mu)

    @jax.jit
    def draw(key, k):
        return vd.VonMisesFisher(jnp.broadcast_to(jnp.asarray(mu, jnp.float32), (len(k), d)), k).sample(key, (n,))

    x = np.asarray(draw(jax.random.key(d), jnp.asarray(k, jnp.float32)), np.float64)
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1.0, rtol=1e-5)
    gap = 0.5 * np.square(x - mu).sum(-1)
    for i in range(len(k)):
        whole = cosine_integral(d, k[i])
        for power in (1, 2):
            expected, values = cosine_integral(d, k[i], power) / whole, gap[:, i] ** power
            assert abs(values.mean() - expected) < 5 * values.std() / n**0.5, (k[i], power)
        order = np.sort(gap[:, i])[:: n // 10][1:]  # distribution function at some quantiles
        cdf = [cosine_integral(d, k[i], upper=2 * np.arcsin(np.sqrt(g / 2))) / whole for g in order]
        rank = np.searchsorted(np.sort(gap[:, i]), order) / n
        assert np.abs(np.array(cdf) - rank).max() < 2.2 / n**0.5  # Kolmogorov's bound at 1e-4
    tangent = x[:, 1] - (x[:, 1] @ mu)[:, None] * mu
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    assert np.all(np.abs(tangent.mean(0)) < 5 * tangent.std(0) / n**0.5 + 1e-6)
    assert abs(tangent @ mu).max() < 1e-4


def test_samples_of_a_batch_have_unit_length_in_any_number():
    """48,000 numbers: beyond 32,768 some sums of products came out wrong on CPU (see ``inner`` of the distributions)."""
    mu = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    x = jax.jit(lambda key: vd.VonMisesFisher(mu, 5.0).sample(key, (2000,)))(jax.random.key(0))
    np.testing.assert_allclose(np.linalg.norm(np.asarray(x, np.float64), axis=-1), 1.0, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 10])
def test_von_mises_fisher_gradients_are_those_of_the_mean(d):
    """The average pathwise gradient of mu'.x equals the exact one, in concentration and direction, within 5 standard errors."""
    n, k = 4_000, 6.0
    probe = jnp.asarray(np.random.default_rng(d).normal(size=d), jnp.float32)
    mu = jnp.eye(d)[1]

    @jax.jit
    def gradients(key):
        def value(key, mu, k):
            return vd.VonMisesFisher(mu, k).sample(key) @ probe

        keys = jax.random.split(key, n)
        sampled = jax.vmap(jax.grad(value, (1, 2)), (0, None, None))(keys, mu, jnp.asarray(k))
        exact = jax.grad(lambda mu, k: vd.VonMisesFisher(mu, k).mean @ probe, (0, 1))(mu, jnp.asarray(k))
        return sampled, exact

    for sampled, exact in zip(*gradients(jax.random.key(1)), strict=True):
        sampled = np.asarray(sampled, np.float64)
        assert np.all(np.abs(sampled.mean(0) - exact) < 5 * sampled.std(0) / n**0.5 + 1e-5)


def test_von_mises_fisher_angle_slope_is_that_of_the_quantile(x64):
    """In three dimensions the quantile function is known: 1 - cos = -log(1 - u (1 - e^-2k)) / k."""
    k = jnp.array([0.3, 4.0, 100.0, 1e4])

    @jax.jit
    def draw(key, k):
        def gap(k):
            d = vd.VonMisesFisher(direction(3, k), k)
            return 1.0 - d.sample(key, (200,))[..., 0]

        return jax.jvp(gap, (k,), (jnp.ones_like(k),))

    gap, slope = draw(jax.random.key(0), k)
    u = -np.expm1(-k * gap) / -np.expm1(-2 * k)
    decay = np.exp(-2 * k)
    expected = -gap / k + 2 * u * decay / ((1 - u * (1 - decay)) * k)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-12)


def test_a_diverged_concentration_does_not_hang_the_sampler():
    x = jax.jit(lambda k: vd.VonMisesFisher(jnp.ones(3), k).sample(jax.random.key(0)))(jnp.nan)
    assert bool(jnp.all(jnp.isnan(x)))


def test_sphere_log_area():
    for d, area in ((2, 2 * np.pi), (3, 4 * np.pi), (4, 2 * np.pi**2)):
        np.testing.assert_allclose(vd.sphere_log_area(d), np.log(area))


def distance(x, y, c):
    """Hyperbolic distance from its textbook form."""
    square = np.square(x - y).sum(-1)
    return np.arccosh(1 + 2 * c * square / ((1 - c * np.square(x).sum(-1)) * (1 - c * np.square(y).sum(-1)))) / np.sqrt(
        c
    )


@pytest.mark.slow
@pytest.mark.parametrize("c", [0.5, 1.0])
def test_poincare_normal_integrates_to_one(c, x64):
    """Over the disc, in Riemannian volume (2 / (1 - c r^2))^2 r dr dt."""
    radius = 1 / np.sqrt(c)
    nodes, weights = np.polynomial.legendre.leggauss(150)
    rho = 5.0 * (nodes + 1) * radius  # hyperbolic distance from the centre, up to 10
    r, angle = np.tanh(rho * np.sqrt(c) / 2) * radius, np.linspace(0, 2 * np.pi, 200, endpoint=False)
    z = np.stack([np.outer(r, np.cos(angle)), np.outer(r, np.sin(angle))], -1)
    volume = np.sinh(np.sqrt(c) * rho) * radius * 5.0 * radius * weights * 2 * np.pi / len(angle)
    mean = radius * np.array([0.3, -0.4])
    d = vd.PoincareNormal(mean, log_scale=np.log(np.array([0.5, 0.8])), curvature=c)
    np.testing.assert_allclose((np.exp(d.log_prob(z)) * volume[:, None]).sum(), 1.0, rtol=1e-5)


def test_poincare_normal_samples_lie_at_the_right_distances():
    """|v| = distance: with one scale, its square over sigma^2 is chi-square; and the same around any mean."""
    for c in (0.5, 1.0, 2.0):
        radius = 1 / np.sqrt(c)
        mean = radius * np.array([0.2, 0.1, -0.4], np.float32)
        z = jax.jit(
            lambda key, mean=mean, c=c: vd.PoincareNormal(mean, log_scale=-0.7, curvature=c).sample(key, (2_000,))
        )(jax.random.key(7))
        scaled = distance(np.asarray(z, np.float64), np.float64(mean), c) ** 2 / np.exp(-1.4)
        assert st.kstest(scaled, st.chi2(3).cdf).pvalue > LEAST_P


@pytest.mark.slow
def test_poincare_normal_becomes_a_normal_as_curvature_vanishes(x64):
    """Near the origin the metric is 4 times the Euclidean one, so coordinates are half as long."""
    x, mean = np.array([[0.3, -0.2]]), np.array([0.1, 0.25])
    flat = st.norm.logpdf(2 * x, 2 * mean, np.exp(-0.5)).sum()
    np.testing.assert_allclose(vd.PoincareNormal(mean, log_scale=-0.5, curvature=1e-9).log_prob(x)[0], flat, rtol=1e-6)


def test_to_poincare_ball_keeps_distances_to_the_origin(x64):
    x = np.array([[0.3, -0.4], [2.0, 1.0], [0.0, 0.0]])
    for c in (0.5, 1.0):
        z = vd.to_poincare_ball(x, c)
        np.testing.assert_allclose(distance(np.asarray(z), np.zeros(2), c), 2 * np.linalg.norm(x, axis=-1), rtol=1e-10)
    far = vd.to_poincare_ball(jnp.full((2,), 1e6, jnp.float32))
    assert 0.99999 < float(jnp.linalg.norm(far)) < 1


@pytest.mark.slow
def test_poincare_gradients_at_the_mean_are_finite(x64):
    """Where distance and direction are both 0 / 0: the density is smooth there, with curvature -lambda^2 / sigma^2."""
    mean = jnp.array([0.1, 0.2])
    d = vd.PoincareNormal(mean, 1.0)
    slope, curvature = jax.jit(lambda z: (jax.grad(d.log_prob)(z), jax.hessian(d.log_prob)(z)))(mean)
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)
    metric = (2 / (1 - 0.05)) ** 2
    # the wrapping adds -(d - 1) r^2 / 6 to the exponent
    np.testing.assert_allclose(curvature, -metric * (1 + 1 / 3) * np.eye(2), rtol=1e-8, atol=1e-8)
