"""Closed-form divergences against quadrature, enumeration, NumPyro and samples; extreme inputs; errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

from vaex import distributions as vd
from vaex import divergences as vv
from vaex.divergences.registry import _RULES

RNG = np.random.default_rng(2)


@pytest.fixture
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def normals(*shape):
    return RNG.normal(size=shape)


MEAN, OTHER, SCALE, OTHER_SCALE = normals(4, 5, 3)
TRIL = np.tril(normals(5, 3, 3)) + 2 * np.eye(3)
FACTOR = normals(5, 3, 2)
CLASSES, OTHER_CLASSES = normals(2, 5, 3, 6)
DIRECTIONS = normals(2, 5, 3)


@functools.cache
def pairs():
    """For every rule of the registry a pair of distributions of batch shape (5,) or ()."""
    gaussians = {
        "Normal": lambda m: vd.Normal(m, log_scale=0.4 * SCALE),
        "MultivariateNormal": lambda m: vd.MultivariateNormal(m, scale_tril=TRIL),
        "LowRankNormal": lambda m: vd.LowRankNormal(m, FACTOR, log_scale=0.4 * SCALE),
        "Laplace": lambda m: vd.Laplace(m, log_scale=0.4 * OTHER_SCALE),
        "ContinuousBernoulli": lambda m: vd.ContinuousBernoulli(3 * m),
    }
    found = {}
    for q, make_q in gaussians.items():
        for p, make_p in gaussians.items():
            if p != "ContinuousBernoulli" or q == p:
                found[q, p] = (make_q(MEAN), make_p(OTHER))
    grids = {
        "LevelCategorical": lambda c, m: vd.LevelCategorical(c),
        "DiscretizedLogistic": lambda c, m: vd.DiscretizedLogistic(0.5 + 0.3 * m, log_scale=0.4 * SCALE - 1, levels=6),
    }
    for q, make_q in grids.items():
        for p, make_p in grids.items():
            found[q, p] = (make_q(CLASSES, MEAN), make_p(OTHER_CLASSES, OTHER))
    sphere = {
        "VonMisesFisher": vd.VonMisesFisher(DIRECTIONS[0], np.array([0.1, 1, 3, 8, 20.0])),
        "UniformSphere": vd.UniformSphere(3),
    }
    for q in sphere:
        for p in sphere:
            found[q, p] = (sphere[q], sphere[p])
    found["VonMisesFisher", "VonMisesFisher"] = (sphere["VonMisesFisher"], vd.VonMisesFisher(DIRECTIONS[1], 2.5))
    found["Bernoulli", "Bernoulli"] = (vd.Bernoulli(MEAN), vd.Bernoulli(OTHER))
    found["Categorical", "Categorical"] = (vd.Categorical(CLASSES), vd.Categorical(OTHER_CLASSES))
    found["Independent", "Independent"] = (
        vd.Independent(vd.Normal(CLASSES, log_scale=0.1), 1),
        vd.Independent(vd.Normal(OTHER_CLASSES, log_scale=0.5), 1),
    )
    flow = vd.Transformed(vd.Normal(MEAN, log_scale=0.4 * SCALE), Doubling)
    found["Transformed", "Transformed"] = (flow, dataclasses.replace(flow, base=vd.Normal(OTHER, log_scale=0.1)))
    return found


class Doubling:
    """A flow without parameters of effect."""

    forward = staticmethod(lambda params, z: (2 * z, np.full(z.shape[:-1], 3 * np.log(2.0), np.float32)))
    inverse = staticmethod(lambda params, x: (x / 2, np.full(x.shape[:-1], -3 * np.log(2.0), np.float32)))


def single(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float32), tree)


def test_every_rule_is_tested():
    assert set(pairs()) == {(q.__name__, p.__name__) for q, p in _RULES if q.__module__.startswith("vaex.")}


@pytest.mark.slow
@pytest.mark.parametrize("names", list(pairs()), ids=" || ".join)
def test_closed_form_equals_samples(names):
    """The mean of log q - log p within 5 standard errors; float32 parameters, no implicit promotion."""
    q, p = single(pairs()[names])
    n = 4_000

    @jax.jit
    def program(key, q, p):
        z = q.sample(key, (n, *p.batch_shape[: len(p.batch_shape) - len(q.batch_shape)]))
        same = vv.kl(q, q) if type(q) is type(p) else jnp.zeros(())
        return vv.kl(q, p), same, q.log_prob(z) - p.log_prob(z)

    with jax.numpy_dtype_promotion("strict"):
        closed, same, ratio = program(jax.random.key(0), q, p)
    ratio = np.asarray(ratio, np.float64)
    assert closed.shape == ratio.shape[1:]
    assert np.all(np.abs(ratio.mean(0) - closed) < 5 * ratio.std(0) / n**0.5 + 1e-5)
    assert np.all(np.asarray(closed) > 0) or names == ("UniformSphere", "UniformSphere")
    np.testing.assert_allclose(same, 0.0, atol=1e-5)


def test_of_one_flow_the_divergence_is_that_of_the_bases():
    q, p = single(pairs()["Transformed", "Transformed"])
    q, p = (dataclasses.replace(d, params=np.ones(3, np.float32)) for d in (q, p))
    np.testing.assert_array_equal(vv.kl(q, p), vv.kl(q.base, p.base))
    np.testing.assert_array_equal(
        jax.jit(lambda q, base: vv.kl(q, dataclasses.replace(q, base=base)))(q, p.base), vv.kl(q.base, p.base)
    )
    with pytest.raises(TypeError, match=r"different parameters of their flow .*monte_carlo_kl"):
        vv.kl(q, dataclasses.replace(p, params=2 * q.params))
    with pytest.raises(TypeError, match="different flows; use monte_carlo_kl"):
        vv.kl(q, dataclasses.replace(p, flow=pairs))


@pytest.mark.parametrize("ndims", [0, 1, 2])
def test_axes_taken_by_independent_are_event_axes(ndims):
    q, p = vd.Normal(CLASSES, 1.0, event_ndims=2), vd.Normal(OTHER_CLASSES, 2.0, event_ndims=2)

    def taken(d):
        return vd.Independent(dataclasses.replace(d, event_ndims=2 - ndims), ndims)

    for pair in ((taken(q), p), (q, taken(p)), (taken(q), taken(p))):
        np.testing.assert_allclose(vv.kl(*pair), vv.kl(q, p), rtol=1e-6)
    with pytest.raises(ValueError, match="event shapes"):
        vv.kl(vd.Independent(q, 1), dataclasses.replace(p, event_ndims=1))


INTERVALS = {"Normal": (-12, 12), "Laplace": (-40, 40), "ContinuousBernoulli": (0, 1)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("q", "p"),
    [(a, b) for a in INTERVALS for b in INTERVALS if b != "ContinuousBernoulli" or a == b],
)
def test_scalar_closed_forms_equal_quadrature(q, p, x64):
    """To 1e-8, at scales between 0.2 and 3 and locations inside, at and beyond the ends of [0, 1]."""
    make = {
        "Normal": lambda m, s: vd.Normal(m, log_scale=s, event_ndims=0),
        "Laplace": lambda m, s: vd.Laplace(m, log_scale=s, event_ndims=0),
        "ContinuousBernoulli": lambda m, s: vd.ContinuousBernoulli(4 * m - 2, event_ndims=0),
    }
    m, s, other, other_s = np.array(
        [
            [0.3, 0.0, 0.4, 0.1],
            [0.5, -1.5, 0.52, -0.5],
            [1.3, 0.5, -0.7, 1.0],
            [0.501, -1, 1.0, 0.2],
            [-2.0, 0.3, 1.4, -0.3],
        ]
    ).T
    closed = jax.jit(lambda a, b, c, d: vv.kl(make[q](a, b), make[p](c, d)))(m, s, other, other_s)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    low, high = INTERVALS[q]
    for i in range(len(m)):  # panels that end at the kinks
        ends = np.unique(np.clip(np.concatenate([np.linspace(low, high, 30), [m[i], other[i]]]), low, high))
        width = np.diff(ends)[:, None] / 2
        x = (ends[:-1, None] + width * (1 + nodes)).ravel()
        log_q = np.asarray(make[q](m[i], s[i]).log_prob(x))
        log_p = np.asarray(make[p](other[i], other_s[i]).log_prob(x))
        expected = ((width * weights).ravel() * np.exp(log_q) * (log_q - log_p)).sum()
        np.testing.assert_allclose(closed[i], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_gaussian_pairs_equal_numpyro(x64):
    nd = pytest.importorskip("numpyro.distributions")
    q = nd.MultivariateNormal(MEAN, scale_tril=TRIL)
    other = np.tril(normals(3, 3)) + 2 * np.eye(3)
    p = nd.MultivariateNormal(OTHER, scale_tril=other)
    ours = vv.kl(vd.MultivariateNormal(MEAN, scale_tril=TRIL), vd.MultivariateNormal(OTHER, scale_tril=other))
    np.testing.assert_allclose(ours, nd.kl_divergence(q, p), rtol=1e-10)
    diagonal = nd.kl_divergence(
        nd.Normal(MEAN, np.exp(SCALE)).to_event(1), nd.Normal(OTHER, np.exp(OTHER_SCALE)).to_event(1)
    )
    np.testing.assert_allclose(vv.gaussian_kl(MEAN, SCALE, OTHER, OTHER_SCALE), diagonal, rtol=1e-10)
    np.testing.assert_allclose(
        vv.kl(vd.Normal(MEAN, log_scale=SCALE), vd.Normal(OTHER, log_scale=OTHER_SCALE)), diagonal, rtol=1e-10
    )


def test_gaussian_kl_to_the_standard_normal(x64):
    """By the formula; by the general one; by the full covariance; also where the whole is far below the parts."""
    expected = 0.5 * (MEAN**2 + np.exp(2 * SCALE) - 1 - 2 * SCALE).sum(-1)
    standard = vd.Normal(np.zeros(3), 1.0)
    np.testing.assert_allclose(vv.gaussian_kl(MEAN, SCALE), expected, rtol=1e-12)
    np.testing.assert_allclose(vv.gaussian_kl(MEAN, SCALE, 0.0, 0.0), expected, rtol=1e-12)
    np.testing.assert_allclose(vv.gaussian_kl(MEAN, -0.3), vv.gaussian_kl(MEAN, np.full((5, 3), -0.3)), rtol=1e-12)
    full = vd.MultivariateNormal(MEAN, scale_tril=np.exp(SCALE)[..., None] * np.eye(3))
    np.testing.assert_allclose(vv.kl(full, standard), expected, rtol=1e-12)
    covariance = TRIL @ np.swapaxes(TRIL, -1, -2)
    trace, log_det = np.trace(covariance, axis1=-2, axis2=-1), np.linalg.slogdet(covariance)[1]
    np.testing.assert_allclose(
        vv.kl(vd.MultivariateNormal(MEAN, scale_tril=TRIL), standard),
        0.5 * (trace + (MEAN**2).sum(-1) - 3 - log_det),
        rtol=1e-12,
    )
    tiny = vv.gaussian_kl(jnp.zeros(1, jnp.float32), jnp.full(1, 1e-3, jnp.float32))
    np.testing.assert_allclose(tiny, 1e-6, rtol=2e-3)  # s^2 to leading order


def test_bernoulli_kl_equals_scipy_and_revives_dead_latents(x64):
    p, q = np.meshgrid([0.0, 1e-3, 0.05, 0.5, 1.0], [1e-3, 0.05, 0.7, 0.999])
    expected = [
        [st.entropy([a, 1 - a], [b, 1 - b]) for a, b in zip(x, y, strict=True)] for x, y in zip(p, q, strict=True)
    ]
    np.testing.assert_allclose(vv.bernoulli_kl(p, q), expected, rtol=1e-9, atol=1e-12)
    target, active = np.meshgrid([0.0, 0.05, 1.0], [0.0, 1.0])
    program = jax.jit(
        lambda p, q: jax.vjp(vv.bernoulli_kl, p, q)[1](jnp.ones(p.shape, jnp.promote_types(p.dtype, jnp.float32)))
    )
    for dtype in (jnp.float32, jnp.float64, jnp.bfloat16):
        slopes = program(jnp.asarray(target, dtype), jnp.asarray(active, dtype))
        assert np.isfinite(np.asarray(slopes, np.float64)).all()
        assert np.all(np.asarray(slopes[1], np.float64) * (active - target) >= 0)  # downhill is towards the target
        assert np.all(np.asarray(slopes[1], np.float64)[active == 0][1:] < -1)


LOGITS = np.array([-1e4, -88.0, -1.0, 0.0, 0.3, 1e4])


def corner(name, a, b):
    """Divergences between members of one family whose parameter runs over ``a`` and ``b``."""
    two = jnp.stack([a, -a], -1), jnp.stack([b, -b], -1)
    return {
        "Bernoulli": lambda: vv.kl(vd.Bernoulli(a, 0), vd.Bernoulli(b, 0)),
        "ContinuousBernoulli": lambda: vv.kl(vd.ContinuousBernoulli(a, 0), vd.ContinuousBernoulli(b, 0)),
        "Categorical": lambda: vv.kl(vd.Categorical(two[0], 0), vd.Categorical(two[1], 0)),
        "LevelCategorical": lambda: vv.kl(
            vd.LevelCategorical(two[0], 0), vd.DiscretizedLogistic(b, log_scale=-3.0, levels=2, event_ndims=0)
        ),
        "CB to Laplace": lambda: vv.kl(
            vd.ContinuousBernoulli(a, 0), vd.Laplace(b / 1e4, log_scale=-3.0, event_ndims=0)
        ),
        "CB to Normal": lambda: vv.kl(vd.ContinuousBernoulli(a, 0), vd.Normal(b / 1e4, log_scale=-3.0, event_ndims=0)),
    }[name]()


SCALES = np.array([-20.0, -1.0, 0.0, 20.0])


def scale_corner(name, a, b):
    """The same for Gaussian and Laplace log-scales. (A Cholesky factor of e^-20 has true derivatives beyond float32.)"""
    zero, one = jnp.zeros((*a.shape, 2)), jnp.ones((*a.shape, 2))
    return {
        "gaussian_kl": lambda: vv.gaussian_kl(one, jnp.stack([a, a], -1)),
        "Normal": lambda: vv.kl(vd.Normal(one, log_scale=a[:, None]), vd.Normal(zero, log_scale=b[:, None])),
        "Laplace": lambda: vv.kl(vd.Laplace(one, log_scale=a[:, None]), vd.Laplace(zero, log_scale=b[:, None])),
        "Normal to Laplace": lambda: vv.kl(
            vd.Normal(one, log_scale=a[:, None]), vd.Laplace(zero, log_scale=b[:, None])
        ),
        "Laplace to Normal": lambda: vv.kl(
            vd.Laplace(one, log_scale=a[:, None]), vd.Normal(zero, log_scale=b[:, None])
        ),
        "full": lambda: vv.kl(
            vd.MultivariateNormal(one, scale_tril=jnp.exp(a)[:, None, None] * jnp.eye(2)),
            vd.LowRankNormal(zero, one[..., None], log_scale=b[:, None]),
        ),
        "low rank": lambda: vv.kl(
            vd.LowRankNormal(one, one[..., None], log_scale=a[:, None]),
            vd.MultivariateNormal(zero, scale_tril=jnp.exp(0.5 * b)[:, None, None] * jnp.eye(2)),
        ),
        "Wasserstein": lambda: vv.squared_wasserstein(
            vd.LowRankNormal(one, one[..., None], log_scale=a[:, None]),
            vd.MultivariateNormal(zero, scale_tril=jnp.exp(0.5 * b)[:, None, None] * jnp.eye(2)),
        ),
        "Renyi": lambda: vv.renyi(vd.Normal(one, log_scale=a[:, None]), vd.Normal(zero, log_scale=b[:, None]), 0.5),
        "full Renyi": lambda: vv.renyi(
            vd.MultivariateNormal(one, scale_tril=jnp.exp(a)[:, None, None] * jnp.eye(2)),
            vd.Normal(zero, log_scale=b[:, None]),
            0.5,
        ),
    }[name]()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("Bernoulli", "ContinuousBernoulli", "Categorical", "LevelCategorical", "CB to Laplace", "CB to Normal"),
        *(
            "gaussian_kl",
            "Normal",
            "Laplace",
            "Normal to Laplace",
            "Laplace to Normal",
            "full",
            "low rank",
            "Wasserstein",
        ),
        *("Renyi", "full Renyi"),
    ],
)
def test_values_and_gradients_are_finite_at_extreme_inputs(name):
    discrete = name in ("Bernoulli", "ContinuousBernoulli", "Categorical", "LevelCategorical") or name.startswith("CB")
    function, values = (corner, LOGITS) if discrete else (scale_corner, SCALES)
    a, b = (jnp.asarray(x.ravel(), jnp.float32) for x in np.meshgrid(values, values, indexing="ij"))

    @jax.jit
    def program(a, b):
        value, pullback = jax.vjp(lambda a, b: function(name, a, b), a, b)
        return value, *pullback(jnp.ones_like(value))

    for x in program(a, b):
        bad = np.flatnonzero(~np.isfinite(x))
        assert not len(bad), [(float(a[i]), float(b[i])) for i in bad]
    assert np.all(np.asarray(program(a, b)[0]) > -1e-2 * (1 + np.abs(a) * discrete))


@pytest.mark.slow
def test_von_mises_fisher_kl_gradient_at_high_concentration():
    """d KL / d kappa is kappa A'(kappa) = 1 / kappa for d = 3, not a difference of near equals; none for the direction."""
    k = jnp.array([1e2, 1e3, 1e4, 1e5])

    def divergence(k, mu):
        return vv.kl(vd.VonMisesFisher(mu, k), vd.UniformSphere(3)).sum()

    slope, turn = jax.jit(jax.grad(divergence, (0, 1)))(k, jnp.ones((4, 3)))
    np.testing.assert_allclose(slope, 1 / k, rtol=1e-3)
    assert not np.any(turn)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.3, 0.5, 2.0])
@pytest.mark.parametrize("kind", ["Normal", "MultivariateNormal", "LowRankNormal", "Bernoulli", "Categorical", "Level"])
def test_renyi_equals_its_integral(kind, alpha, x64):
    """By quadrature in one dimension, by enumeration, and for correlated Gaussians by the determinant formula."""
    small = 0.2 * SCALE - 0.5
    if kind == "Normal":
        q, p = vd.Normal(MEAN, log_scale=small, event_ndims=0), vd.Normal(OTHER, log_scale=small + 0.3, event_ndims=0)
        x = np.linspace(-25, 25, 20_001)[:, None, None]
        terms = alpha * q.log_prob(x) + (1 - alpha) * p.log_prob(x)
        expected = np.log(np.exp(terms).sum(0) * (x[1] - x[0])) / (alpha - 1)
    elif kind in ("MultivariateNormal", "LowRankNormal"):
        if kind == "MultivariateNormal":
            q, p = (
                vd.MultivariateNormal(MEAN, scale_tril=TRIL),
                vd.MultivariateNormal(OTHER, scale_tril=1.6 * TRIL[::-1] + np.eye(3)),
            )
        else:
            q, p = (
                vd.LowRankNormal(MEAN, FACTOR, log_scale=small),
                vd.LowRankNormal(OTHER, 1.5 * FACTOR, log_scale=small + 0.5),
            )
        a, b = np.asarray(q.covariance), np.asarray(p.covariance)
        mixed = (1 - alpha) * a + alpha * b
        log_det = [np.linalg.slogdet(m)[1] for m in (a, b, mixed)]
        shift = MEAN - OTHER
        quadratic = np.einsum("bi,bi->b", shift, np.linalg.solve(mixed, shift[..., None])[..., 0])
        gap = log_det[2] - (1 - alpha) * log_det[0] - alpha * log_det[1]
        expected = 0.5 * alpha * quadratic - gap / (2 * (alpha - 1))
        expected = np.where(np.linalg.eigvalsh(mixed)[..., 0] > 0, expected, np.inf)
    elif kind == "Bernoulli":
        q, p = vd.Bernoulli(MEAN), vd.Bernoulli(OTHER)
        a, b = np.asarray(q.mean), np.asarray(p.mean)
        integral = a**alpha * b ** (1 - alpha) + (1 - a) ** alpha * (1 - b) ** (1 - alpha)
        expected = np.log(integral).sum(-1) / (alpha - 1)
    else:
        make = vd.Categorical if kind == "Categorical" else vd.LevelCategorical
        q, p = make(CLASSES), make(OTHER_CLASSES)
        integral = np.asarray(q.probabilities) ** alpha * np.asarray(p.probabilities) ** (1 - alpha)
        expected = np.log(integral.sum(-1)).sum(-1) / (alpha - 1)
    found = jax.jit(lambda q, p: vv.renyi(q, p, alpha))(q, p)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    if alpha == 2.0:
        np.testing.assert_allclose(vv.chi_square(q, p), np.expm1(expected), rtol=1e-7)


def test_renyi_brackets_the_kl_and_knows_infinity(x64):
    q, p = vd.Normal(MEAN, log_scale=0.2 * SCALE), vd.Normal(OTHER, log_scale=0.2 * SCALE)
    below, above, exact = jax.jit(lambda q, p: (vv.renyi(q, p, 1 - 1e-5), vv.renyi(q, p, 1 + 1e-5), vv.kl(q, p)))(q, p)
    np.testing.assert_allclose(0.5 * (below + above), exact, rtol=1e-6)
    assert bool(jnp.all(below < above))

    @jax.jit
    def program(log_scale):
        standard, tril = vd.Normal(np.zeros(2), 1.0), jnp.exp(log_scale) * np.eye(2)
        wide = (vd.Normal(np.zeros(2), log_scale=log_scale), vd.MultivariateNormal(np.zeros(2), scale_tril=tril))
        return [(vv.renyi(d, standard, 2.0), vv.renyi(d, standard, 0.9)) for d in wide]

    values, slopes = jax.jit(lambda s: jax.jvp(program, (s,), (jnp.ones(()),)))(0.5)  # 2 / 1 - e^1 is negative
    for (infinite, finite), (slope, _) in zip(values, slopes, strict=True):
        assert infinite == np.inf and np.isfinite(finite) and not np.isnan(slope)


def test_jeffreys_adds_both_directions(x64):
    q, p = vd.Laplace(MEAN, log_scale=SCALE), vd.Laplace(OTHER, log_scale=OTHER_SCALE)
    found = jax.jit(lambda q, p: (vv.jeffreys(q, p), vv.jeffreys(p, q), vv.kl(q, p) + vv.kl(p, q)))(q, p)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-12)
    np.testing.assert_allclose(found[1], found[2], rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: vv.kl(vd.Bernoulli(jnp.zeros(2)), vd.Normal(jnp.zeros(2), 1.0)),
            TypeError,
            r"monte_carlo_kl\(key, q, p",
        ),
        (lambda: vv.kl(vd.Normal(jnp.zeros(2), 1.0), vd.Normal(jnp.zeros(3), 1.0)), ValueError, "event shapes"),
        (
            lambda: vv.kl(vd.Normal(jnp.zeros((2, 3)), 1.0, event_ndims=2), vd.Normal(jnp.zeros((2, 3)), 1.0)),
            ValueError,
            "set event_ndims",
        ),
        (
            lambda: vv.kl(vd.Normal(jnp.zeros((2, 3)), 1.0), vd.Normal(jnp.zeros((4, 3)), 1.0)),
            ValueError,
            "batch shapes",
        ),
        (
            lambda: vv.kl(vd.Categorical(jnp.zeros((1, 3))), vd.Categorical(jnp.zeros((1, 4)))),
            ValueError,
            "3 classes or levels and p has 4",
        ),
        (lambda: vv.gaussian_kl(jnp.zeros((3, 2)), jnp.zeros((3, 1))), ValueError, "keep the latent axis last"),
        (lambda: vv.gaussian_kl(jnp.zeros(()), jnp.zeros(())), ValueError, "expected .* with one d"),
        (lambda: vv.gaussian_kl(jnp.zeros(2), jnp.zeros(2), jnp.zeros(2)), ValueError, "other_log_scale is missing"),
        (lambda: vv.bernoulli_kl(jnp.zeros(2), jnp.zeros(3)), ValueError, "average q over the batch"),
        (lambda: vv.renyi(vd.Bernoulli(jnp.zeros(2)), vd.Bernoulli(jnp.zeros(2)), 1), ValueError, "alpha is 1"),
        (
            lambda: vv.renyi(vd.Laplace(jnp.zeros(2), 1.0), vd.Laplace(jnp.zeros(2), 1.0), 2.0),
            TypeError,
            "monte_carlo_renyi",
        ),
        (
            lambda: vv.squared_wasserstein(vd.Delta(jnp.zeros(2)), vd.Delta(jnp.zeros(2))),
            TypeError,
            "sliced_wasserstein",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_refused_with_a_remedy(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_dtypes(x64):
    """bfloat16 in, float32 out; float64 stays."""
    for dtype, out in ((jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float32), (jnp.float64, jnp.float64)):
        mean = jax.ShapeDtypeStruct((2, 3), dtype)
        tril = jax.ShapeDtypeStruct((3, 3), dtype)
        for call in (
            lambda m, l: vv.gaussian_kl(m, m),
            lambda m, l: vv.kl(vd.Bernoulli(m), vd.Bernoulli(-m)),
            lambda m, l: vv.kl(vd.MultivariateNormal(m, scale_tril=l), vd.Normal(m, log_scale=m)),
            lambda m, l: vv.mmd(m, m),
            lambda m, l: vv.total_correlation(m, m, m, 5),
            lambda m, l: vv.dip_i_penalty(m, off_diagonal=1.0, diagonal=1.0),
            lambda m, l: vv.monte_carlo_kl(jax.random.key(0), vd.Normal(m, log_scale=m), vd.Normal(m, log_scale=m), 2),
        ):
            assert jax.eval_shape(call, mean, tril).dtype == out
    half = vv.gaussian_kl(jnp.full((1, 500), 1.0, jnp.bfloat16), jnp.zeros((1, 500), jnp.bfloat16))
    np.testing.assert_allclose(half, 250.0, rtol=1e-6)  # bfloat16 itself would stop at 256 in steps of 2
