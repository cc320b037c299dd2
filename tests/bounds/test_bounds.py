"""Bounds against exact values: probabilistic PCA, quadrature, enumeration; and the shape of each from raw log weights."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import LinearGaussian
from scipy import integrate

from vaex import bounds
from vaex.distributions import Bernoulli, Categorical, Normal

K, B = 6, 3


def weights(seed: int = 0, scale: float = 2.0, shape: tuple[int, ...] = (K, B)) -> np.ndarray:
    return np.random.default_rng(seed).normal(-3.0, scale, shape)


def numpy_renyi(w: np.ndarray, alpha: float) -> np.ndarray:
    """In extended precision, by the textbook form."""
    w = w.astype(np.longdouble)
    if alpha == 1:
        return w.mean(0).astype(float)
    return (np.log(np.mean(np.exp((1 - np.longdouble(alpha)) * w), 0)) / (1 - np.longdouble(alpha))).astype(float)


# --- golden: each from raw weights -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [-20.0, -1.0, 0.0, 0.3, 0.999, 1 - 1e-5, 1.0, 1 + 1e-5, 1.5, 5.0])
@pytest.mark.parametrize("scale", [0.01, 2.0, 30.0])
def test_renyi_bound_matches_extended_precision(alpha, scale):
    w = weights(scale=scale).astype(np.float32)
    np.testing.assert_allclose(bounds.renyi_bound(w, alpha=alpha), numpy_renyi(w, alpha), rtol=2e-6, atol=2e-6 * scale)


def test_renyi_bound_at_its_special_orders():
    w = jnp.asarray(weights(), jnp.float32)
    np.testing.assert_allclose(bounds.renyi_bound(w, alpha=0.0), bounds.importance_bound(w), rtol=1e-6)
    np.testing.assert_allclose(bounds.renyi_bound(w, alpha=1.0), jnp.mean(w, 0), rtol=1e-6)
    np.testing.assert_allclose(bounds.renyi_bound(w, alpha=-1e5), jnp.max(w, 0), atol=1e-4)
    np.testing.assert_allclose(bounds.renyi_bound(w, alpha=-2.0), bounds.chi_upper_bound(w, power=3.0), rtol=1e-6)


def test_renyi_bound_is_smooth_in_alpha_and_differentiable_there():
    with jax.enable_x64(True):
        w = jnp.asarray(weights())
        sums = jax.jit(lambda alpha: jnp.sum(bounds.renyi_bound(w, alpha=alpha)))
        slope = jax.jit(jax.grad(sums))
        exact = -0.5 * np.sum(np.var(weights(), axis=0))  # d/d alpha at alpha = 1
        np.testing.assert_allclose(slope(1.0), exact, rtol=1e-9)
        np.testing.assert_allclose(slope(1.0 + 1e-7), exact, rtol=1e-5)
        step = 1e-6
        above, below = (sums(0.3 + shift) for shift in (step, -step))
        np.testing.assert_allclose(slope(0.3), (above - below) / (2 * step), rtol=1e-6)
        jacobian = jax.jit(jax.jacobian(lambda w: bounds.renyi_bound(w, alpha=1.0)[0]))(w)[:, 0]
        np.testing.assert_allclose(jacobian, np.full(K, 1 / K), rtol=1e-12)
        powered = np.exp(0.7 * weights()[:, 0])
        jacobian = jax.jit(jax.jacobian(lambda w: bounds.renyi_bound(w, alpha=0.3)[0]))(w)[:, 0]
        np.testing.assert_allclose(jacobian, powered / powered.sum(), rtol=1e-10)


def test_groups_and_mixtures_of_importance_bounds():
    w = jnp.asarray(weights(shape=(4, 5, B)), jnp.float32)
    by_hand = np.mean([np.log(np.mean(np.exp(group), 0)) for group in weights(shape=(4, 5, B))], 0)
    np.testing.assert_allclose(bounds.mean_importance_bound(w), by_hand, rtol=1e-5)
    pair = bounds.partial_importance_bounds(w)
    np.testing.assert_allclose(pair.encoder, by_hand, rtol=1e-5)
    np.testing.assert_allclose(pair.decoder, bounds.importance_bound(w.reshape(20, B)), rtol=1e-6)
    mixed = bounds.combined_importance_bound(w[0], mix=0.25)
    np.testing.assert_allclose(mixed, 0.25 * w[0].mean(0) + 0.75 * bounds.importance_bound(w[0]), rtol=1e-6)
    np.testing.assert_allclose(
        bounds.mean_importance_bound(w[:, :1]), jnp.mean(w[:, 0], 0), rtol=1e-6
    )  # k = 1 is the elbo


def test_upper_bounds_from_raw_weights():
    w = weights()
    np.testing.assert_allclose(
        bounds.chi_upper_bound(jnp.asarray(w)), 0.5 * np.log(np.mean(np.exp(2 * w), 0)), rtol=1e-5
    )
    normal = np.exp(w) / np.exp(w).sum(0)
    np.testing.assert_allclose(bounds.evidence_upper_bound(jnp.asarray(w)), (normal * w).sum(0), rtol=1e-5)
    np.testing.assert_allclose(bounds.evidence_upper_bound(jnp.asarray(w), samples="posterior"), w.mean(0), rtol=1e-5)


@pytest.mark.slow
def test_thermodynamic_sums_enclose_the_integral_and_meet():
    w = jnp.asarray(weights(), jnp.float32)
    ends = [0.0, 1.0]
    np.testing.assert_allclose(bounds.thermodynamic_bound(w, temperatures=ends), w.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        bounds.thermodynamic_bound(w, temperatures=ends, side="upper"), bounds.evidence_upper_bound(w), rtol=1e-5
    )
    # on fixed samples the integral of the reweighted mean is exactly the importance bound
    grid = jnp.linspace(0, 1, 2001)
    lower, upper = (bounds.thermodynamic_bound(w, temperatures=grid, side=side) for side in ("lower", "upper"))
    assert np.all(lower < bounds.importance_bound(w)) and np.all(bounds.importance_bound(w) < upper)
    np.testing.assert_allclose(0.5 * (lower + upper), bounds.importance_bound(w), rtol=1e-5)


def test_effective_sample_size_and_normalized_weights():
    w = weights()
    share = np.exp(w) / np.exp(w).sum(0)
    np.testing.assert_allclose(bounds.normalized_weights(jnp.asarray(w)), share, rtol=1e-5)
    np.testing.assert_allclose(bounds.effective_sample_size(jnp.asarray(w)), 1 / (share**2).sum(0), rtol=1e-5)
    np.testing.assert_allclose(bounds.effective_sample_size(jnp.array([0.0, -1e4])), 1.0)


@pytest.mark.slow
def test_free_bits_and_capacity():
    kl = np.array([[0.1, 2.0, 0.4], [0.3, 4.0, 0.8]])
    np.testing.assert_allclose(jnp.mean(bounds.free_bits(jnp.asarray(kl), minimum=0.5)), 0.5 + 3.0 + 0.6, rtol=1e-6)
    np.testing.assert_allclose(bounds.free_bits(jnp.asarray(kl), minimum=0.0), kl.sum(1), rtol=1e-6)
    gradient = jax.grad(lambda k: jnp.mean(bounds.free_bits(k, minimum=0.5)))(jnp.asarray(kl))
    np.testing.assert_array_equal(gradient, [[0, 0.5, 0.5], [0, 0.5, 0.5]])  # what is free pushes nothing
    np.testing.assert_allclose(bounds.capacity_penalty(jnp.array([3.0, 7.0]), capacity=5.0, gamma=10.0), [20.0, 20.0])


# --- probabilistic PCA: everything is known exactly ------------------------------------------------------------------


def estimates(model: LinearGaussian, key: jax.Array, k: int, draws: int, *, posterior=None):
    """Log weights [k, draws] of one example under a deliberately wrong posterior (or a given one)."""

    def wrong(x):
        return Normal(model.posterior_mean(x) + 0.3, log_scale=jnp.full(model.latents, -0.5))

    encoder = posterior or wrong
    draw = jax.vmap(
        lambda one: bounds.estimate_log_weights(
            one, encoder, model.likelihood, model.x, num_samples=k, prior=model.prior
        ),
        out_axes=1,
    )
    return jax.jit(draw)(jax.random.split(key, draws))


def mean_and_error(values: jax.Array) -> tuple[float, float]:
    values = np.asarray(values, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(values.size))


@pytest.mark.slow
def test_bounds_enclose_the_exact_log_likelihood_in_order():
    model = LinearGaussian(latents=2, pixels=4, seed=0)
    exact = float(model.log_likelihood())
    draws, last = 20_000, None
    for k in (1, 2, 5, 20, 100):
        w = estimates(model, jax.random.key(k), k, draws)
        mean, error = mean_and_error(bounds.importance_bound(w))
        assert mean < exact + 4 * error
        if last is not None:
            assert mean > last[0] - 4 * math.hypot(error, last[1])
        last = mean, error
    assert exact - last[0] < 0.02 + 4 * last[1], "a hundred samples should nearly reach log p(x)"
    # the analytic elbo at this posterior: log p(x) - KL(q || posterior)
    q_mean, q_scale = model.posterior_mean(model.x) + 0.3, math.exp(-0.5)
    elbo = exact - model.kl_to_posterior(q_mean, q_scale**2 * np.eye(model.latents))
    mean, error = mean_and_error(bounds.importance_bound(estimates(model, jax.random.key(1), 1, draws)))
    assert abs(mean - elbo) < 4 * error


def test_upper_bounds_lie_above_by_their_exact_gaps():
    model = LinearGaussian(latents=2, pixels=4, seed=0)
    exact = float(model.log_likelihood())
    w = estimates(model, jax.random.key(0), 400_000, 1)[:, 0]
    q_mean, q_variance = model.posterior_mean(model.x) + 0.3, math.exp(-1.0) * np.eye(model.latents)
    forward = model.kl_from_posterior(q_mean, q_variance)
    shares = np.asarray(bounds.normalized_weights(w), np.float64)
    error = math.sqrt(np.sum(shares**2 * (np.asarray(w) - exact - forward) ** 2))  # of a self-normalised mean
    assert abs(float(bounds.evidence_upper_bound(w)) - exact - forward) < 4 * error
    chi = np.exp(2 * (np.asarray(w, np.float64) - exact))
    gap = float(bounds.chi_upper_bound(w)) - exact
    assert gap > 0
    np.testing.assert_allclose(
        gap, 0.5 * math.log(model.chi_square_moment(q_mean, q_variance)), atol=4 * chi.std() / math.sqrt(chi.size)
    )
    z = model.sample_posterior(np.random.default_rng(0), 50_000)
    log_joint = model.likelihood(jnp.asarray(z)).log_prob(model.x) + model.prior.log_prob(jnp.asarray(z))
    direct = log_joint - Normal(q_mean, log_scale=jnp.full(model.latents, -0.5)).log_prob(jnp.asarray(z))
    mean, error = mean_and_error(direct)
    assert abs(mean - exact - forward) < 4 * error
    np.testing.assert_allclose(bounds.evidence_upper_bound(direct, samples="posterior"), mean, rtol=1e-5)


def test_everything_is_tight_at_the_exact_posterior_in_float64():
    with jax.enable_x64(True):
        model = LinearGaussian(latents=3, pixels=5, seed=1)
        exact = model.log_likelihood()
        w = estimates(model, jax.random.key(0), 8, 4, posterior=lambda x: model.posterior())

        grid, side = [0.0, 0.2, 1.0], "upper"
        tight = [
            bounds.importance_bound,
            bounds.chi_upper_bound,
            bounds.evidence_upper_bound,
            lambda w: bounds.combined_importance_bound(w, mix=0.3),
            lambda w: bounds.renyi_bound(w, alpha=0.5),
            lambda w: bounds.renyi_bound(w, alpha=-3.0),
            lambda w: bounds.mean_importance_bound(w.reshape(2, 4, 4)),
            lambda w: bounds.thermodynamic_bound(w, temperatures=grid),
            lambda w: bounds.thermodynamic_bound(w, temperatures=grid, side=side),
        ]
        for value in jax.jit(lambda w: [bound(w) for bound in tight])(w):
            np.testing.assert_allclose(value, exact, atol=1e-10)


@pytest.mark.parametrize("kl", ["closed_form", "monte_carlo"])
def test_estimate_elbo_is_unbiased_and_its_gradient_too(kl):
    model = LinearGaussian(latents=2, pixels=4, seed=2)
    start = (jnp.asarray(model.posterior_mean(model.x) + 0.4, jnp.float32), jnp.full(2, -0.3))

    def one(params, key):
        return bounds.estimate_elbo(
            key,
            lambda x: Normal(params[0], log_scale=params[1]),
            model.likelihood,
            model.x,
            prior=model.prior,
            num_samples=2,
            kl=kl,
        )

    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(one), in_axes=(None, 0)))(
        start, jax.random.split(jax.random.key(0), 20_000)
    )
    covariance = np.diag(np.exp(2 * np.asarray(start[1], np.float64)))
    elbo = float(model.log_likelihood()) - model.kl_to_posterior(np.asarray(start[0]), covariance)
    mean, error = mean_and_error(values)
    assert abs(mean - elbo) < 4 * error
    for found, exact in zip(gradients, model.elbo_gradient(*(np.asarray(p, np.float64) for p in start)), strict=True):
        standard = np.asarray(found).std(0, ddof=1) / math.sqrt(len(found))
        assert np.all(np.abs(np.asarray(found).mean(0) - exact) < 4 * standard)


def test_estimate_elbo_weighs_the_kl_and_takes_batches():
    x = jnp.arange(8.0).reshape(2, 4)

    def encoder(x):
        return Normal(x[:, :3], 1.0)

    def decoder(z):
        return Bernoulli(jnp.concatenate([z, z[..., :1]], -1))

    key = jax.random.key(0)
    terms = bounds.elbo_terms(key, encoder, decoder, x, num_samples=5)
    assert terms.log_px.shape == terms.kl.shape == (2,)
    np.testing.assert_allclose(terms.kl, 0.5 * np.sum(np.asarray(x[:, :3]) ** 2, -1), rtol=1e-6)
    value = bounds.estimate_elbo(key, encoder, decoder, x, num_samples=5, beta=3.0)
    np.testing.assert_allclose(value, terms.log_px - 3.0 * terms.kl, rtol=1e-6)
    np.testing.assert_allclose(
        jax.jit(lambda key: bounds.elbo_terms(key, encoder, decoder, x, num_samples=5))(key).kl, terms.kl
    )


# --- a nonlinear decoder by quadrature, discrete latents by enumeration ----------------------------------------------


@pytest.mark.slow
def test_importance_bound_of_two_samples_by_quadrature():
    def decoder(z):
        return Bernoulli(jnp.concatenate([3.0 * jnp.sin(z), z**2 - 1.0, -2.0 * z], -1))

    x = jnp.array([1.0, 0.0, 1.0])
    with jax.enable_x64(True):
        q = Normal(jnp.array([0.2]), log_scale=jnp.array([-0.3]))
        nodes, masses = np.polynomial.hermite_e.hermegauss(80)
        z = jnp.asarray(0.2 + math.exp(-0.3) * nodes)[:, None]
        masses = masses / masses.sum()
        log_w = decoder(z).log_prob(x.astype(jnp.float64)) + Normal(jnp.zeros(1), 1.0).log_prob(z) - q.log_prob(z)
        pairs = jnp.stack(jnp.broadcast_arrays(log_w[:, None], log_w[None, :]))
        two = float(np.sum(np.outer(masses, masses) * np.asarray(bounds.importance_bound(pairs))))
        one = float(np.sum(masses * np.asarray(log_w)))

        log_likelihood = jax.jit(lambda z: decoder(z[None]).log_prob(x.astype(jnp.float64)))

        def density(z):
            return math.exp(float(log_likelihood(z)) - z * z / 2) / math.sqrt(2 * math.pi)

        exact = math.log(integrate.quad(density, -9, 9, epsabs=1e-12)[0])
    assert one < two < exact
    draws = bounds.estimate_log_weights(
        jax.random.key(0),
        lambda x: Normal(jnp.full((50_000, 1), 0.2), log_scale=jnp.full((50_000, 1), -0.3)),
        decoder,
        x,
        num_samples=2,
    )
    for value, target in ((jnp.mean(draws, 0), one), (bounds.importance_bound(draws), two)):
        mean, error = mean_and_error(value)
        assert abs(mean - target) < 4 * error
    wide = bounds.estimate_log_weights(
        jax.random.key(1), lambda x: Normal(jnp.zeros((20, 1)), 1.0), decoder, x, num_samples=20_000
    )
    mean, error = mean_and_error(bounds.importance_bound(wide))
    assert abs(mean - exact) < 4 * error + 1e-4


def test_bounds_of_a_discrete_latent_by_enumeration():
    prior, q = jnp.log(jnp.array([0.2, 0.5, 0.3])), jnp.array([0.3, -0.2, 0.8])
    log_px = jnp.array([-1.0, -3.0, -0.2])
    log_w = np.asarray(log_px + prior - jax.nn.log_softmax(q), np.float64)
    p = np.asarray(jax.nn.softmax(q), np.float64)
    exact = math.log(float(jnp.sum(jnp.exp(log_px + prior))))
    two = sum(
        p[i] * p[j] * float(bounds.importance_bound(jnp.array([log_w[i], log_w[j]])))
        for i in range(3)
        for j in range(3)
    )
    assert p @ log_w < two < exact
    z = Categorical(jnp.broadcast_to(q, (40_000, 3)), 0).sample(jax.random.key(0), (2,))
    mean, error = mean_and_error(bounds.importance_bound(jnp.asarray(log_w)[z]))
    assert abs(mean - two) < 4 * error


# --- laws --------------------------------------------------------------------------------------------------------------

FROM_WEIGHTS = {
    "importance_bound": bounds.importance_bound,
    "mean_importance_bound": lambda w: bounds.mean_importance_bound(w.reshape(2, -1, *w.shape[1:])),
    "combined_importance_bound": lambda w: bounds.combined_importance_bound(w, mix=0.5),
    "partial_importance_bounds": lambda w: bounds.partial_importance_bounds(w.reshape(2, -1, *w.shape[1:])).decoder,
    "renyi_bound": lambda w: bounds.renyi_bound(w, alpha=0.5),
    "renyi_bound at 1": lambda w: bounds.renyi_bound(w, alpha=1.0),
    "renyi_bound below 0": lambda w: bounds.renyi_bound(w, alpha=-2.0),
    "chi_upper_bound": bounds.chi_upper_bound,
    "evidence_upper_bound": bounds.evidence_upper_bound,
    "thermodynamic_bound": lambda w: bounds.thermodynamic_bound(w, temperatures=[0.0, 0.3, 1.0]),
}


@functools.cache
def compiled(name):
    return jax.jit(FROM_WEIGHTS[name])


@functools.cache
def with_gradient(name):
    return jax.jit(jax.value_and_grad(lambda w: jnp.sum(FROM_WEIGHTS[name](w))))


@pytest.mark.parametrize("name", FROM_WEIGHTS)
def test_a_constant_moves_every_bound_by_itself(name):
    w = weights().astype(np.float32)
    np.testing.assert_allclose(compiled(name)(w + 5.0), compiled(name)(w) + 5.0, atol=1e-5)


@pytest.mark.parametrize("name", FROM_WEIGHTS)
@pytest.mark.parametrize("spread", [0.0, 1e-3, 1e4])
def test_finite_with_gradients_at_extreme_weights(name, spread):
    w = np.asarray(-1e4 + spread * np.linspace(-1, 1, K)[:, None] * np.ones(B), np.float32)
    value, gradient = with_gradient(name)(w)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))
    np.testing.assert_allclose(np.sum(gradient, 0), 1.0, rtol=1e-3)  # it moves with a constant


@pytest.mark.parametrize("name", FROM_WEIGHTS)
def test_an_impossible_sample_spoils_nothing_but_the_elbo_kind(name):
    w = weights().astype(np.float32)
    w[0] = -np.inf
    value = compiled(name)(w)
    if name in (
        "combined_importance_bound",
        "renyi_bound at 1",
        "thermodynamic_bound",
    ):  # the mean of log weights is -inf by right
        assert np.all(np.isneginf(value))
    else:
        assert np.all(np.isfinite(value))


@pytest.mark.slow
@pytest.mark.parametrize("name", FROM_WEIGHTS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes_jit_and_vmap(name, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        w = jnp.asarray(weights(), dtype)
        value = FROM_WEIGHTS[name](w)
        assert value.shape == (B,) and value.dtype == (dtype if dtype == jnp.float64 else jnp.float32)
        np.testing.assert_allclose(value, compiled(name)(w.astype(jnp.float32)), rtol=1e-5)
        np.testing.assert_allclose(compiled(name)(w), value, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(jax.vmap(FROM_WEIGHTS[name], 1))(w), value, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: bounds.elbo(jnp.zeros(3), jnp.zeros((3, 1))),
            r"elbo: kl has shape \(3, 1\), expected \(3,\) like log_px",
        ),
        (
            lambda: bounds.importance_bound(jnp.zeros(())),
            r"importance_bound: log_weights has shape \(\), expected \[k, ...\]",
        ),
        (lambda: bounds.renyi_bound(jnp.zeros((0, 2)), alpha=0.5), "renyi_bound: log_weights has shape"),
        (lambda: bounds.renyi_bound(jnp.zeros(2), alpha=jnp.zeros(3)), "expected a scalar; vmap"),
        (lambda: bounds.mean_importance_bound(jnp.zeros(4)), "m groups of k samples"),
        (lambda: bounds.partial_importance_bounds(jnp.zeros((0, 4))), "m groups of k samples"),
        (lambda: bounds.chi_upper_bound(jnp.zeros(4), power=0.5), "expected at least 1"),
        (lambda: bounds.evidence_upper_bound(jnp.zeros(4), samples="p"), "expected q or posterior"),
        (lambda: bounds.thermodynamic_bound(jnp.zeros(4), temperatures=[0.0]), r"temperatures has shape \(1,\)"),
        (lambda: bounds.thermodynamic_bound(jnp.zeros(4), temperatures=[0.1, 1.0]), "rising from 0 to 1"),
        (lambda: bounds.thermodynamic_bound(jnp.zeros(4), temperatures=[0.0, 0.6, 0.5, 1.0]), "rising from 0 to 1"),
        (
            lambda: bounds.thermodynamic_bound(jnp.zeros(4), temperatures=[0.0, 1.0], side="left"),
            "expected lower or upper",
        ),
        (lambda: bounds.free_bits(jnp.zeros(4), minimum=0.5), r"expected \[b, d\]"),
        (
            lambda: bounds.estimate_elbo(
                jax.random.key(0),
                lambda x: Normal(x, log_scale=x),
                lambda z: Bernoulli(z, 2),
                jnp.zeros((2, 3)),
                num_samples=4,
            ),
            r"decoder\(z\).log_prob\(x\) has shape \(4,\), expected \(4, 2\)",
        ),
        (
            lambda: bounds.elbo_terms(
                jax.random.key(0), lambda x: Normal(x, log_scale=x), Bernoulli, jnp.zeros((2, 3)), kl="exact"
            ),
            "expected closed_form or monte_carlo",
        ),
        (
            lambda: bounds.estimate_log_weights(jax.random.key(0), None, None, jnp.zeros(3), num_samples=0),
            "num_samples is 0",
        ),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
