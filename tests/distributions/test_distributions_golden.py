"""Densities against SciPy, NumPyro, quadrature and enumeration, in float64; samples against their distribution functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats as st

from vaex import distributions as vd

pytestmark = pytest.mark.optimised

RNG = np.random.default_rng(1)
M, S, X = RNG.normal(size=(3, 5, 3))
TRIL = np.linalg.cholesky(np.cov(RNG.normal(size=(3, 9))))
FACTOR = RNG.normal(size=(5, 3, 2))
CLASSES = RNG.normal(size=(5, 3, 4))
INDEX = RNG.integers(4, size=(5, 3))
BITS = RNG.integers(2, size=(5, 3)).astype(float)
LEAST_P = 1e-4  # of a goodness-of-fit test at a fixed key


@pytest.fixture(autouse=True, scope="module")
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def log_prob(make, value, *arguments):
    """Compiled, on arguments of float64."""
    return np.asarray(jax.jit(lambda value, *a: make(*a).log_prob(value))(value, *arguments))


def full_normal(loc, scale_tril):
    return vd.MultivariateNormal(loc, scale_tril=scale_tril)


def low_rank_normal(loc, log_scale, cov_factor):
    return vd.LowRankNormal(loc, cov_factor, log_scale=log_scale)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("make", "arguments", "value", "expected"),
    [
        (vd.Normal, (M, np.exp(S)), X, st.norm.logpdf(X, M, np.exp(S)).sum(-1)),
        (vd.Laplace, (M, np.exp(S)), X, st.laplace.logpdf(X, M, np.exp(S)).sum(-1)),
        (
            full_normal,
            (M, TRIL),
            X,
            [st.multivariate_normal.logpdf(x, m, TRIL @ TRIL.T) for x, m in zip(X, M, strict=True)],
        ),
        (
            low_rank_normal,
            (M, S, FACTOR),
            X,
            [
                st.multivariate_normal.logpdf(x, m, np.diag(np.exp(2 * s)) + f @ f.T)
                for x, m, s, f in zip(X, M, S, FACTOR, strict=True)
            ],
        ),
        (vd.Bernoulli, (M,), BITS, st.bernoulli.logpmf(BITS, sigmoid(M)).sum(-1)),
        (
            vd.Categorical,
            (CLASSES,),
            INDEX,
            np.log(
                np.take_along_axis(np.exp(CLASSES) / np.exp(CLASSES).sum(-1, keepdims=True), INDEX[..., None], -1)
            ).sum((-1, -2)),
        ),
    ],
    ids=["Normal", "Laplace", "MultivariateNormal", "LowRankNormal", "Bernoulli", "Categorical"],
)
def test_density_equals_scipy(make, arguments, value, expected):
    np.testing.assert_allclose(log_prob(make, value, *arguments), expected, rtol=1e-11)


@pytest.mark.slow
def test_densities_equal_numpyro():
    nd = pytest.importorskip("numpyro.distributions")
    tau = 0.6
    relaxed = sigmoid(X)
    pairs = [
        (vd.RelaxedBernoulli(M, tau), nd.RelaxedBernoulliLogits(tau, M).to_event(1), relaxed),
        (vd.Mixture(M, vd.Normal(CLASSES[..., :2], log_scale=0.3)), _numpyro_mixture(nd), X[:, :2]),
        (vd.LowRankNormal(M, FACTOR, log_scale=S), nd.LowRankMultivariateNormal(M, FACTOR, np.exp(2 * S)), X),
        (vd.LevelCategorical(CLASSES), nd.Categorical(logits=CLASSES).to_event(1), INDEX / 3),
    ]
    for ours, theirs, value in pairs:
        other = INDEX if isinstance(ours, vd.LevelCategorical) else value
        found, expected = jax.jit(lambda x, y, ours=ours, theirs=theirs: (ours.log_prob(x), theirs.log_prob(y)))(
            value, other
        )
        np.testing.assert_allclose(found, expected, rtol=1e-10)
        assert theirs.batch_shape == ours.batch_shape


def _numpyro_mixture(nd):
    components = nd.Normal(CLASSES[..., :2], np.exp(0.3)).to_event(1)
    return nd.MixtureSameFamily(nd.Categorical(logits=M), components)


def test_bernoulli_derivatives_are_right_at_logit_zero():
    """A network starts there: through |l| the second derivative would be 0."""
    x = jnp.array([1.0, 0.0, 0.3])

    @jax.jit
    def program(l):
        slope, curvature = jax.jvp(jax.grad(lambda l: vd.bernoulli_log_prob(l, x)), (l,), (jnp.ones(3),))
        return slope, curvature, jax.jvp(jax.grad(lambda l: vd.Bernoulli(l).entropy()), (l,), (jnp.ones(3),))[1]

    slope, curvature, entropy = program(jnp.zeros(3))
    np.testing.assert_allclose(slope, [0.5, -0.5, -0.2])
    np.testing.assert_allclose(curvature, -0.25)
    np.testing.assert_allclose(entropy, -0.25)


def test_bernoulli_log_prob_takes_integers_and_confident_answers():
    logits = jnp.array([[1e4, -1e4, 40.0]], jnp.float32)
    right = jnp.array([[1, 0, 1]], jnp.uint8)
    np.testing.assert_allclose(vd.bernoulli_log_prob(logits, right), [-np.exp(-40.0)], rtol=1e-5)
    np.testing.assert_allclose(vd.bernoulli_log_prob(logits, 1 - right, event_ndims=2), -20_040.0, rtol=1e-6)


LOGITS = np.array([-1e4, -30.0, -1.01, -0.99, -0.51, -0.49, -1e-3, -1e-9, 0.0, 1e-6, 0.3, 0.499, 0.501, 1.0, 5.0, 1e4])


def continuous_bernoulli_oracle(logit):
    """Log-normaliser, mean, variance and entropy by quadrature, from the end where the mass is."""
    a = abs(logit)
    middle = min(1.0, 50 / max(a, 50))

    def integral(n, lo, hi):
        return (
            scipy.integrate.quad(lambda t: t**n * np.exp(-a * t), lo, hi, epsabs=0, epsrel=1e-13)[0] if hi > lo else 0.0
        )

    moments = [integral(n, 0.0, middle) + integral(n, middle, 1.0) for n in range(3)]
    mean, square = moments[1] / moments[0], moments[2] / moments[0]
    entropy = a * mean + np.log(moments[0])
    return np.log(moments[0]), (mean if logit <= 0 else 1 - mean), square - mean**2, entropy


def test_continuous_bernoulli_equals_quadrature():
    d = vd.ContinuousBernoulli(LOGITS, event_ndims=0)
    oracle = np.array([continuous_bernoulli_oracle(l) for l in LOGITS]).T
    ends = jax.jit(lambda d: (d.log_prob(jnp.zeros(())), d.log_prob(jnp.ones(())), d.mean, d.variance, d.entropy()))(d)
    near = np.where(LOGITS > 0, ends[1], ends[0])  # log-density at the end where the mass is
    np.testing.assert_allclose(near, -oracle[0], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(
        np.where(LOGITS > 0, ends[0], ends[1]), -np.abs(LOGITS) - oracle[0], rtol=1e-10, atol=1e-14
    )
    np.testing.assert_allclose(ends[2], oracle[1], rtol=1e-10)
    np.testing.assert_allclose(ends[3], oracle[2], rtol=1e-7)
    np.testing.assert_allclose(ends[4], oracle[3], rtol=1e-9, atol=1e-13)


@pytest.mark.slow
def test_continuous_bernoulli_keeps_its_digits_in_float32():
    """Where the textbook form log(2 atanh(1 - 2p) / (1 - 2p)) has lost them all: values and slopes against float64."""
    logits = np.concatenate([LOGITS, -LOGITS[9:14], [1e-4, 1e-2, 88.0, -200.0]])

    @jax.jit
    def facts(l, u):
        def one(l, u):
            d = vd.ContinuousBernoulli(l, event_ndims=0)
            return d.log_prob(u), d.mean, d.entropy()

        return [f(l, u) for f in (jax.vmap(one), jax.vmap(jax.jacfwd(one)))]

    small = facts(jnp.asarray(logits, jnp.float32), jnp.full(logits.shape, 0.25, jnp.float32))
    exact = facts(jnp.asarray(np.float32(logits), jnp.float64), jnp.full(logits.shape, 0.25))
    for a, b in zip(jax.tree.leaves(small), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("logit", [-1e4, -3.0, -0.4, 0.0, 0.2, 0.6, 40.0])
def test_continuous_bernoulli_samples(logit):
    """Uniform after the distribution function; the gradient is that of the quantile function."""
    key = jax.random.key(5)

    def sample(l):
        return vd.ContinuousBernoulli(l, event_ndims=0).sample(key, (2000,))

    x, slope = jax.jit(lambda l: jax.jvp(sample, (l,), (jnp.ones(()),)))(jnp.asarray(logit))
    x, slope = np.asarray(x), np.asarray(slope)
    if abs(logit) < 1e-6:
        cdf, expected = x, x * (1 - x) / 2
    else:
        a = -abs(logit)
        y = x if logit < 0 else 1 - x
        cdf = np.expm1(a * y) / np.expm1(a)
        # dF/dl = (y e^(ay) (e^a - 1) - (e^(ay) - 1) e^a) / (e^a - 1)^2;  f = a e^(ay) / (e^a - 1)
        gradient = (y * np.exp(a * y) * np.expm1(a) - np.expm1(a * y) * np.exp(a)) / np.expm1(a) ** 2
        expected = -gradient / (a * np.exp(a * y) / np.expm1(a))
    assert st.kstest(cdf, "uniform").pvalue > LEAST_P
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [2, 3, 256])
def test_discretized_logistic_is_a_distribution_over_the_grid(levels):
    """Sums to one at any location and scale, in float32 too; equals differences of the distribution function."""
    mean = np.array([-3.0, 0.0, 0.31, 0.5, 1.0, 7.0])
    log_scale = np.array([-20.0, -7.0, -3.0, -1.0, 2.0, 20.0])
    mean, log_scale = (x.ravel() for x in np.meshgrid(mean, log_scale))
    grid = np.arange(levels) / (levels - 1)

    def table(mean, log_scale, grid):
        d = vd.DiscretizedLogistic(mean, log_scale=log_scale, levels=levels, event_ndims=0)
        return d.log_prob(grid[:, None]), d.mean, d.variance, d.entropy(), d.mode

    wide = jax.jit(table)(mean, log_scale, grid)
    single = jax.jit(lambda *a: table(*a)[0])(*(jnp.asarray(x, jnp.float32) for x in (mean, log_scale, grid)))
    probability = np.exp(np.asarray(wide[0]))
    np.testing.assert_allclose(probability.sum(0), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.exp(np.asarray(single, np.float64)).sum(0), 1.0, rtol=2e-5)
    edges = np.concatenate([[-np.inf], (np.arange(levels - 1) + 0.5) / (levels - 1), [np.inf]])[:, None]
    scaled = (edges - mean) / np.exp(log_scale)
    exact = np.where(
        scaled[:-1] > 0,
        st.logistic.sf(scaled[:-1]) - st.logistic.sf(scaled[1:]),
        np.diff(st.logistic.cdf(scaled), axis=0),
    )
    np.testing.assert_allclose(probability, exact, rtol=1e-6, atol=1e-13)
    expectation = (probability * grid[:, None]).sum(0)
    np.testing.assert_allclose(wide[1], expectation, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(
        wide[2], (probability * (grid[:, None] - expectation) ** 2).sum(0), rtol=1e-8, atol=1e-14
    )
    np.testing.assert_allclose(wide[3], st.entropy(probability), rtol=1e-9, atol=1e-12)
    mode = np.take_along_axis(probability, np.round(np.asarray(wide[4]) * (levels - 1)).astype(int)[None], 0)[0]
    np.testing.assert_allclose(mode, probability.max(0), rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_discretized_logistic_far_tail_is_linear_not_infinite(dtype):
    """A thousand scales from the location PixelCNN++'s difference of sigmoids is log 0."""
    value = vd.DiscretizedLogistic(jnp.zeros((), dtype), log_scale=jnp.asarray(-6.0, dtype), event_ndims=0).log_prob(
        jnp.asarray(200 / 255, dtype)
    )
    scale = np.exp(-6.0)
    lower = (199.5 / 255) / scale
    np.testing.assert_allclose(value, -lower + np.log(-np.expm1(-1 / 255 / scale)), rtol=1e-6)


def pixelcnn_mixture(x, logits, means, log_scales, coefficients):
    """Salimans et al. 2017 on the scale of [-1, 1], straight from the paper, for three channels."""
    total = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    c = np.tanh(coefficients)
    m = [means[..., 0]]
    m.append(means[..., 1] + c[..., 0] * x[..., 0, None])
    m.append(means[..., 2] + c[..., 1] * x[..., 0, None] + c[..., 2] * x[..., 1, None])
    for i in range(3):
        scale = np.exp(log_scales[..., i])
        upper = sigmoid((x[..., i, None] + 1 / 255 - m[i]) / scale)
        lower = sigmoid((x[..., i, None] - 1 / 255 - m[i]) / scale)
        upper = np.where(x[..., i, None] > 0.999, 1.0, upper)
        lower = np.where(x[..., i, None] < -0.999, 0.0, lower)
        total = total + np.log(upper - lower)
    return np.log(np.exp(total).sum(-1))


def test_mixture_of_logistics_equals_the_papers_formula():
    raw = RNG.normal(size=(2, 2, 3, 4 * 10))
    level = RNG.integers(256, size=(2, 2, 3, 3))
    level[0, 0] = [[0, 255, 0], [255, 0, 128], [0, 0, 255]]
    logits, rest = raw[..., :4], raw[..., 4:].reshape(2, 2, 3, 4, 9)
    expected = pixelcnn_mixture(level / 127.5 - 1, logits, rest[..., :3], rest[..., 3:6], rest[..., 6:]).sum((-1, -2))
    d = vd.DiscretizedLogisticMixture(
        logits, 0.5 + 0.5 * rest[..., :3], log_scale=rest[..., 3:6] - np.log(2), coupling=np.tanh(rest[..., 6:])
    )
    np.testing.assert_allclose(jax.jit(lambda d, x: d.log_prob(x))(d, level / 255), expected, rtol=1e-10)
    read = vd.DiscretizedLogisticMixture.from_parameters(raw, channels=3)
    for field in ("logits", "loc", "coupling"):
        np.testing.assert_allclose(getattr(read, field), getattr(d, field), rtol=1e-12)
    np.testing.assert_allclose(read.log_scale, np.logaddexp(rest[..., 3:6] + 7, 0) - 7 - np.log(2), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_mixture_of_logistics_sums_to_one_and_samples_itself(channels):
    """All images of one pixel enumerated; samples tested against them by chi-square."""
    levels, n = 4, 20_000
    raw = RNG.normal(size=2 * vd.DiscretizedLogisticMixture.num_parameters(channels))
    grids = np.meshgrid(*[np.arange(levels)] * channels, indexing="ij")
    every = np.stack(grids, -1).reshape(-1, channels)

    @jax.jit
    def program(key, raw):
        d = vd.DiscretizedLogisticMixture.from_parameters(raw, channels=channels, levels=levels, event_ndims=1)
        return d.log_prob(every / (levels - 1)), d.sample(key, (n,))

    table, sample = program(jax.random.key(2), raw)
    probability = np.exp(np.asarray(table))
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-12)
    index = np.round(np.asarray(sample) * (levels - 1)).astype(int) @ levels ** np.arange(channels)[::-1]
    assert st.chisquare(np.bincount(index, minlength=levels**channels), n * probability).pvalue > LEAST_P


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
def test_relaxed_densities_integrate_to_one(temperature):
    """One-hot over the triangle of three classes, binary over the interval; logarithmic coordinates by change of variables."""
    logits = np.array([0.3, -0.5, 0.8])
    nodes, weights = np.polynomial.legendre.leggauss(320)
    y, dy = 45 * nodes, 45 * weights  # logits of the first coordinate, and of the second in what is left
    left, right = sigmoid(y), sigmoid(-y)
    a, b = np.meshgrid(np.arange(len(y)), np.arange(len(y)), indexing="ij")
    x = np.stack([left[a], right[a] * left[b], right[a] * right[b]], -1)
    jacobian = np.outer(left * right * dy, left * right * dy) * right[a]
    density = np.exp(log_prob(vd.RelaxedOneHot, x, logits, np.asarray(temperature)))
    np.testing.assert_allclose((density * jacobian).sum(), 1.0, rtol=1e-6)
    logs = log_prob(vd.LogRelaxedOneHot, np.log(x), logits, np.asarray(temperature))
    np.testing.assert_allclose(logs - np.log(x).sum(-1), np.log(density), rtol=1e-9, atol=1e-9)
    binary = functools.partial(vd.LogitRelaxedBernoulli, event_ndims=0)
    np.testing.assert_allclose(
        (np.exp(log_prob(binary, y, np.asarray(0.7), np.asarray(temperature))) * dy).sum(), 1.0, rtol=1e-6
    )


def test_relaxed_samples_choose_classes_like_the_categorical():
    """The largest coordinate is the class of the underlying Gumbel maximum, at any temperature."""
    logits = np.array([0.3, -0.5, 0.8])
    n = 20_000
    choice = jax.jit(lambda key: jnp.argmax(vd.RelaxedOneHot(logits, 0.3).sample(key, (n,)), -1))(jax.random.key(4))
    expected = n * np.exp(logits) / np.exp(logits).sum()
    assert st.chisquare(np.bincount(choice, minlength=3), expected).pvalue > LEAST_P
    x = jax.jit(lambda key: vd.LogitRelaxedBernoulli(0.7, 0.5, event_ndims=0).sample(key, (n,)))(jax.random.key(5))
    assert st.kstest(x, st.logistic(1.4, 2.0).cdf).pvalue > LEAST_P


def test_transformed_changes_variables():
    """exp of a normal is SciPy's lognormal; both ways of getting the density agree."""

    class Exp:
        forward = staticmethod(lambda params, z: (jnp.exp(params * z), jnp.sum(params * z, -1) + jnp.log(params)))
        inverse = staticmethod(lambda params, x: (jnp.log(x) / params, -jnp.sum(jnp.log(x), -1) - jnp.log(params)))

    d = vd.Transformed(vd.Normal(np.zeros(1), 1.0), Exp, jnp.asarray(0.7))
    x, joint = d.sample_and_log_prob(jax.random.key(0), (9,))
    np.testing.assert_allclose(d.log_prob(x), st.lognorm(0.7).logpdf(x[:, 0]), rtol=1e-12)
    np.testing.assert_allclose(joint, d.log_prob(x), rtol=1e-12)


def test_low_rank_survives_what_woodbury_does_not():
    """Parallel columns a million times the diagonal: in float32 the capacitance matrix is singular."""
    direction = np.array([1.0, 1.0, 0.5])
    arguments = (np.zeros(3), np.full(3, -14.0), np.stack([direction, direction], -1))
    noise, length = np.exp(-28.0), direction @ direction  # variances across and along the direction
    square = length / (noise + 2 * length)
    exact = -0.5 * (square + 3 * np.log(2 * np.pi) - 3 * 28 + np.log1p(2 * length / noise))
    value = direction
    np.testing.assert_allclose(log_prob(low_rank_normal, value, *arguments), exact, rtol=1e-4)
    single = log_prob(low_rank_normal, np.float32(value), *map(np.float32, arguments))
    np.testing.assert_allclose(single, exact, rtol=0.1)


def test_multivariate_normal_solves_once_for_all_samples():
    """Shared, batched and broadcast factors give the same density."""
    x = RNG.normal(size=(7, 5, 3))
    batched = np.broadcast_to(TRIL, (5, 3, 3))
    expected = st.multivariate_normal(cov=TRIL @ TRIL.T).logpdf(x - M)
    np.testing.assert_allclose(log_prob(full_normal, x, M, TRIL), expected, rtol=1e-11)
    np.testing.assert_allclose(log_prob(full_normal, x, M, batched), expected, rtol=1e-11)
    np.testing.assert_allclose(log_prob(full_normal, x[:, :1], M, batched)[:, 0], expected_first(x), rtol=1e-11)
    np.testing.assert_allclose(
        vd.MultivariateNormal(M, scale_tril=TRIL + np.triu(np.ones((3, 3)), 1)).covariance[0], TRIL @ TRIL.T
    )


def expected_first(x):
    return st.multivariate_normal(cov=TRIL @ TRIL.T).logpdf(x[:, 0] - M[0])


def test_reparameterize_is_the_normal_sample():
    key = jax.random.key(3)
    x = vd.reparameterize(key, jnp.asarray(M), jnp.asarray(S))
    noise = (x - M) / np.exp(S)
    np.testing.assert_allclose(x, vd.Normal(M, log_scale=S).sample(key), rtol=1e-12)
    slope = jax.grad(lambda m, s: vd.reparameterize(key, m, s).sum(), (0, 1))(jnp.asarray(M), jnp.asarray(S))
    np.testing.assert_allclose(slope[0], 1.0)
    np.testing.assert_allclose(slope[1], np.exp(S) * noise, rtol=1e-10)
