"""Fits against targets of which everything is known."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, stats

from vaex import inference
from vaex.distributions import Laplace, Mixture, MultivariateNormal, Normal
from vaex.errors import UserError
from vaex.flows import AffineCoupling, chain, reverse
from vaex.inference import objectives

COVARIANCE = np.array([[1.0, 0.8, 0.1], [0.8, 2.0, -0.3], [0.1, -0.3, 0.5]])
MEAN = np.array([1.0, -2.0, 0.5])
TARGET = MultivariateNormal(jnp.asarray(MEAN, jnp.float32), scale_tril=jnp.asarray(np.linalg.cholesky(COVARIANCE)))
LOG_EVIDENCE = 1.5  # of the unnormalised target


def log_density(x):
    return TARGET.log_prob(x) + LOG_EVIDENCE


def fitted(family, objective=None, steps=600, density=log_density, **options):
    run = jax.jit(lambda key: inference.fit(key, density, family, objective=objective, steps=steps, **options))
    params, history = run(jax.random.key(0))
    return family.distribution(params), np.asarray(history.loss)


def test_full_rank_on_a_gaussian_is_exact():
    q, losses = fitted(inference.FullRank(3))
    np.testing.assert_allclose(q.mean, MEAN, atol=1e-3)
    np.testing.assert_allclose(q.covariance, COVARIANCE, atol=2e-3)
    np.testing.assert_allclose(-losses[-1], LOG_EVIDENCE, atol=1e-3)


def test_mean_field_variances_are_those_of_the_precision():
    """The known failure: 1 / diag(precision), not the marginal variances (Bishop 2006, section 10.1.2)."""
    q, losses = fitted(inference.MeanField(3), steps=1500, num_samples=256)
    expected = 1.0 / np.diagonal(np.linalg.inv(COVARIANCE))
    np.testing.assert_allclose(q.variance, expected, rtol=0.01)
    gap = 0.5 * (np.linalg.slogdet(COVARIANCE)[1] - np.sum(np.log(expected)))  # KL(q, p) at the optimum
    elbo = LOG_EVIDENCE - gap
    np.testing.assert_allclose(-np.mean(losses[-100:]), elbo, atol=4 * np.std(losses[-100:]) / 10 + 1e-3)


def test_laplace_on_a_gaussian_is_exact_and_of_a_gamma_is_stirlings():
    params, log_evidence, _ = jax.jit(lambda: inference.laplace(log_density, 3, steps=3)[1:])()
    np.testing.assert_allclose(inference.FullRank(3).distribution(params).covariance, COVARIANCE, atol=1e-4)
    np.testing.assert_allclose(log_evidence, LOG_EVIDENCE, atol=1e-4)
    # Gamma(a, 1) without its normaliser, log of the variable: Laplace's evidence is Stirling's formula
    shape = 7.0
    gamma = jax.jit(lambda: inference.laplace(lambda x: (shape - 1) * jnp.log(x) - x, inference.positive())[1:])()
    stirling = (shape - 0.5) * np.log(shape) - shape + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(gamma[1], stirling, atol=1e-4)
    assert gamma[2] < 1e-3


def test_a_point_mass_is_the_mode_of_the_declared_parameters():
    shape, rate = 3.0, 2.0
    family = inference.PointMass({"x": inference.positive()})
    run = jax.jit(
        lambda key: inference.fit(
            key, lambda p: (shape - 1) * jnp.log(p["x"]) - rate * p["x"], family, steps=300, num_samples=1
        )
    )
    params, _ = run(jax.random.key(0))
    x = inference.sample(jax.random.key(1), family, params, 2)["x"]
    np.testing.assert_allclose(x, (shape - 1) / rate, rtol=1e-4)  # shape / rate would be the mode of log x


GRID = np.linspace(-12, 12, 4001)
BIMODAL = Mixture(jnp.log(jnp.array([0.4, 0.6])), Normal(jnp.array([[-2.0], [2.5]]), 0.8))
DENSITY = 0.4 * stats.norm.pdf(GRID, -2, 0.8) + 0.6 * stats.norm.pdf(GRID, 2.5, 0.8)


def quadrature(values):
    return np.sum(values) * (GRID[1] - GRID[0])


def value(objective, q, num_samples=200_000):
    target = inference.log_target(lambda x: BIMODAL.log_prob(x) + LOG_EVIDENCE, inference.MeanField(1))
    return float(objective(jax.random.key(3), q, target, num_samples))


@pytest.mark.slow
def test_values_of_the_objectives_are_those_of_quadrature():
    q = Normal(jnp.array([0.5]), 2.0)
    q_density = stats.norm.pdf(GRID, 0.5, 2.0)
    log_ratio = np.log(DENSITY) - np.log(q_density)
    reverse = -quadrature(q_density * log_ratio) - LOG_EVIDENCE
    forward = -quadrature(DENSITY * np.log(q_density))
    for estimator in get_args(objectives.Estimator):
        num_samples = (
            2000 if estimator in ("leave_one_out", "vimco") else 200_000
        )  # their baselines take k bounds of k samples
        computed = value(inference.reverse_kl(estimator), q, num_samples)
        error = np.sqrt(quadrature(q_density * (log_ratio + LOG_EVIDENCE + reverse) ** 2) / num_samples)
        np.testing.assert_allclose(computed, reverse, atol=4 * error)
    np.testing.assert_allclose(value(inference.forward_kl(), q), forward, atol=0.02)
    np.testing.assert_allclose(value(inference.forward_kl(Normal(jnp.zeros(1), 3.0)), q), forward, atol=0.02)
    for estimator in ("reparameterized", "doubly_reparameterized", "score_function"):
        np.testing.assert_allclose(value(inference.importance(estimator), q), -LOG_EVIDENCE, atol=0.02)
    renyi = 2.0 * np.log(quadrature(np.sqrt(DENSITY * q_density))) + LOG_EVIDENCE
    np.testing.assert_allclose(value(inference.renyi(0.5), q), -renyi, atol=0.02)
    chi = 0.5 * np.log(quadrature(DENSITY**2 / q_density)) + LOG_EVIDENCE
    np.testing.assert_allclose(value(inference.chi(2.0), q), chi, atol=0.02)
    np.testing.assert_allclose(value(inference.renyi(-1.0), q), chi, atol=0.02)
    assert -reverse < LOG_EVIDENCE < chi


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["reverse_kl", "importance"])
def test_stratified_gradients_of_a_mixture_are_those_of_quadrature(objective):
    """The weights have gradients too; of the importance bound with many samples the gradient is nearly zero."""
    family = inference.GaussianMixture(1, 2)
    params = {"logits": jnp.array([0.3, -0.2]), "loc": jnp.array([[-1.0], [2.0]]), "log_scale": jnp.zeros((2, 1))}
    target = inference.log_target(BIMODAL.log_prob, family)
    points = jnp.asarray(GRID)[:, None]

    def exact(params):
        log_q = family.distribution(params).log_prob(points)
        return jnp.sum(jnp.exp(log_q) * (log_q - BIMODAL.log_prob(points))) * (GRID[1] - GRID[0])

    def estimate(params, estimator):
        loss = getattr(inference, objective)(estimator)
        return loss(jax.random.key(0), family.distribution(params), target, 100_000)

    expected = jax.grad(exact)(params) if objective == "reverse_kl" else jax.tree.map(jnp.zeros_like, params)
    for estimator in ("reparameterized", "sticking_the_landing")[: 2 if objective == "reverse_kl" else 1]:
        gradient = jax.grad(estimate)(params, estimator)
        jax.tree.map(lambda g, e: np.testing.assert_allclose(g, e, atol=0.03), gradient, expected)


@pytest.mark.parametrize(
    "objective", [inference.reverse_kl, pytest.param(inference.importance, marks=pytest.mark.slow)]
)
def test_every_estimators_gradient_is_that_of_one_bound(objective):
    """The unbiased ones: means over keys agree with the plain path's, within four standard errors."""
    target = inference.log_target(lambda x: -0.5 * jnp.sum(jnp.square(x - 1.0)), inference.MeanField(1))

    def gradients(estimator):
        def loss(loc, key):
            return objective(estimator)(key, Normal(loc, 1.3), target, 3)

        keys = jax.random.split(jax.random.key(0), 4000)
        return np.asarray(jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(jnp.zeros(1), keys))[:, 0]

    names = [
        name for name in get_args(objectives.Estimator) if name != "sticking_the_landing"
    ]  # biased for several samples
    drawn = {name: gradients(name) for name in names}
    error = {name: values.std() / np.sqrt(len(values)) for name, values in drawn.items()}
    for name in names[1:]:
        difference = drawn[name].mean() - drawn["reparameterized"].mean()
        assert abs(difference) < 4 * np.hypot(error[name], error["reparameterized"]), name


def bimodal_density(x):
    return BIMODAL.log_prob(x) + LOG_EVIDENCE


@pytest.mark.slow
def test_forward_kl_covers_both_modes_and_reverse_kl_seeks_the_larger():
    mean = quadrature(DENSITY * GRID)
    deviation = np.sqrt(quadrature(DENSITY * (GRID - mean) ** 2))
    covering, _ = fitted(
        inference.MeanField(1, scale=3.0), inference.forward_kl(), 1000, bimodal_density, num_samples=500
    )
    np.testing.assert_allclose([covering.mean[0], covering.scale[0]], [mean, deviation], rtol=0.03)
    start = {"loc": jnp.array([2.0]), "log_scale": jnp.zeros(1)}
    seeking, _ = fitted(inference.MeanField(1), None, 1000, bimodal_density, params=start)

    def reverse(at):
        q = stats.norm.pdf(GRID, at[0], np.exp(at[1])) + 1e-300
        return quadrature(q * (np.log(q) - np.log(DENSITY))) - LOG_EVIDENCE

    best = optimize.minimize(reverse, [2.0, 0.0])
    np.testing.assert_allclose([seeking.mean[0], seeking.log_scale[0]], best.x, atol=0.02)
    np.testing.assert_allclose(value(inference.reverse_kl(), seeking), best.fun, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        inference.MeanField(1),
        inference.LowRank(1, 1),
        inference.FullRank(1),
        inference.GaussianMixture(1, 2, scale=2.0),
        inference.from_distribution(1, lambda key: jnp.zeros((2, 1)), lambda p: Laplace(p[0], log_scale=p[1])),
    ],
    ids=lambda family: type(family).__name__,
)
def test_every_familys_elbo_is_below_the_evidence(family):
    _, losses = fitted(family, None, 1000, bimodal_density)
    elbo, error = -np.mean(losses[-200:]), np.std(losses[-200:]) / np.sqrt(200)
    assert elbo < LOG_EVIDENCE + 4 * error + 1e-4
    if isinstance(family, inference.GaussianMixture):
        np.testing.assert_allclose(elbo, LOG_EVIDENCE, atol=2e-3)  # it holds the target
    else:
        assert elbo < LOG_EVIDENCE - 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["low rank", "flow"])
def test_families_that_hold_a_gaussian_reach_the_evidence(name):
    flow = chain(AffineCoupling(3, (16,)), reverse(3), AffineCoupling(3, (16,)))
    family = inference.LowRank(3, 2) if name == "low rank" else inference.NormalizingFlow(3, flow)
    _, losses = fitted(family, None, 2000)
    np.testing.assert_allclose(-np.mean(losses[-200:]), LOG_EVIDENCE, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [inference.importance(), inference.renyi(0.5), inference.chi(2.0)])
def test_other_objectives_find_a_gaussian(objective):
    # wide at the start: weights of a q that is narrower than the target have infinite variance
    q, _ = fitted(inference.FullRank(3, scale=3.0), objective, 2000, num_samples=64)
    np.testing.assert_allclose(q.mean, MEAN, atol=0.05)
    np.testing.assert_allclose(q.covariance, COVARIANCE, atol=0.1)


@pytest.mark.slow
def test_a_loop_of_your_own_gives_the_fit_and_fits_are_vectorised():
    """vmap over keys, data and learning rates equals single fits."""
    family, objective = inference.MeanField(1), inference.reverse_kl()

    def single(key, data, rate):
        return inference.fit(
            key, lambda x: -0.5 * jnp.sum((x - data) ** 2), family, steps=20, optimizer=optax.adam(rate), num_samples=4
        )

    keys = jax.random.split(jax.random.key(0), 3)
    data, rates = jnp.array([0.0, 1.0, 2.0]), jnp.array([0.1, 0.2, 0.3])
    params, history = jax.jit(jax.vmap(single))(keys, data, rates)
    assert history.loss.shape == (3, 20)
    optimizer = optax.adam(rates[1])
    key_init, key_steps = jax.random.split(keys[1])
    state = inference.init(key_init, family, optimizer)

    @jax.jit
    def advance(key, state):
        def density(x):
            return -0.5 * jnp.sum((x - data[1]) ** 2)

        return inference.step(key, state, density, family, objective=objective, optimizer=optimizer, num_samples=4)

    for number in range(20):
        state, loss = advance(jax.random.fold_in(key_steps, number), state)
    np.testing.assert_allclose(state.params["loc"], params["loc"][1], rtol=1e-5)
    np.testing.assert_allclose(loss, history.loss[1, -1], rtol=1e-4)


@pytest.mark.slow
def test_a_fit_stops_where_the_loss_no_longer_falls():
    rule = inference.RelativeChange(0.02, window=50)
    run = jax.jit(lambda key: inference.fit(key, log_density, inference.FullRank(3), steps=5000, stop=rule))
    _, history = run(jax.random.key(0))
    taken = int(history.steps)
    assert 100 <= taken < 2500 and taken % 50 == 0
    assert np.all(np.isfinite(history.loss[:taken])) and np.all(np.isnan(history.loss[taken:]))
    np.testing.assert_allclose(-np.mean(history.loss[taken - 50 : taken]), LOG_EVIDENCE, atol=0.1)


def test_what_cannot_be_fitted_is_refused():
    key, family = jax.random.key(0), inference.MeanField(2)
    with pytest.raises(ValueError, match=r"log_density\(parameters\) has shape \(2,\)"):
        inference.fit(key, lambda x: x, family, steps=2)
    with pytest.raises(UserError, match="steps is 0"):
        inference.fit(key, jnp.sum, family, steps=0)
    with pytest.raises(UserError, match="estimator is 'reinforce'"):
        inference.reverse_kl("reinforce")
    with pytest.raises(UserError, match="got a mixture"):
        inference.fit(key, jnp.sum, inference.GaussianMixture(2, 3), objective=inference.chi(), steps=2)
    with pytest.raises(UserError, match="dimension 3, expected 2"):
        inference.NormalizingFlow(2, AffineCoupling(3))
