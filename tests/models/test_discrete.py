"""Categorical latents: codes, bounds against enumeration, what is relaxed and what is not, losses by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.fresh import BATCH, KEY, Fresh
from scipy.special import logsumexp
from scipy.stats import norm

from vaex.distributions import MultivariateNormal, Normal
from vaex.errors import UserError
from vaex.models.priors import gumbel_vae, joint_vae
from vaex.models.priors._categorical import OneHotCodes

LOGITS = jax.random.normal(jax.random.key(2), (4, 2, 3))
NORMAL = Normal(jnp.ones((4, 2)), log_scale=jnp.full((4, 2), -0.5))
ALL = np.array([np.concatenate([np.eye(3)[list(pair)]]).ravel() for pair in itertools.product(range(3), repeat=2)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "normal", [None, NORMAL, MultivariateNormal(NORMAL.mean, scale_tril=jnp.array([[1.0, 0.0], [0.5, 2.0]]))]
)
def test_codes_have_their_moments_and_densities(normal):
    codes = OneHotCodes(LOGITS, normal)
    d = 0 if normal is None else 2
    assert codes.batch_shape == (4,) and codes.event_shape == (d + 6,)
    z = np.asarray(codes.sample(KEY, (20_000,)))
    assert z.shape == (20_000, 4, d + 6)
    error = np.sqrt(codes.variance / len(z))
    assert np.all(np.abs(z.mean(0) - codes.mean) < 5 * error)
    np.testing.assert_allclose(z.var(0), codes.variance, rtol=0.1, atol=0.01)
    np.testing.assert_array_equal(z[..., d:].reshape(-1, 2, 3).sum(-1), 1.0)
    head = np.ones((9, 4, d))
    value = np.concatenate([head, np.tile(ALL[:, None], (1, 4, 1))], axis=-1)
    log_prob = np.asarray(codes.log_prob(value.astype(np.float32)))
    total = 0.0 if normal is None else np.asarray(normal.log_prob(jnp.ones((4, 2))))
    np.testing.assert_allclose(logsumexp(log_prob, axis=0), total + np.zeros(4), atol=1e-5)  # over all one-hots


@pytest.mark.slow
def test_relaxed_codes_go_to_one_hot_as_the_temperature_falls_and_discretizing_passes_gradients():
    codes = OneHotCodes(LOGITS, NORMAL)
    for temperature, least in ((0.002, 0.99), (1.0, 0.0)):
        z, logs = codes.relaxed(KEY, temperature)
        vectors = z[:, 2:].reshape(4, 2, 3)
        np.testing.assert_allclose(vectors, np.exp(logs), rtol=1e-5, atol=1e-30)  # subnormal numbers may be flushed
        np.testing.assert_allclose(vectors.sum(-1), 1.0, rtol=1e-5)
        assert np.mean(vectors.max(-1) > 0.9) >= least
    weights = jax.random.normal(KEY, (4, 8))
    gradients = []
    for hard in (False, True):

        def value(logits, hard=hard):
            moved = OneHotCodes(logits, NORMAL)
            z = moved.relaxed(KEY, 1.0)[0]
            return jnp.sum(weights * (moved.discretized(z) if hard else z))

        gradients.append(jax.grad(value)(LOGITS))
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-6)
    hard = np.asarray(codes.discretized(codes.relaxed(KEY, 1.0)[0]))[:, 2:].reshape(4, 2, 3)
    np.testing.assert_allclose(np.sort(hard, axis=-1), np.tile([0.0, 0.0, 1.0], (4, 2, 1)), atol=1e-6)


def enumerated(fresh):
    """log p(x, c) [9, b] of every code of two variables of three classes, exact."""
    z = jnp.asarray(np.tile(ALL[:, None], (1, BATCH, 1)), jnp.float32)
    return np.asarray(fresh.log_px(z), np.float64) - 2 * np.log(3), z


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"straight_through": True}, {"kl": "relaxed"}])
def test_elbo_and_log_weights_bound_the_discrete_model(changes):
    fresh = Fresh(gumbel_vae, **changes).jitter()
    joint, z = enumerated(fresh)
    log_q = np.asarray(fresh.encode().log_prob(z), np.float64)
    evidence = logsumexp(joint, axis=0)
    exact = np.sum(np.exp(log_q) * (joint - log_q), axis=0)  # the elbo, by enumeration
    assert np.all(exact < evidence)
    outcomes = [fresh.outcome(jax.random.key(seed), train=False).metrics["elbo"] for seed in range(300)]
    error = np.std(outcomes, axis=0) / np.sqrt(300)
    assert np.all(np.abs(np.mean(outcomes, axis=0) - exact) < 4.5 * error + 1e-4)
    log_weights = np.asarray(fresh.log_weights(4000), np.float64)
    assert np.all(np.abs(log_weights.mean(0) - exact) < 4.5 * log_weights.std(0) / np.sqrt(4000) + 1e-4)
    weights = np.exp(log_weights - evidence)
    assert np.all(np.abs(weights.mean(0) - 1.0) < 4.5 * weights.std(0) / np.sqrt(4000) + 1e-4)


@pytest.mark.slow
def test_only_exact_samples_are_called_an_elbo():
    for changes, exact in (
        ({}, False),
        ({"straight_through": True}, True),
        ({"straight_through": True, "kl": "relaxed"}, False),
    ):
        fresh = Fresh(gumbel_vae, **changes)
        train, evaluation = fresh.outcome().metrics, fresh.outcome(train=False).metrics
        assert ("elbo" in train) == exact and ("relaxed_elbo" in train) != exact
        assert "elbo" in evaluation and "relaxed_elbo" not in evaluation
        np.testing.assert_allclose(
            fresh.outcome().losses["vae"], -np.mean(train["elbo" if exact else "relaxed_elbo"]), rtol=1e-6
        )


@pytest.mark.slow
def test_kl_is_exact_or_that_of_the_relaxed_samples():
    fresh = Fresh(gumbel_vae, gumbel_vae.HParams(temperature=0.7, prior_temperature=0.4)).jitter()
    share = np.asarray(fresh.encode().categorical.probabilities, np.float64)
    exact = np.sum(share * np.log(share), axis=(1, 2)) + 2 * np.log(3)
    np.testing.assert_allclose(fresh.outcome().metrics["kl"], exact, rtol=1e-4)
    relaxed = Fresh(gumbel_vae, gumbel_vae.HParams(temperature=0.7, prior_temperature=0.4), kl="relaxed").jitter()
    logs = np.asarray(relaxed.encode().relaxed(KEY, 0.7)[1], np.float64)

    def log_density(logits, temperature):
        """Maddison et al. 2017, appendix C.3, up to a constant of the number of classes."""
        scores = logits - temperature * logs
        return 2 * np.log(temperature) * np.ones(BATCH)[:, None] + scores.sum(-1) - 3 * logsumexp(scores, axis=-1)

    by_hand = log_density(np.log(share), 0.7) - log_density(np.zeros_like(share), 0.4)
    np.testing.assert_allclose(relaxed.outcome().metrics["kl"], by_hand.sum(-1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(relaxed.outcome(train=False).metrics["kl"], exact, rtol=1e-4)


@pytest.mark.slow
def test_temperature_changes_training_and_nothing_else():
    cold, warm = (Fresh(gumbel_vae, gumbel_vae.HParams(temperature=t)).jitter() for t in (0.1, 5.0))
    assert abs(cold.outcome().losses["vae"] - warm.outcome().losses["vae"]) > 1e-3
    np.testing.assert_array_equal(cold.outcome(train=False).losses["vae"], warm.outcome(train=False).losses["vae"])


def test_classes_used_tells_a_collapsed_variable():
    fresh = Fresh(gumbel_vae)
    head = fresh.params["encoder"]["output"]
    uniform = {"kernel": jnp.zeros_like(head["kernel"]), "bias": jnp.zeros_like(head["bias"])}
    for bias, expected in ((head["bias"] * 0.0, 3.0), (jnp.array([50.0, 0.0, 0.0] * 2), 1.0)):
        fresh.replace(encoder={**fresh.params["encoder"], "output": {**uniform, "bias": bias}})
        np.testing.assert_allclose(fresh.outcome().metrics["classes_used"], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_joint_loss_is_drawn_to_both_capacities(posterior):
    hparams = joint_vae.HParams(continuous_capacity=3.0, discrete_capacity=100.0, gamma=7.0)
    fresh = Fresh(joint_vae, hparams, variables=2, posterior=posterior).jitter()
    metrics, loss = fresh.outcome().metrics, fresh.outcome().losses["vae"]
    q = fresh.encode()
    share = np.asarray(q.categorical.probabilities, np.float64)
    discrete = np.sum(share * np.log(share), axis=(1, 2)) + 2 * np.log(3)
    np.testing.assert_allclose(metrics["discrete_kl"], discrete, rtol=1e-4)
    if posterior == "diagonal":
        mean, scale = np.asarray(q.normal.mean, np.float64), np.exp(np.asarray(q.normal.log_scale, np.float64))
        continuous = 0.5 * np.sum(mean**2 + scale**2 - 1 - 2 * np.log(scale), axis=-1)
        np.testing.assert_allclose(metrics["continuous_kl"], continuous, rtol=1e-4)
    else:
        assert np.shape(q.normal.scale_tril) == (BATCH, 2, 2)
    np.testing.assert_allclose(metrics["kl"], metrics["continuous_kl"] + metrics["discrete_kl"], rtol=1e-5)
    # the discrete capacity stops at what two variables of three classes hold
    distances = abs(np.mean(metrics["continuous_kl"]) - 3.0) + abs(np.mean(discrete) - 2 * np.log(3))
    np.testing.assert_allclose(loss, np.mean(metrics["reconstruction"]) + 7.0 * distances, rtol=1e-4)


@pytest.mark.slow
def test_joint_log_weights_are_those_of_both_kinds_of_latents():
    fresh = Fresh(joint_vae, variables=2).jitter()
    q = fresh.encode()
    z = np.asarray(q.sample(KEY, (5,)))
    share = np.asarray(q.categorical.log_probabilities, np.float64)
    log_q = (z[..., 2:].reshape(5, BATCH, 2, 3) * share).sum((-2, -1)) + np.asarray(q.normal.log_prob(z[..., :2]))
    log_p = norm.logpdf(z[..., :2]).sum(-1) - 2 * np.log(3)
    np.testing.assert_allclose(fresh.log_weights(5), fresh.log_px(z) + log_p - log_q, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_figures_of_codes_and_classes():
    fresh = Fresh(gumbel_vae).jitter()
    grid = fresh.figure("codes", y=np.arange(BATCH))
    assert grid.images.shape == (1, BATCH, 2, 3, 1) and grid.column_labels == tuple("01234567")
    np.testing.assert_allclose(grid.images[0, :, :, :, 0], fresh.encode().categorical.probabilities, rtol=1e-5)
    grid = Fresh(joint_vae, variables=2, classes=4).figure("classes")
    assert grid.images.shape == (4, 10, 4, 4, 1) and grid.row_labels[-1] == "class 3"


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (gumbel_vae, {"classes": 1}, "--classes=1: expected at least 2"),
        (gumbel_vae, {"latent_dim": 0}, "--latent_dim=0"),
        (joint_vae, {"variables": 0}, "--variables=0: expected at least 1"),
    ],
)
def test_configs_out_of_range_are_refused(module, changes, message):
    with pytest.raises(UserError, match=message):
        module.Config(**changes)
