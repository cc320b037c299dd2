"""Gradient estimators against exact gradients: probabilistic PCA, quadrature, enumeration."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import LinearGaussian

from vaex import estimators
from vaex.bounds import chi_upper_bound, importance_bound, renyi_bound
from vaex.distributions import Bernoulli, Categorical, Normal

DRAWS = 40_000
MEAN = {"bound": lambda w: jnp.mean(w, axis=0)}
RENYI = {"bound": lambda w: renyi_bound(w, alpha=0.5)}
IWAE = {"bound": importance_bound}
UNBIASED_PATHWISE = (estimators.reparameterized, estimators.doubly_reparameterized)
UNBIASED_SCORE = (estimators.score_function, estimators.leave_one_out, estimators.vimco)


def within(statistics: estimators.GradientStatistics, errors: float) -> bool:
    """Return whether the bias of every coordinate is within so many standard errors (or rounding)."""
    return all(
        bool(jnp.all(jnp.abs(bias) <= errors * error + 2e-5))
        for bias, error in zip(
            jax.tree.leaves(statistics.bias), jax.tree.leaves(statistics.standard_error), strict=True
        )
    )


def measure(loss, params, exact=None, draws: int = DRAWS, seed: int = 0) -> estimators.GradientStatistics:
    measured = jax.jit(
        lambda key, params: estimators.gradient_statistics(
            key, lambda draw_key: jax.grad(loss)(params, draw_key), draws, exact=exact, draws_per_chunk=2000
        )
    )
    return measured(jax.random.key(seed), params)


# --- the elbo of probabilistic PCA -----------------------------------------------------------------------------------


def linear(estimator, k: int, **options):
    """A random loss(params, key) of probabilistic PCA, parameters off the optimum, and its exact gradient."""
    model = LinearGaussian(latents=2, pixels=4, seed=3)
    params = {
        "mean": jnp.asarray(model.centre + 0.3, jnp.float32),
        "log_scale": jnp.full(2, -0.6),
        "offset": jnp.asarray(model.offset + 0.2, jnp.float32),
    }

    def loss(params, key):
        def log_joint(z):
            mean = z @ jnp.asarray(model.weights.T, jnp.float32) + params["offset"]
            return Normal(mean, log_scale=jnp.full(4, math.log(model.noise))).log_prob(model.x) + model.prior.log_prob(
                z
            )

        return estimator(key, Normal(params["mean"], log_scale=params["log_scale"]), log_joint, k, **options)

    shifted = np.asarray(params["offset"], np.float64)
    mean, log_scale = (np.asarray(params[name], np.float64) for name in ("mean", "log_scale"))
    model.centre = model.covariance @ model.weights.T @ (np.asarray(model.x, np.float64) - shifted) / model.noise**2
    d_mean, d_log_scale = model.elbo_gradient(mean, log_scale)
    d_offset = (np.asarray(model.x, np.float64) - model.weights @ mean - shifted) / model.noise**2
    return loss, params, {"mean": d_mean, "log_scale": d_log_scale, "offset": d_offset}


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(
    "name", ["reparameterized", "sticking_the_landing", "doubly_reparameterized", "score_function"]
)
def test_the_elbo_gradient_is_unbiased(name, k):
    loss, params, exact = linear(getattr(estimators, name), k, **MEAN)
    assert within(measure(loss, params, exact), 4.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["leave_one_out", "vimco"])
def test_the_elbo_gradient_with_baselines_is_unbiased(name):
    loss, params, exact = linear(getattr(estimators, name), 3, **MEAN)
    assert within(measure(loss, params, exact), 4.0)


def test_the_bias_test_can_fail():
    loss, params, exact = linear(estimators.reparameterized, 1, **MEAN)
    assert not within(measure(loss, params, exact | {"log_scale": 1.2 * exact["log_scale"]}), 4.0)


@pytest.mark.slow
def test_baselines_lower_the_variance():
    def variance(estimator, **options):
        loss, params, _ = linear(estimator, 4, **options)
        return float(measure(loss, params, draws=8000).total_variance)

    plain = variance(estimators.score_function, **MEAN)
    assert variance(estimators.leave_one_out, **MEAN) < 0.5 * plain
    assert variance(estimators.reparameterized, **MEAN) < 0.5 * variance(estimators.leave_one_out, **MEAN)
    wide = variance(estimators.score_function, **IWAE)
    assert variance(estimators.vimco) < 0.5 * wide


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "options"),
    [
        (estimators.sticking_the_landing, MEAN),
        (estimators.doubly_reparameterized, IWAE),
        (estimators.doubly_reparameterized, RENYI),
    ],
)
def test_no_variance_is_left_at_the_exact_posterior(estimator, options):
    model = LinearGaussian(latents=2, pixels=4, seed=3)
    with jax.enable_x64(True):
        posterior = model.posterior()

        def loss(mean, key):
            def log_joint(z):
                return model.likelihood(z).log_prob(model.x.astype(jnp.float64)) + model.prior.log_prob(z)

            return estimator(key, dataclasses.replace(posterior, loc=mean), log_joint, 5, **options)

        statistics = measure(loss, posterior.mean, draws=200)
        assert float(statistics.total_variance) < 1e-20
        plain = measure(
            lambda m, key: estimators.reparameterized(
                key,
                dataclasses.replace(posterior, loc=m),
                lambda z: model.likelihood(z).log_prob(model.x.astype(jnp.float64)) + model.prior.log_prob(z),
                5,
                **options,
            ),
            posterior.mean,
            draws=200,
        )
        assert float(plain.total_variance) > 1e-3


# --- two samples and a nonlinear decoder, by quadrature --------------------------------------------------------------

X = np.array([1.0, 0.0, 1.0])


def nonlinear_log_joint(slope, z):
    logits = jnp.concatenate([slope * jnp.sin(2.0 * z), z**2 - 1.0, -2.0 * z], -1)
    return Bernoulli(logits).log_prob(jnp.asarray(X, z.dtype)) + Normal(
        jnp.zeros(1, z.dtype), log_scale=jnp.zeros(1, z.dtype)
    ).log_prob(z)


NONLINEAR = {"mean": jnp.array([0.4]), "log_scale": jnp.array([-0.2]), "slope": jnp.array(1.5)}


def nonlinear(estimator, k: int, **options):
    def loss(params, key):
        q = Normal(params["mean"], log_scale=params["log_scale"])
        return estimator(key, q, lambda z: nonlinear_log_joint(params["slope"], z), k, **options)

    return loss


def exact_of_two(bound) -> dict[str, np.ndarray]:
    """The gradient of E[bound of two log weights], by Gauss-Hermite quadrature in float64."""
    with jax.enable_x64(True):
        nodes, masses = np.polynomial.hermite_e.hermegauss(90)
        masses = masses / masses.sum()

        def expected(params):
            z = params["mean"] + jnp.exp(params["log_scale"]) * nodes[:, None]
            w = nonlinear_log_joint(params["slope"], z) - Normal(
                params["mean"], log_scale=params["log_scale"]
            ).log_prob(z)
            return jnp.sum(np.outer(masses, masses) * bound(jnp.stack(jnp.broadcast_arrays(w[:, None], w[None, :]))))

        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), NONLINEAR)
        return jax.tree.map(np.asarray, jax.grad(expected)(params))


BOUNDS = {"iwae": IWAE, "renyi": RENYI, "chi_upper_bound": {"bound": chi_upper_bound}, "elbo": MEAN}


@pytest.mark.slow
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("estimator", [*UNBIASED_PATHWISE, *UNBIASED_SCORE], ids=lambda f: f.__name__)
def test_gradients_of_two_samples_are_unbiased(estimator, bound):
    exact = exact_of_two(BOUNDS[bound]["bound"])
    assert within(measure(nonlinear(estimator, 2, **BOUNDS[bound]), NONLINEAR, exact), 4.0)


@pytest.mark.slow
def test_sticking_the_landing_is_biased_for_several_samples():
    """As documented: the encoder's gradient is off, the generative network's is not."""
    statistics = measure(
        nonlinear(estimators.sticking_the_landing, 2, **IWAE), NONLINEAR, exact_of_two(importance_bound)
    )
    assert abs(float(statistics.bias["log_scale"][0])) > 8 * float(statistics.standard_error["log_scale"][0])
    assert abs(float(statistics.bias["slope"])) < 4 * float(statistics.standard_error["slope"])


@pytest.mark.slow
def test_the_importance_bounds_closed_form_equals_the_derivatives_of_any_bound():
    """DReG's path weights: squared normalised weights for the importance bound, two derivatives for another function."""
    gradients = [
        jax.grad(nonlinear(estimators.doubly_reparameterized, 5, bound=bound))(NONLINEAR, jax.random.key(0))
        for bound in (importance_bound, lambda w: importance_bound(w) + 0.0)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), *gradients)


@pytest.mark.slow
def test_signal_to_noise_falls_with_k_for_the_plain_encoder_gradient_and_not_for_dreg():
    """The known result (Rainforth et al. 2018; Tucker et al. 2019), on a linear-Gaussian model."""

    def ratio(estimator, k):
        loss, params, _ = linear(estimator, k, **IWAE)

        def encoder_loss(part, key):
            return loss(params | part, key)

        return float(
            measure(
                encoder_loss, {"mean": params["mean"], "log_scale": params["log_scale"]}, draws=8000
            ).signal_to_noise
        )

    plain = [ratio(estimators.reparameterized, k) for k in (1, 10, 100)]
    double = [ratio(estimators.doubly_reparameterized, k) for k in (1, 10, 100)]
    assert plain[0] > 1.5 * plain[1] > 1.5**2 * plain[2]
    assert double[2] > double[1] > 0.9 * double[0]


# --- discrete latents, by enumeration --------------------------------------------------------------------------------

LOG_PX = jnp.array([[-1.0, -3.0, -0.2], [-2.0, -0.1, -4.0]])  # of two variables, class by class
DISCRETE = {"logits": jnp.array([[0.3, -0.2, 0.8], [0.1, 0.5, -0.6]]), "shift": jnp.array(0.4)}


def table(shift):
    """log p(x, z) of each variable's classes; the variables interact through nothing, the joint is bent by a square."""
    return LOG_PX * (1.0 + shift)


def discrete_log_joint(shift, one_hot):
    score = jnp.sum(one_hot * table(shift), axis=(-2, -1))
    return score - 0.1 * score**2


def discrete(estimator, k: int, **options):
    def loss(params, key):
        def log_joint(z):
            one_hot = z if estimator is estimators.straight_through_gumbel else jax.nn.one_hot(z, 3)
            return discrete_log_joint(params["shift"], one_hot)

        return estimator(key, Categorical(params["logits"]), log_joint, k, **options)

    return loss


def enumerated(bound, k: int):
    """The exact gradient over all 9^k outcomes."""
    states = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing="ij"), -1).reshape(9, 2)
    tuples = np.stack(np.meshgrid(*[np.arange(9)] * k, indexing="ij"), 0).reshape(k, -1)

    def expected(params):
        log_q = Categorical(params["logits"]).log_prob(jnp.asarray(states))
        w = discrete_log_joint(params["shift"], jax.nn.one_hot(states, 3)) - log_q
        return jnp.sum(jnp.exp(jnp.sum(log_q[tuples], axis=0)) * bound(w[tuples]))

    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), DISCRETE)
        return jax.tree.map(np.asarray, jax.grad(expected)(params))


@pytest.mark.slow
@pytest.mark.parametrize("bound", ["elbo", "iwae", "renyi"])
@pytest.mark.parametrize("estimator", UNBIASED_SCORE, ids=lambda f: f.__name__)
def test_score_gradients_of_a_discrete_posterior_are_unbiased(estimator, bound):
    exact = enumerated(BOUNDS[bound]["bound"], 2)
    assert within(measure(discrete(estimator, 2, **BOUNDS[bound]), DISCRETE, exact), 4.0)


@pytest.mark.slow
def test_a_constant_baseline_keeps_the_mean_and_lowers_the_variance():
    exact = enumerated(BOUNDS["elbo"]["bound"], 1)
    plain = measure(discrete(estimators.score_function, 1), DISCRETE, exact)
    based = measure(discrete(estimators.score_function, 1, baseline=-2.5), DISCRETE, exact)
    assert within(plain, 4.0) and within(based, 4.0)
    assert float(based.total_variance) < 0.8 * float(plain.total_variance)


@pytest.mark.slow
def test_straight_through_gumbel_has_exact_values_and_a_bias_that_temperature_lowers():
    exact = enumerated(BOUNDS["elbo"]["bound"], 1)
    states = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing="ij"), -1).reshape(9, 2)
    log_q = Categorical(DISCRETE["logits"]).log_prob(jnp.asarray(states))
    elbo = float(jnp.sum(jnp.exp(log_q) * (discrete_log_joint(DISCRETE["shift"], jax.nn.one_hot(states, 3)) - log_q)))
    loss = discrete(estimators.straight_through_gumbel, 1, temperature=0.5)
    values = np.asarray(jax.vmap(lambda key: loss(DISCRETE, key))(jax.random.split(jax.random.key(0), 40_000)))
    assert abs(values.mean() - elbo) < 4 * values.std() / 200

    def bias(temperature):
        statistics = measure(discrete(estimators.straight_through_gumbel, 1, temperature=temperature), DISCRETE, exact)
        relative = float(jnp.linalg.norm(statistics.bias["logits"]) / jnp.linalg.norm(exact["logits"]))
        return relative, float(statistics.total_variance)

    (cold, cold_variance), (warm, warm_variance) = bias(0.3), bias(2.0)
    assert 0.02 < cold < warm < 1.0
    assert cold_variance > warm_variance


# --- statistics ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradient_statistics_match_numpy_for_any_chunk():
    def gradient(key):
        return {"a": 1e3 + jax.random.normal(key, (3,)), "b": jax.random.uniform(key, ())}

    draws = jax.vmap(lambda i: gradient(jax.random.fold_in(jax.random.key(5), i)))(jnp.arange(100))
    for chunk in (1, 7, 64, 1000):
        statistics = estimators.gradient_statistics(
            jax.random.key(5), gradient, 100, exact={"a": jnp.full(3, 1e3), "b": 0.5}, draws_per_chunk=chunk
        )
        for name, values in draws.items():
            values = np.asarray(values, np.float64)
            np.testing.assert_allclose(statistics.mean[name], values.mean(0), rtol=1e-6)
            np.testing.assert_allclose(statistics.variance[name], values.var(0, ddof=1), rtol=2e-3)
            np.testing.assert_allclose(statistics.standard_error[name], values.std(0, ddof=1) / 10, rtol=1e-3)
            np.testing.assert_allclose(statistics.bias[name], values.mean(0) - (1e3 if name == "a" else 0.5), atol=3e-4)
    flat = np.concatenate([np.asarray(draws["a"], np.float64), np.asarray(draws["b"], np.float64)[:, None]], 1)
    np.testing.assert_allclose(
        statistics.signal_to_noise, np.mean(np.abs(flat.mean(0)) / flat.std(0, ddof=1)), rtol=1e-3
    )
    assert np.isnan(estimators.gradient_statistics(jax.random.key(0), gradient, 2).bias["b"])


@pytest.mark.slow
def test_the_noise_floor_is_what_pure_noise_shows():
    statistics = estimators.gradient_statistics(jax.random.key(0), lambda key: jax.random.normal(key, (2000,)), 400)
    np.testing.assert_allclose(statistics.signal_to_noise, statistics.noise_floor, rtol=0.06)


# --- laws ------------------------------------------------------------------------------------------------------------

CALLS = {
    "reparameterized": (estimators.reparameterized, {}),
    "sticking_the_landing": (estimators.sticking_the_landing, {}),
    "doubly_reparameterized": (estimators.doubly_reparameterized, {}),
    "doubly_reparameterized, any bound": (estimators.doubly_reparameterized, RENYI),
    "score_function": (estimators.score_function, {}),
    "leave_one_out": (estimators.leave_one_out, {}),
    "vimco": (estimators.vimco, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_the_value_is_the_bound_of_the_same_samples(name):
    estimator, options = CALLS[name]
    q = Normal(jnp.ones((4, 2)), 1.0)
    p = Normal(jnp.zeros(2), 1.0)
    z = q.sample(jax.random.key(0), (3,))
    w = p.log_prob(z) - q.log_prob(z)
    default = importance_bound if "doubly" in name or name == "vimco" else MEAN["bound"]
    value = estimator(jax.random.key(0), q, p.log_prob, 3, **options)
    np.testing.assert_allclose(value, options.get("bound", default)(w), rtol=1e-5)
    np.testing.assert_allclose(
        jax.jit(lambda key: estimator(key, q, p.log_prob, 3, **options))(jax.random.key(0)), value, rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_gradients_are_finite_in_every_dtype_and_far_away(name, dtype):
    estimator, options = CALLS[name]
    with jax.enable_x64(dtype == jnp.float64):
        prior = Normal(jnp.zeros(2, dtype), log_scale=jnp.zeros(2, dtype))
        for mean, log_scale in ((0.0, 0.0), (1e4, 0.0), (0.0, 20.0), (0.0, -20.0)):

            def loss(mean, log_scale):
                return jnp.sum(
                    estimator(jax.random.key(0), Normal(mean, log_scale=log_scale), prior.log_prob, 3, **options)
                )

            gradients = jax.grad(loss, argnums=(0, 1))(
                jnp.full((4, 2), mean, dtype), jnp.full((4, 2), log_scale, dtype)
            )
            assert all(leaf.dtype == dtype and bool(jnp.all(jnp.isfinite(leaf))) for leaf in gradients)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda q, p: estimators.reparameterized(jax.random.key(0), q, p.log_prob, 0), ValueError, "num_samples is 0"),
        (lambda q, p: estimators.vimco(jax.random.key(0), q, p.log_prob, 1), ValueError, "vimco: num_samples is 1"),
        (
            lambda q, p: estimators.score_function(jax.random.key(0), q, lambda z: z, 2),
            ValueError,
            r"score_function: log_joint\(z\) has shape \(2, 4, 2\), expected \(2, 4\)",
        ),
        (
            lambda q, p: estimators.reparameterized(jax.random.key(0), q, p.log_prob, 2, bound=jnp.mean),
            ValueError,
            r"bound\(log_weights\) has shape \(\), expected \(4,\)",
        ),
        (
            lambda q, p: estimators.straight_through_gumbel(jax.random.key(0), q, p.log_prob, 2, temperature=1.0),
            TypeError,
            "posterior is a Normal, expected a Categorical",
        ),
        (
            lambda q, p: estimators.path_log_weights(q, p.log_prob, q.mean[None], estimator="vimco"),
            ValueError,
            "path_log_weights: estimator is 'vimco', expected one of reparameterized",
        ),
        (
            lambda q, p: estimators.gradient_statistics(jax.random.key(0), lambda key: q.mean, 1),
            ValueError,
            "num_draws=1",
        ),
        (
            lambda q, p: estimators.gradient_statistics(jax.random.key(0), lambda key: q.mean, 4, exact=jnp.zeros(3)),
            ValueError,
            r"exact has shapes \(3,\), expected \(4, 2\)",
        ),
    ],
)
def test_wrong_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(Normal(jnp.ones((4, 2)), 1.0), Normal(jnp.zeros(2), 1.0))
