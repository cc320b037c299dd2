"""ladder_vae: the merged posteriors, the batch statistics, its terms against each other, and what it refuses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.fresh import KEY, REAL, REALS, Fresh

from vaex.distributions import Normal
from vaex.errors import UserError
from vaex.models.hierarchies import _hierarchy as hierarchy
from vaex.models.hierarchies import ladder_vae
from vaex.nets import LadderNetwork
from vaex.nets.ladder import STATISTICS_DECAY, gaussian_product
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

THREE: dict[str, Any] = {"hidden": (8, 6, 4), "latents": (3, 2, 1)}
WARM = ladder_vae.HParams(beta=1.0)


@pytest.fixture(scope="module")
def fresh() -> Fresh:
    return Fresh(ladder_vae, WARM, **THREE).jitter()


def test_gaussian_product_is_the_product_of_densities():
    """Up to a constant, in z, whatever the scales."""
    z = jnp.linspace(-3.0, 3.0, 7)
    for first, second in (((0.5, 0.2), (-1.0, -0.4)), ((2.0, -3.0), (-1.0, 1.5))):
        product = sum(
            Normal(jnp.float32(m), log_scale=jnp.float32(s), event_ndims=0).log_prob(z) for m, s in (first, second)
        )
        mean, log_scale = gaussian_product(*map(jnp.asarray, (*first, *second)))
        merged = Normal(mean, log_scale=log_scale, event_ndims=0).log_prob(z)
        difference = np.asarray(product - merged)
        np.testing.assert_allclose(difference, difference[0], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_posteriors_are_merged_below_the_top_alone(fresh):
    q = fresh.encode()
    top_down = jax.jit(lambda q, noise: q._down(noise, "posterior"))(q, jax.random.normal(KEY, (8, 6)))
    top, middle, lowest = (slice(0, 1), slice(1, 3), slice(3, 6))
    for span, index in ((top, 2), (middle, 1), (lowest, 0)):
        mean, log_scale = jnp.split(q.activations[index], 2, axis=-1)
        log_scale = 5.0 * jnp.tanh(log_scale / 5.0)
        if span is not top:
            prior = top_down.prior_mean[:, span], top_down.prior_log_scale[:, span]
            mean, log_scale = gaussian_product(mean, log_scale, *prior)
        np.testing.assert_allclose(top_down.posterior_mean[:, span], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(top_down.posterior_log_scale[:, span], log_scale, rtol=1e-4, atol=1e-5)
    for prior in (top_down.prior_mean, top_down.prior_log_scale):
        assert np.all(np.asarray(prior[:, top]) == 0)


@pytest.mark.slow
def test_elbo_is_the_mean_log_weight(fresh):
    keys = jax.random.split(jax.random.key(1), 2000)
    objective = fresh.model.objective
    elbo = jax.jit(
        jax.vmap(lambda key: objective(key, fresh.variables, fresh.hparams, fresh.batch, train=False).metrics["elbo"])
    )(keys)
    weights = np.asarray(fresh.log_weights(2000))
    error = np.sqrt((np.var(weights, axis=0) + np.var(elbo, axis=0)) / 2000)
    assert np.all(np.abs(weights.mean(0) - elbo.mean(0)) < 5 * error)
    q = fresh.encode()
    prior = hierarchy.TopDownPrior(q.params, jnp.ones(()), q.network)
    z, log_q = jax.jit(lambda q: q.sample_and_log_prob(KEY, (3,)))(q)
    log_pz = jax.jit(lambda prior, z: prior.log_prob(z))(prior, z)
    np.testing.assert_allclose(fresh.log_weights(3), fresh.log_px(z) + log_pz - log_q, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_batch_statistics(fresh):
    """Training uses the batch's own moments and tracks them; evaluation uses those tracked, and leaves them."""
    tracked = fresh.outcome(train=True).state["up_0_first"]
    y = np.asarray(fresh.batch["x"]).reshape(8, -1) @ np.asarray(fresh.params["network"]["up_0"]["first"]["kernel"])
    np.testing.assert_allclose(tracked["mean"], (1 - STATISTICS_DECAY) * y.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tracked["variance"], STATISTICS_DECAY + (1 - STATISTICS_DECAY) * y.var(0), rtol=1e-4)
    same = fresh.outcome(train=False).state
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(fresh.variables.state), strict=True)
    )
    network = LadderNetwork((3,), (5,), (2,), 1)
    params, statistics = network.init(KEY)
    x = jax.random.normal(KEY, (64, 3))
    centred, _ = network.bottom_up(params, statistics, 100.0 + 7.0 * x, train=True)
    plain, _ = network.bottom_up(params, statistics, x, train=True)
    np.testing.assert_allclose(
        centred[0], plain[0], rtol=1e-2, atol=1e-2
    )  # what is normalised knows no shift and no scale


def test_without_batch_statistics_there_is_no_state():
    fresh = Fresh(ladder_vae, WARM, batch_norm=False)
    assert not jax.tree.leaves(fresh.variables.state)
    assert np.isfinite(fresh.outcome().losses["vae"])


def test_the_kl_is_warmed_up():
    schedules = as_schedules(ladder_vae.HParams())
    assert [float(resolve(schedules, step).beta) for step in (0, 500, 1000, 5000)] == [0.0, 0.5, 1.0, 1.0]
    cold = Fresh(ladder_vae)
    outcome = cold.outcome()
    np.testing.assert_allclose(outcome.losses["vae"], np.mean(outcome.metrics["reconstruction"]), rtol=1e-6)


@pytest.mark.slow
def test_real_vectors():
    fresh = Fresh(ladder_vae, WARM, batch=REALS, spec=REAL)
    assert fresh.encode().mean.shape == (8, 3) and fresh.log_weights(2).shape == (2, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": (8,)}, "2 layers and --hidden=8 1 widths"),
        ({"hidden": (), "latents": ()}, "give equally many"),
        ({"latents": (2, 0)}, "expected numbers of at least 1"),
        ({"activation": "rely"}, "did you mean relu"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        ladder_vae.Config(**{**ladder_vae.TINY, **changes})
