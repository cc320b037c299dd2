"""Estimators where samples are impossible under the model: values, and gradients of examples beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import bounds, estimators
from vaex.distributions import Bernoulli, Categorical, Normal

ESTIMATORS = {
    "reparameterized": (estimators.reparameterized, {}),
    "reparameterized, importance": (estimators.reparameterized, {"bound": bounds.importance_bound}),
    "sticking_the_landing": (estimators.sticking_the_landing, {}),
    "doubly_reparameterized": (estimators.doubly_reparameterized, {}),
    "doubly_reparameterized, any bound": (
        estimators.doubly_reparameterized,
        {"bound": lambda w: bounds.renyi_bound(w, alpha=0.5)},
    ),
    "score_function": (estimators.score_function, {"bound": bounds.importance_bound}),
    "leave_one_out": (estimators.leave_one_out, {"bound": bounds.importance_bound}),
    "leave_one_out, elbo": (estimators.leave_one_out, {}),
    "vimco": (estimators.vimco, {}),
}
LOC = jnp.array([[0.3, -0.2], [0.1, 0.4], [1.0, -0.5]])
KEY = jax.random.key(0)


def posterior_of(name, loc):
    return Normal(loc, 1.0) if "reparam" in name or "sticking" in name else Bernoulli(loc)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_impossible_example_leaves_the_others_as_they_are(name):
    estimator, options = ESTIMATORS[name]

    def loss(loc, shift, dead):
        def log_joint(z):
            return jnp.where(jnp.arange(3) == dead, -jnp.inf, -0.5 * jnp.sum(jnp.square(z - shift), axis=-1))

        value = estimator(KEY, posterior_of(name, loc), log_joint, 4, **options)
        return jnp.sum(jnp.where(jnp.arange(3) == 1, 0.0, value)), value

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (slope, shift_slope), value = gradient(LOC, 0.3, 1)
    (expected, shift_expected), clean = gradient(LOC, 0.3, 7)
    assert value[1] == -np.inf
    np.testing.assert_allclose(value[::2], clean[::2], rtol=1e-6)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(shift_slope, shift_expected, rtol=1e-5)
    np.testing.assert_array_equal(slope[1], 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_impossible_samples_among_others_have_finite_gradients(name):
    """Whatever their number: of 200 examples with two samples each, some have none that is possible, some one, some two."""
    estimator, options = ESTIMATORS[name]

    def log_joint(z):
        return jnp.where(jnp.max(z, axis=-1) > 0.7, -jnp.inf, -jnp.sum(jnp.square(z), axis=-1))

    def loss(loc):
        value = estimator(KEY, posterior_of(name, loc), log_joint, 2, **options)
        return jnp.sum(jnp.where(jnp.isfinite(value), value, 0.0)), value

    loc = jnp.tile(jnp.array([-0.5, -1.0]), (200, 1))
    gradient, value = jax.jit(jax.grad(loss, has_aux=True))(loc)
    weights = log_joint(posterior_of(name, loc).sample(KEY, (2,)))
    assert {0, 1, 2} == set(np.sum(np.isfinite(weights), axis=0).tolist())
    assert np.isfinite(gradient).all() and not np.isnan(value).any()
    assert np.isfinite(value).any() and np.isneginf(value).any()
    assert np.abs(gradient[np.isfinite(value)]).max() > 0.1


@pytest.mark.slow
def test_a_baseline_that_is_infinite_is_none():
    """Two samples, one impossible: the other has no finite bound to be compared with, so its signal is the bound itself."""

    def log_joint(z):
        return jnp.where(z[..., 0] > 0.5, -jnp.inf, 0.0)

    def loss(logits):
        return jnp.sum(estimators.leave_one_out(key, Bernoulli(logits), log_joint, 2, bound=bounds.importance_bound))

    logits = jnp.array([[0.2]])
    key = next(key for key in jax.random.split(KEY, 20) if float(jnp.sum(Bernoulli(logits).sample(key, (2,)))) == 1)
    z = np.asarray(Bernoulli(logits).sample(key, (2,)))[:, 0, 0]
    p = 1 / (1 + np.exp(-0.2))
    score = z - p
    possible = int(np.argmin(z))
    log_weight = -np.log(1 - p)
    bound = log_weight - np.log(2)
    # of the possible sample: its path, dB/dlog w = 1 by -log q, and the bound times its score, whose baseline is that of the other
    # alone, which is -inf; of the impossible one: the bound less that of the possible one
    expected = -score[possible] + bound * score[possible] + (bound - log_weight) * score[1 - possible]
    np.testing.assert_allclose(jax.grad(loss)(logits)[0, 0], expected, rtol=1e-5)


@pytest.mark.slow
def test_straight_through_samples_of_an_impossible_example():
    def loss(logits):
        def log_joint(z):
            return jnp.where(jnp.arange(2) == 1, -jnp.inf, jnp.sum(z * jnp.array([0.0, 2.0]), axis=(-2, -1)))

        value = estimators.straight_through_gumbel(
            KEY, Categorical(logits), log_joint, 3, temperature=0.5, bound=bounds.importance_bound
        )
        return value[0], value

    gradient, value = jax.grad(loss, has_aux=True)(jnp.zeros((2, 1, 2)))
    assert value[1] == -np.inf and np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1], 0.0)
