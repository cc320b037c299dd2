"""VAEs whose prior is a mixture: densities by hand, the one-component case, what pseudo-inputs start from and stay within."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.fresh import BATCH, KEY, REAL, REALS, Fresh, X
from scipy.special import logsumexp
from scipy.stats import norm

from vaex.errors import UserError
from vaex.models.autoencoders import vae
from vaex.models.priors import mixture_vae, vamp_vae
from vaex.models.priors.vamp_vae import starts


def by_hand(fresh, log_prior, k=5):
    """Log weights of the samples that ``log_weights`` draws with KEY, for a density [k, b] of the prior."""
    posterior = fresh.encode()
    z = posterior.sample(KEY, (k,))
    return np.asarray(fresh.log_px(z) + log_prior(np.asarray(z, np.float64)) - posterior.log_prob(z))


@pytest.mark.slow
@pytest.mark.parametrize("posterior", ["diagonal", "full", "fixed"])
def test_vamp_prior_is_the_mean_of_the_posteriors_at_the_pseudo_inputs(posterior):
    fresh = Fresh(vamp_vae, components=5, posterior=posterior).jitter()
    inputs = jnp.clip(fresh.params["prior"]["inputs"], 0.0, 1.0)
    at_inputs = fresh.encode(inputs)

    def log_prior(z):
        z = jnp.asarray(z, jnp.float32)[..., None, :]
        return logsumexp(np.asarray(at_inputs.log_prob(z), np.float64), axis=-1) - np.log(5)

    np.testing.assert_allclose(fresh.log_weights(5), by_hand(fresh, log_prior), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_objective_is_the_elbo_of_the_samples_that_the_decoder_sees():
    fresh = Fresh(vamp_vae, num_samples=3).jitter()
    outcome = fresh.outcome()
    weights = fresh.log_weights(3)  # with the objective's key, so of the same samples
    np.testing.assert_allclose(outcome.metrics["elbo"], weights.mean(0), rtol=1e-4)
    np.testing.assert_allclose(outcome.losses["vae"], -weights.mean(), rtol=1e-4)
    elbo = -outcome.metrics["reconstruction"] - outcome.metrics["kl"]
    np.testing.assert_allclose(outcome.metrics["elbo"], elbo, rtol=1e-4)


@pytest.mark.slow
def test_pseudo_inputs_of_images_are_used_within_zero_and_one():
    fresh = Fresh(vamp_vae)
    shape = fresh.params["prior"]["inputs"].shape
    weights = []
    for value in (1.0, 4.0, -4.0, 0.0):
        fresh.replace(prior={"inputs": jnp.full(shape, value)})
        weights.append(fresh.log_weights(3))
        images = fresh.figure("pseudo_inputs").images
        assert float(images.min()) >= 0.0 and float(images.max()) <= 1.0
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[2], weights[3])
    assert np.abs(weights[0] - weights[3]).max() > 1e-3
    real = Fresh(vamp_vae, batch=REALS, spec=REAL)
    unclipped = real.log_weights(3)
    real.replace(prior={"inputs": jnp.clip(real.params["prior"]["inputs"], 0.0, 1.0)})
    assert np.abs(unclipped - real.log_weights(3)).max() > 1e-3  # numbers are not clipped


@pytest.mark.slow
def test_pseudo_inputs_start_at_examples_or_like_them():
    x = X["x"]
    np.testing.assert_array_equal(starts(KEY, x, 3, "examples"), x[:3])
    many = np.asarray(starts(KEY, x, 50, "examples"))
    np.testing.assert_array_equal(many[:BATCH], x)
    flat, rest = np.asarray(x).reshape(BATCH, -1), many[BATCH:].reshape(42, -1)
    assert len(np.unique(rest, axis=0)) == 42
    for row in rest:  # each lies on the line between two examples
        errors = [
            np.abs(np.linalg.lstsq(flat[[i, j]].T, row, rcond=None)[0] @ flat[[i, j]] - row).max()
            for i in range(BATCH)
            for j in range(BATCH)
        ]
        assert min(errors) < 1e-5
    noise = np.asarray(starts(KEY, REALS["x"], 5000, "noise"))
    np.testing.assert_allclose(noise.mean(0), REALS["x"].mean(0), atol=0.25)
    np.testing.assert_allclose(noise.std(0), REALS["x"].std(0), rtol=0.06)
    assert not np.array_equal(starts(KEY, x, 4, "noise"), starts(jax.random.key(1), x, 4, "noise"))


def test_pseudo_inputs_are_learned():
    gradient = Fresh(vamp_vae).jitter(0.1).gradients()["prior"]["inputs"]
    assert np.abs(gradient).max() > 1e-6


@pytest.mark.slow
def test_mixture_prior_is_the_weighted_sum_of_its_components():
    fresh = Fresh(mixture_vae, components=3).jitter()
    prior = {name: np.asarray(value, np.float64) for name, value in fresh.params["prior"].items()}
    weights = prior["logits"] - logsumexp(prior["logits"])
    scales = np.exp(7 * np.tanh(prior["log_scales"] / 7))

    def log_prior(z):
        return logsumexp(weights + norm.logpdf(z[..., None, :], prior["means"], scales).sum(-1), axis=-1)

    np.testing.assert_allclose(fresh.log_weights(5), by_hand(fresh, log_prior), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_one_standard_component_is_the_plain_vae(posterior):
    fresh = Fresh(mixture_vae, components=1, posterior=posterior)
    plain = Fresh(vae, posterior=posterior, kl="monte_carlo")
    zeros = jax.tree.map(jnp.zeros_like, fresh.params["prior"])
    fresh.replace(prior=zeros)
    np.testing.assert_allclose(fresh.log_weights(4), plain.log_weights(4), rtol=1e-5)
    np.testing.assert_allclose(fresh.outcome().losses["vae"], plain.outcome().losses["vae"], rtol=1e-6)
    np.testing.assert_allclose(fresh.outcome().metrics["components_used"], 1.0, rtol=1e-5)


def test_components_used_counts_the_components_that_the_batch_falls_into():
    fresh = Fresh(mixture_vae, components=6)
    far = jnp.full((6, 2), 1e3).at[:2].set(jnp.asarray([[0.0, 0.0], [0.0, 0.0]]))
    fresh.replace(prior={**fresh.params["prior"], "means": far})
    np.testing.assert_allclose(fresh.outcome().metrics["components_used"], 2.0, rtol=1e-3)


@pytest.mark.slow
def test_figures_of_the_components():
    grid = Fresh(vamp_vae, components=30).figure("pseudo_inputs")
    assert grid.images.shape == (5, 12, 4, 4, 1) and grid.row_labels[:2] == ("pseudo-input", "sample")
    fresh = Fresh(mixture_vae, components=3)
    fresh.replace(prior={**fresh.params["prior"], "logits": jnp.log(jnp.array([0.2, 0.7, 0.1]))})
    grid = fresh.figure("components")
    assert grid.row_labels == ("weight 0.700", "weight 0.200", "weight 0.100") and grid.images.shape[:2] == (3, 9)
    first = fresh.recipe.model.decode(fresh.variables, fresh.hparams, fresh.params["prior"]["means"][1], {}).mean
    np.testing.assert_allclose(grid.images[0, 0], first, rtol=1e-5)


@pytest.mark.parametrize("module", [vamp_vae, mixture_vae])
def test_no_component_is_refused(module):
    with pytest.raises(UserError, match="--components=0: expected at least 1"):
        module.Config(components=0)
    with pytest.raises(UserError, match="--num_samples=0"):
        module.Config(num_samples=0)
