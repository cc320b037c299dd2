"""Statistics of a batch: MMD, total correlation, the KL's decomposition, DIP, Wasserstein; against loops and exact values."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats as st

from vaex import distributions as vd
from vaex import divergences as vv

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True, scope="module")
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def kernel(name, r2, width):
    return np.exp(-r2 / width) if name == "rbf" else width / (width + r2)


@pytest.mark.slow
@pytest.mark.parametrize("scales", [(1.0,), (0.3, 1.0, 4.0)])
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("name", ["rbf", "imq"])
def test_mmd_equals_a_loop(name, unbiased, scales):
    x, y = RNG.normal(size=(5, 3)), RNG.normal(size=(7, 3)) + 0.5

    def mean(a, b, same):
        values = [
            np.mean([kernel(name, ((u - v) ** 2).sum(), 2 * 3 * s**2) for s in scales])
            for (i, u), (j, v) in itertools.product(enumerate(a), enumerate(b))
            if not (same and unbiased and i == j)
        ]
        return np.mean(values)

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    np.testing.assert_allclose(vv.mmd(x, y, kernel=name, scales=scales, unbiased=unbiased), expected, rtol=1e-12)


@pytest.mark.parametrize("unbiased", [True, False])
def test_mmd_some_rows_at_a_time(monkeypatch, unbiased):
    x, y = (jnp.asarray(np.random.default_rng(3).normal(size=shape), jnp.float32) for shape in ((37, 5), (23, 5)))

    def value(x):
        return vv.mmd(x, y, unbiased=unbiased, scales=(0.5, 1.0))

    at_once, gradient = jax.value_and_grad(value)(x)
    monkeypatch.setattr("vaex.divergences.kernel_discrepancy.MOST_DIFFERENCES", 300)
    in_rows, again = jax.value_and_grad(value)(x)
    np.testing.assert_allclose(in_rows, at_once, rtol=1e-4)
    np.testing.assert_allclose(again, gradient, rtol=1e-4, atol=1e-7)
    shapes = str(jax.make_jaxpr(jax.grad(value))(x))
    assert "5,37,37" not in shapes and "5,37,23" not in shapes


@pytest.mark.parametrize("name", ["rbf", "imq"])
def test_mmd_bias_is_as_documented(name):
    """Two batches of one law: the U-statistic averages 0 within 4 standard errors, the V-statistic (1 - E k)(1/n + 1/m)."""
    n, m, runs = 6, 9, 4_000

    @jax.jit
    def program(key):
        def one(key):
            x = jax.random.normal(key, (n + m, 2))
            pair = jax.random.normal(jax.random.fold_in(key, 1), (2, 2))
            k = (vv.rbf_kernel if name == "rbf" else vv.imq_kernel)(jnp.sum((pair[0] - pair[1]) ** 2), 4.0)
            return vv.mmd(x[:n], x[n:], kernel=name), vv.mmd(x[:n], x[n:], kernel=name, unbiased=False), k

        return jax.vmap(one)(jax.random.split(key, runs))

    u, v, k = map(np.asarray, program(jax.random.key(0)))
    assert abs(u.mean()) < 4 * u.std() / runs**0.5
    bias = (1 - k) * (1 / n + 1 / m)
    assert abs(v.mean() - bias.mean()) < 4 * np.hypot(v.std(), bias.std()) / runs**0.5
    assert v.min() >= 0 > u.min()


def test_mmd_of_gaussians_equals_its_closed_form():
    """RBF kernel between N(m, 1) and N(0, 1): E exp(-r^2/C) is known; within 4 standard errors over batches."""
    m, runs, n = np.array([1.0, -0.5]), 400, 20

    @jax.jit
    def program(key):
        z = jax.random.normal(key, (runs, 2 * n, 2))
        return jax.vmap(lambda z: vv.mmd(z[:n] + m, z[n:], kernel="rbf"))(z)

    width = 2.0 * 2
    spread = width / (width + 4)  # of the difference, whose variance is 2 per dimension
    exact = 2 * spread * (1 - np.exp(-(m @ m) / (width + 4)))
    values = np.asarray(program(jax.random.key(1)))
    assert abs(values.mean() - exact) < 4 * values.std() / runs**0.5


def aggregate(z, mean, log_scale):
    """log q(z), sum_j log q(z_j) of the whole data set, by loops."""
    log_q = st.norm.logpdf(z[:, None], mean[None], np.exp(log_scale)[None])
    return scipy.special.logsumexp(log_q.sum(-1), 1) - np.log(len(mean)), (
        scipy.special.logsumexp(log_q, 1) - np.log(len(mean))
    ).sum(-1)


N, D = 6, 2
MEAN, SCALE = RNG.normal(size=(2, N, D))
SCALE = 0.3 * SCALE
Z = MEAN + np.exp(SCALE) * RNG.normal(size=(N, D))


@pytest.mark.slow
def test_the_whole_data_set_as_batch_is_exact():
    joint, marginals = aggregate(Z, MEAN, SCALE)
    found = vv.aggregate_densities(Z, MEAN, SCALE, N)
    np.testing.assert_allclose(found.joint, joint, rtol=1e-10)
    np.testing.assert_allclose(found.marginals, marginals, rtol=1e-10)
    np.testing.assert_allclose(found.conditional, st.norm.logpdf(Z, MEAN, np.exp(SCALE)).sum(-1), rtol=1e-10)
    np.testing.assert_allclose(vv.total_correlation(Z, MEAN, SCALE, N), joint - marginals, rtol=1e-9)


@pytest.mark.parametrize("batch", [2, 3, 4])
def test_stratified_weights_are_unbiased_over_all_batches(batch):
    """Enumerated: averaged over every batch that holds example i, exp(joint) is q(z_i) exactly. Weighted's is not."""
    joint, _ = aggregate(Z, MEAN, SCALE)
    rows = np.array([[0, *others] for others in itertools.combinations(range(1, N), batch - 1)])

    @jax.jit
    @jax.vmap
    def program(z, mean, log_scale):
        return [
            jnp.exp(vv.aggregate_densities(z, mean, log_scale, N, sampling=sampling).joint[0])
            for sampling in ("stratified", "weighted")
        ]

    stratified, weighted = program(Z[rows], MEAN[rows], SCALE[rows])
    np.testing.assert_allclose(np.mean(stratified), np.exp(joint[0]), rtol=1e-10)
    assert np.mean(weighted) < 0.5 * np.exp(joint[0])


@pytest.mark.slow
def test_weighted_sampling_is_the_papers_formula():
    """Chen et al. 2018, eq. 5: log q(z_i) = log sum_j q(z_i | x_j) - log(N M)."""
    size = 50
    log_q = st.norm.logpdf(Z[:, None], MEAN[None], np.exp(SCALE)[None])
    joint = scipy.special.logsumexp(log_q.sum(-1), 1) - np.log(size * N)
    marginals = (scipy.special.logsumexp(log_q, 1) - np.log(size * N)).sum(-1)
    found = vv.aggregate_densities(Z, MEAN, SCALE, size, sampling="weighted")
    np.testing.assert_allclose(found.joint, joint, rtol=1e-10)
    np.testing.assert_allclose(found.marginals, marginals, rtol=1e-10)
    apart = np.arange(2.0 * N).reshape(N, D)
    alone = vv.aggregate_densities(apart, apart, np.full((N, D), -5.0), size, sampling="weighted")
    np.testing.assert_allclose(alone.conditional - alone.joint, np.log(size * N), rtol=1e-10)  # log N would be right
    same = np.zeros((N, D))
    overlap = vv.aggregate_densities(same, same, same, size, sampling="weighted")
    np.testing.assert_allclose(overlap.conditional - overlap.joint, np.log(size), rtol=1e-10)  # 0 would be


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_decomposition_adds_up_to_the_kl(sampling):
    """Exactly, sample by sample; and for either prior."""
    for prior in (None, vd.Laplace(np.zeros(D), log_scale=0.2)):
        parts = vv.decompose_kl(Z, MEAN, SCALE, 60, prior=prior, sampling=sampling)
        reference = vd.Normal(np.zeros(D), 1.0) if prior is None else prior
        ratio = vd.Normal(MEAN, log_scale=SCALE).log_prob(Z) - reference.log_prob(Z)
        np.testing.assert_allclose(sum(parts), ratio, rtol=1e-10)
        np.testing.assert_allclose(parts.total_correlation, vv.total_correlation(Z, MEAN, SCALE, 60, sampling=sampling))


def test_decomposition_of_a_linear_gaussian_code():
    """q(z) is Gaussian here, so each term is known; the batch is the whole data set, and noise averages out.

    x ~ N(0, 1), z_1 and z_2 both x plus noise of variance s^2: total correlation is -log(1 - rho^2) / 2.
    """
    n, s2 = 1_500, 0.5
    x = st.norm.ppf((np.arange(n) + 0.5) / n)
    mean = np.stack([x, x], -1)
    log_scale = np.full((n, 2), 0.5 * np.log(s2))
    z = mean + np.sqrt(s2) * np.random.default_rng(0).normal(size=(n, 2))
    mi, tc, dw = map(np.asarray, jax.jit(lambda z: tuple(vv.decompose_kl(z, mean, log_scale, n)))(z))
    variance = 1 + s2
    rho = 1 / variance
    exact = (
        0.5 * np.log((variance**2 - 1) / s2**2),
        -0.5 * np.log(1 - rho**2),
        2 * 0.5 * (variance - 1 - np.log(variance)),
    )
    for values, target in zip((mi, tc, dw), exact, strict=True):
        assert abs(values.mean() - target) < 4 * values.std() / n**0.5 + 0.01  # 0.01: the grid of x


def test_total_correlation_is_finite_at_extreme_scales():
    z = jnp.asarray(MEAN, jnp.float32)
    program = jax.jit(jax.value_and_grad(lambda m, s: vv.total_correlation(z, m, s, 60).sum(), (0, 1)))
    for scale in (-20.0, 20.0):
        value, gradients = program(z, jnp.full((N, D), scale, jnp.float32))
        assert all(np.isfinite(g).all() for g in (value, *gradients))


def test_density_ratio_recovers_the_total_correlation():
    """With the optimal critic, the log density ratio of a correlated Gaussian, its mean is the total correlation."""
    rho, n = 0.8, 4_000
    z = RNG.normal(size=(n, 2)) @ np.linalg.cholesky([[1, rho], [rho, 1]]).T

    def critic(z):
        joint = st.multivariate_normal(cov=[[1, rho], [rho, 1]]).logpdf(z)
        return joint - st.norm.logpdf(z).sum(-1)

    found = np.asarray(vv.density_ratio_total_correlation(critic(z)))
    assert abs(found.mean() + 0.5 * np.log(1 - rho**2)) < 4 * found.std() / n**0.5
    permuted = np.asarray(vv.permute_latents(jax.random.key(0), z))
    for j in range(2):
        np.testing.assert_array_equal(np.sort(permuted[:, j]), np.sort(z[:, j]))
    assert abs(np.corrcoef(permuted.T)[0, 1]) < 5 / n**0.5
    best = np.asarray(vv.density_ratio_loss(critic(z), critic(permuted))).mean()
    for slope in (0.5, 2.0, -1.0):  # the log ratio is the critic of least loss
        assert best < np.asarray(vv.density_ratio_loss(slope * critic(z), slope * critic(permuted))).mean()
    np.testing.assert_allclose(vv.density_ratio_loss(np.array([1e4, -1e4]), np.array([-1e4, 1e4])), [0.0, 1e4])


def test_dip_penalties_equal_loops():
    covariance = np.cov(MEAN.T, bias=True)
    eye = np.eye(D, dtype=bool)
    expected = 3.0 * (covariance[~eye] ** 2).sum() + 7.0 * ((covariance[eye] - 1) ** 2).sum()
    np.testing.assert_allclose(vv.dip_i_penalty(MEAN, off_diagonal=3.0, diagonal=7.0), expected, rtol=1e-12)
    covariance = covariance + np.diag(np.exp(2 * SCALE).mean(0))
    expected = 3.0 * (covariance[~eye] ** 2).sum() + 7.0 * ((covariance[eye] - 1) ** 2).sum()
    np.testing.assert_allclose(vv.dip_ii_penalty(MEAN, SCALE, off_diagonal=3.0, diagonal=7.0), expected, rtol=1e-12)


def test_squared_wasserstein_equals_the_matrix_formula():
    a, b = (RNG.normal(size=(3, 3)) for _ in range(2))
    s, t = a @ a.T + 0.1 * np.eye(3), b @ b.T + 0.1 * np.eye(3)
    root = scipy.linalg.sqrtm(s)
    m = RNG.normal(size=(2, 3))
    expected = ((m[0] - m[1]) ** 2).sum() + np.trace(s + t - 2 * scipy.linalg.sqrtm(root @ t @ root)).real
    q, p = (
        vd.MultivariateNormal(m[0], scale_tril=np.linalg.cholesky(s)),
        vd.MultivariateNormal(m[1], scale_tril=np.linalg.cholesky(t)),
    )
    np.testing.assert_allclose(vv.squared_wasserstein(q, p), expected, rtol=1e-9)
    low = vd.LowRankNormal(m[1], b, log_scale=0.5 * np.log(0.1))
    np.testing.assert_allclose(vv.squared_wasserstein(q, low), expected, rtol=1e-9)
    diagonal = vd.Normal(m, log_scale=np.log([[0.5, 1.0, 2.0], [1.5, 0.2, 2.5]]))
    full = [vd.MultivariateNormal(m[i], scale_tril=np.diag(np.exp(diagonal.log_scale[i]))) for i in range(2)]
    pair = [vd.Normal(m[i], log_scale=diagonal.log_scale[i]) for i in range(2)]
    np.testing.assert_allclose(vv.squared_wasserstein(*full), vv.squared_wasserstein(*pair), rtol=1e-10)
    np.testing.assert_allclose(vv.squared_wasserstein(pair[0], full[1]), vv.squared_wasserstein(*pair), rtol=1e-10)
    slope = jax.grad(lambda q: vv.squared_wasserstein(q, full[0]))(full[0])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(slope))  # equal covariances: repeated singular values


@pytest.mark.parametrize("power", [1, 2])
def test_sliced_wasserstein_equals_scipys_in_one_dimension(power):
    x, y = RNG.normal(size=(40, 1)), 2 * RNG.normal(size=(40, 1)) + 1
    expected = (
        st.wasserstein_distance(x[:, 0], y[:, 0]) if power == 1 else np.mean((np.sort(x[:, 0]) - np.sort(y[:, 0])) ** 2)
    )
    np.testing.assert_allclose(vv.sliced_wasserstein(jax.random.key(0), x, y, 3, power=power), expected, rtol=1e-10)


def test_sliced_wasserstein_of_a_shift():
    """|m|^2 / d on average over directions, within 4 standard errors."""
    x, m, runs = RNG.normal(size=(10, 4)), np.array([1.0, 2.0, 0.0, -1.0]), 1_000
    keys = jax.random.split(jax.random.key(0), runs)
    values = np.asarray(jax.jit(jax.vmap(lambda key: vv.sliced_wasserstein(key, x, x[::-1] + m, 2)))(keys))
    assert abs(values.mean() - (m @ m) / 4) < 4 * values.std() / runs**0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: vv.mmd(z, z[:, :1]), "flatten all axes but the batch"),
        (lambda z: vv.mmd(z, z[:1]), "use larger batches or unbiased=False"),
        (lambda z: vv.mmd(z, z, kernel="rbg"), "kernel is 'rbg', expected one of these: rbf, imq"),
        (lambda z: vv.mmd(z, z, scales=()), "one scale"),
        (lambda z: vv.total_correlation(z, z, z[:, :1], 60), "total_correlation: z, mean and log_scale have shapes"),
        (lambda z: vv.decompose_kl(z, z, z, 3), "decompose_kl: dataset_size is 3, expected at least"),
        (lambda z: vv.aggregate_densities(z, z, z, 60, sampling="mws"), "sampling is 'mws'"),
        (lambda z: vv.permute_latents(jax.random.key(0), z[0]), "expected \\[b, d\\]"),
        (lambda z: vv.density_ratio_loss(z[:, 0], z), "squeeze the critic's output"),
        (lambda z: vv.density_ratio_total_correlation(z), "difference of two class logits"),
        (lambda z: vv.dip_i_penalty(z[0], off_diagonal=1.0, diagonal=1.0), "give a batch of latents"),
        (lambda z: vv.dip_ii_penalty(z, z[0], off_diagonal=1.0, diagonal=1.0), "log_scale has shape"),
        (lambda z: vv.sliced_wasserstein(jax.random.key(0), z, z[:3], 5), "draw as many samples"),
        (lambda z: vv.sliced_wasserstein(jax.random.key(0), z, z, 5, power=3), "power is 3"),
        (lambda z: vv.squared_wasserstein(vd.Normal(z, 1.0), vd.Normal(z[:, :1], 1.0)), "event shapes"),
    ],
)
def test_wrong_arguments_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.asarray(Z))
