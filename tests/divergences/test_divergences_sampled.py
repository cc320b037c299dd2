"""Monte Carlo divergences: values and gradients against closed forms, within standard errors; NumPyro's objects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import distributions as vd
from vaex import divergences as vv

K, RUNS = 8, 2_000  # samples per estimate, independent estimates
MEAN, SCALE = jnp.array([[0.3, -0.2], [0.0, 0.1]]), jnp.array([[-0.1, 0.2], [0.0, -0.2]])


def normal(parameters):
    loc, log_scale = parameters
    return vd.Normal(loc, log_scale=log_scale)


def runs(estimate, *arguments, key=0):
    """Independent estimates, each with its gradients in all arguments, as float64 arrays [RUNS, ...]."""

    @jax.jit
    def program(keys):
        def one(key):
            value, pullback = jax.vjp(lambda *a: estimate(key, *a), *arguments)
            return value, pullback(jnp.ones_like(value))

        return jax.vmap(one)(keys)

    return jax.tree.map(lambda x: np.asarray(x, np.float64), program(jax.random.split(jax.random.key(key), RUNS)))


def exactly(function, *arguments):
    """A closed form and its gradients, summed over its values."""

    @jax.jit
    def program(*arguments):
        value, pullback = jax.vjp(function, *arguments)
        return value, pullback(jnp.ones_like(value))

    return program(*arguments)


def assert_mean(samples, exact, errors=5.0):
    """Within ``errors`` standard errors of the mean, element by element, with room for rounding."""
    for x, target in zip(jax.tree.leaves(samples), jax.tree.leaves(exact), strict=True):
        assert np.all(np.abs(x.mean(0) - target) < errors * x.std(0) / len(x) ** 0.5 + 2e-6)


Q, P = (MEAN, SCALE), (jnp.zeros((2, 2)), jnp.full((2, 2), 0.1))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["naive", "k2", "k3"])
@pytest.mark.parametrize("gradient", ["total", "path", "score"])
def test_monte_carlo_kl_values_and_gradients_are_unbiased(form, gradient):
    """Except k2, whose value is biased to third order, and its total gradient with it."""

    def estimate(key, q, p):
        return vv.monte_carlo_kl(key, normal(q), normal(p), K, form=form, gradient=gradient)

    value, gradients = runs(estimate, Q, P)
    exact, slopes = exactly(lambda q, p: vv.kl(normal(q), normal(p)), Q, P)
    assert value.shape == (RUNS, 2)
    if form == "k2":
        bias = value.mean(0) - exact
        assert np.all(np.abs(bias) < 0.5 * exact)
        assert np.any(np.abs(bias) > 5 * value.std(0) / RUNS**0.5)
    else:
        assert_mean(value, exact)
    if not (form == "k2" and gradient == "total"):
        assert_mean(gradients, slopes)


def test_forms_differ_as_they_should():
    """k2 and k3 are never negative and vary less where q is near p; the path gradient has no variance where q = p."""
    near = normal((0.2 * MEAN, 0.1 + 0.2 * SCALE))

    def three(key):
        return jnp.stack([vv.monte_carlo_kl(key, near, normal(P), K, form=form) for form in ("naive", "k2", "k3")])

    naive, k2, k3 = np.swapaxes(runs(three)[0], 0, 1)
    assert k2.min() >= 0 and k3.min() >= 0 and naive.min() < 0
    assert max(k2.var(), k3.var()) < 0.2 * naive.var()
    spread = {
        gradient: runs(lambda key, q, g=gradient: vv.monte_carlo_kl(key, normal(q), normal(Q), K, gradient=g), Q)[1]
        for gradient in ("total", "path")
    }
    assert max(np.abs(x).max() for x in jax.tree.leaves(spread["path"])) < 1e-6
    assert max(x.std() for x in jax.tree.leaves(spread["total"])) > 0.1


def test_score_gradient_reaches_discrete_distributions():
    logits, other = jnp.array([0.4, -1.0, 0.3]), jnp.array([0.0, 0.5, 0.1])
    value, gradients = runs(
        lambda key, a, b: vv.monte_carlo_kl(key, vd.Categorical(a, 0), vd.Categorical(b, 0), K, gradient="score"),
        *(logits, other),
    )
    exact, slopes = exactly(lambda a, b: vv.kl(vd.Categorical(a, 0), vd.Categorical(b, 0)), logits, other)
    assert_mean(value, exact)
    assert_mean(gradients, slopes)


def test_the_baseline_leaves_out_the_sample_itself():
    """With one sample there is none, and the gradient is still unbiased; with two the baseline is the other one."""
    for k in (1, 2):
        _, gradients = runs(lambda key, q, k=k: vv.monte_carlo_kl(key, normal(q), normal(P), k, gradient="score"), Q)
        assert_mean(gradients, exactly(lambda q: vv.kl(normal(q), normal(P)), Q)[1])


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["total", "path", "score"])
def test_numpyro_objects_plug_in(gradient):
    """On either side, with an event axis, inside jit and grad."""
    nd = pytest.importorskip("numpyro.distributions")

    def theirs(parameters):
        return nd.Normal(parameters[0], jnp.exp(parameters[1])).to_event(1)

    def estimate(key, q, p):
        both = vv.monte_carlo_kl(key, theirs(q), theirs(p), K, gradient=gradient)
        return both, vv.monte_carlo_kl(key, theirs(q), normal(p), K, gradient=gradient)

    def total(key, q, p):
        return jnp.stack(estimate(key, q, p))

    value, gradients = runs(total, Q, P)
    exact, slopes = exactly(lambda q, p: jnp.stack([vv.kl(normal(q), normal(p))] * 2), Q, P)
    assert_mean(value, exact)
    assert_mean(gradients, slopes)


def test_a_flow_without_an_inverse_is_enough():
    class OneWay:
        @staticmethod
        def forward(params, z):
            return z * jnp.exp(params), jnp.broadcast_to(jnp.sum(params, -1), z.shape[:-1])

    q = vd.Transformed(vd.Normal(MEAN[0], 1.0), OneWay, SCALE[0])
    exact = vv.gaussian_kl(MEAN[0] * jnp.exp(SCALE[0]), SCALE[0])
    assert_mean(runs(lambda key: vv.monte_carlo_kl(key, q, vd.Normal(jnp.zeros(2), 1.0), K))[0], exact)


def test_one_prior_serves_a_batch_and_gives_each_element_its_own_samples():
    prior = vd.Normal(jnp.zeros(2), 1.0)
    value = runs(lambda key: vv.monte_carlo_kl(key, prior, normal((MEAN, SCALE)), K))[0]
    assert value.shape == (RUNS, 2)
    assert_mean(value, vv.kl(prior, normal((MEAN, SCALE))))
    same = vv.monte_carlo_kl(jax.random.key(0), prior, normal((jnp.ones((2, 2)), SCALE * 0)), K)
    assert same[0] != same[1]


ESTIMATORS = {
    "forward": (vv.monte_carlo_forward_kl, lambda q, p: vv.kl(p, q)),
    "jeffreys": (vv.monte_carlo_jeffreys, vv.jeffreys),
    "chi-square": (vv.monte_carlo_chi_square, vv.chi_square),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_unbiased_estimators_equal_closed_forms(name):
    estimate, exact = ESTIMATORS[name]
    q, p = (MEAN, SCALE - 0.3), P
    value, gradients = runs(lambda key, q, p: estimate(key, normal(q), normal(p), K), q, p)
    target, slopes = exactly(lambda q, p: exact(normal(q), normal(p)), q, p)
    assert_mean(value, target)
    assert_mean(gradients, slopes)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_monte_carlo_renyi_converges_with_its_known_bias(alpha):
    """At 500 samples it is below the estimate's variance; with one sample the logarithm is out, and that is the KL."""
    q, p = normal((MEAN, SCALE - 0.3)), normal(P)
    exact = vv.renyi(q, p, alpha)
    many = runs(lambda key: vv.monte_carlo_renyi(key, q, p, 500, alpha))[0]
    assert np.all(np.abs(many.mean(0) - exact) < 5 * many.std(0) / RUNS**0.5 + many.var(0))
    assert_mean(runs(lambda key: vv.monte_carlo_renyi(key, q, p, 1, alpha))[0], vv.kl(q, p))


def test_jensen_shannon_equals_quadrature_and_keeps_its_bounds():
    q, p = vd.Normal(jnp.array([0.5]), log_scale=-0.3), vd.Normal(jnp.array([-0.4]), log_scale=0.2)
    x = np.linspace(-12, 12, 20_001)
    a, b = (np.exp(np.asarray(d.log_prob(x[:, None]), np.float64)) for d in (q, p))
    m = 0.5 * (a + b)
    terms = 0.5 * a * np.log(np.maximum(a, 1e-300) / np.maximum(m, 1e-300)) + 0.5 * b * np.log(
        np.maximum(b, 1e-300) / np.maximum(m, 1e-300)
    )
    exact = terms.sum() * (x[1] - x[0])
    value = runs(lambda key: vv.monte_carlo_jensen_shannon(key, q, p, K))[0]
    assert_mean(value, exact)
    np.testing.assert_allclose(vv.monte_carlo_jensen_shannon(jax.random.key(0), q, q, 5), 0.0, atol=1e-6)
    far = vd.Normal(jnp.array([1e4]), log_scale=-20.0)
    np.testing.assert_allclose(vv.monte_carlo_jensen_shannon(jax.random.key(0), q, far, 5), np.log(2), rtol=1e-6)


@pytest.mark.slow
def test_importance_forward_kl():
    """Enumerated: with every class once, uniform q, it is exact; constants cancel; at k = 1 it knows nothing."""
    logits = jnp.array([0.3, -1.0, 2.0, 0.1])
    log_p = jax.nn.log_softmax(logits)
    exact = jnp.sum(jnp.exp(log_p) * (log_p + jnp.log(4.0)))
    np.testing.assert_allclose(vv.importance_forward_kl(log_p[:, None] + jnp.log(4.0) + 7.0), [exact], rtol=1e-5)
    assert vv.importance_forward_kl(jnp.array([3.0])) == 0.0
    q, p = normal((MEAN, SCALE + 0.3)), normal(P)

    def estimate(key):
        z = q.sample(key, (1000,))
        return vv.importance_forward_kl(p.log_prob(z) - q.log_prob(z))

    value = runs(estimate)[0]
    assert np.all(np.abs(value.mean(0) - vv.kl(p, q)) < 5 * value.std(0) / RUNS**0.5 + 1e-3)


def test_values_and_gradients_stay_finite_where_the_ratio_overflows():
    far = (jnp.full((1, 2), 1e3), jnp.full((1, 2), -20.0))
    near = (jnp.zeros((1, 2)), jnp.full((1, 2), 20.0))

    def estimate(q, p):
        q, p, key = normal(q), normal(p), jax.random.key(0)
        forms = [vv.monte_carlo_kl(key, q, p, 3, form=form) for form in ("naive", "k3", "k2")]
        return jnp.stack([*forms, vv.monte_carlo_chi_square(key, q, p, 3)])

    @jax.jit
    def program(q, p):
        value, pullback = jax.vjp(estimate, q, p)
        return value[:, 0], jax.vmap(pullback)(jnp.eye(4)[..., None])

    for q, p, finite in ((far, near, 4), (near, far, 2)):  # in the second the square of a log ratio of 1e34 overflows
        value, gradients = program(q, p)
        for x in (value, *jax.tree.leaves(gradients)):
            assert np.isfinite(x[:finite]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda key, q: vv.monte_carlo_kl(key, q, q, 0), "num_samples is 0"),
        (
            lambda key, q: vv.monte_carlo_kl(key, q, q, 3, form="k4"),
            "form is 'k4', expected one of these: naive, k2, k3",
        ),
        (lambda key, q: vv.monte_carlo_kl(key, q, q, 3, gradient="none"), "gradient is 'none'"),
        (lambda key, q: vv.monte_carlo_renyi(key, q, q, 3, 1.0), "alpha is 1.0"),
        (lambda key, q: vv.monte_carlo_jeffreys(key, q, q, -1), "num_samples is -1"),
        (lambda key, q: vv.monte_carlo_jensen_shannon(key, q, q, 1.5), "num_samples is 1.5"),
        (lambda key, q: vv.monte_carlo_chi_square(key, q, q, 0), "monte_carlo_chi_square: num_samples"),
        (lambda key, q: vv.monte_carlo_forward_kl(key, q, q, 0), "monte_carlo_forward_kl: num_samples"),
        (lambda key, q: vv.importance_forward_kl(jnp.zeros(())), "put samples first"),
    ],
)
def test_wrong_arguments_are_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call(jax.random.key(0), normal(Q))
