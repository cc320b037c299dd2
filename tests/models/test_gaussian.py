"""Gaussian VAEs against closed forms: posteriors, both estimates of the KL divergence, losses of the variants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import gaussian
from vaex.models.autoencoders import autoencoder, ms_ssim_vae, vae
from vaex.models.disentangling import annealed_vae, beta_vae
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("random", (8, 8, 1), "binary", levels=2)
X = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 2, (16, 8, 8, 1)), jnp.float32)}
KEY = jax.random.key(0)


def outcome(module, hparams=None, **changes):
    """Evaluate a model's objective at its first parameters, with the hyperparameters of step 10."""
    recipe = module.build(module.Config(**{**gaussian.TINY, **changes}), SPEC)
    stage = recipe.stages[0]
    values = resolve(as_schedules(hparams or module.HParams()), 10)
    variables = stage.model.init(KEY, X)
    return recipe, variables, values, stage.model.objective(KEY, variables, values, X, train=True)


@pytest.mark.slow
def test_losses_of_the_variants():
    _, _, _, plain = outcome(vae)
    np.testing.assert_allclose(plain.losses["vae"], -np.mean(plain.metrics["elbo"]), rtol=1e-6)
    np.testing.assert_allclose(plain.metrics["elbo"], -plain.metrics["reconstruction"] - plain.metrics["kl"], rtol=1e-5)
    _, _, _, beta = outcome(beta_vae, beta_vae.HParams(beta=3.0))
    expected = np.mean(beta.metrics["reconstruction"] + 3.0 * beta.metrics["kl"])
    np.testing.assert_allclose(beta.losses["vae"], expected, rtol=1e-6)
    _, _, _, annealed = outcome(annealed_vae, annealed_vae.HParams(capacity="ramp:0:10:20", gamma=7.0))
    kl = np.mean(annealed.metrics["kl"])
    expected = np.mean(annealed.metrics["reconstruction"]) + 7.0 * abs(kl - 5.0)
    np.testing.assert_allclose(annealed.losses["vae"], expected, rtol=1e-6)
    _, _, _, point = outcome(autoencoder)
    np.testing.assert_allclose(point.losses["autoencoder"], np.mean(point.metrics["reconstruction"]), rtol=1e-6)
    assert set(point.metrics) == {"reconstruction"}


@pytest.mark.slow
@pytest.mark.parametrize("posterior", ["diagonal", "full", "fixed"])
def test_monte_carlo_kl_agrees_with_the_closed_form(posterior):
    hparams = beta_vae.HParams(posterior_scale=0.7)
    exact = outcome(beta_vae, hparams, posterior=posterior, latent_dim=3)[3].metrics["kl"]
    drawn = outcome(beta_vae, hparams, posterior=posterior, latent_dim=3, kl="monte_carlo", num_samples=4000)[
        3
    ].metrics["kl"]
    assert exact.shape == drawn.shape == (16,)
    # log q(z) - log p(z) at 4,000 draws: its deviation is at most a few nats, so this is over four standard errors
    np.testing.assert_allclose(drawn, exact, atol=4 * 3.0 / np.sqrt(4000))
    assert np.all(np.asarray(exact) > 0)


@pytest.mark.slow
def test_posteriors_have_the_covariance_they_are_named_for():
    for posterior in ("diagonal", "full", "fixed"):
        family = gaussian.gaussian_posterior(posterior, 3)
        raw = jax.random.normal(KEY, (1, family.features))
        q = family.distribution((), beta_vae.HParams(posterior_scale=0.5), raw)
        z = np.asarray(q.sample(jax.random.key(1), (200_000,)))[:, 0]
        covariance = np.cov(z.T)
        off = np.abs(covariance - np.diag(np.diag(covariance))).max()
        np.testing.assert_allclose(np.diag(covariance), q.variance[0], rtol=0.03)
        assert (off > 0.05) == (posterior == "full")
        if posterior == "fixed":
            np.testing.assert_allclose(q.variance, 0.25, rtol=1e-5)


@pytest.mark.slow
def test_log_weights_are_the_joint_minus_the_posterior():
    recipe, variables, hparams, _ = outcome(vae, latent_dim=2)
    posterior = recipe.model.encode(KEY, variables, hparams, X)
    z = posterior.sample(KEY, (5,))
    by_hand = (
        recipe.model.decode(variables, hparams, z, X).log_prob(X["x"])
        - 0.5 * jnp.sum(z**2, -1)
        - jnp.log(2 * jnp.pi)
        - posterior.log_prob(z)
    )
    np.testing.assert_allclose(recipe.model.log_weights(KEY, variables, hparams, X, 5), by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_training_raises_the_bound_and_beta_lowers_the_kl():
    last_metrics = {}
    for beta in (0.5, 8.0):
        recipe = beta_vae.build(beta_vae.Config(**gaussian.TINY), SPEC)
        algorithm = recipe.stages[0].algorithm
        state = algorithm.init(KEY, beta_vae.HParams(beta=beta, learning_rate=0.01), X)
        step = jax.jit(algorithm.step)
        first = step(state, X)[1]
        for _ in range(150):
            state, metrics = step(state, X)
        last_metrics[beta] = metrics
        assert metrics["loss"] < first["loss"]
    assert last_metrics[8.0]["kl"] < last_metrics[0.5]["kl"] - 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 0}, "latent_dim=0"),
        ({"num_samples": 0}, "num_samples=0"),
        ({"hidden": (5, 0)}, "hidden=5x0"),
        ({"network": "conv", "hidden": ()}, "at least one width"),
        ({"activation": "rellu"}, "did you mean relu"),
        ({"optimizer": "adan"}, "did you mean adam"),
    ],
)
def test_configs_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        gaussian.Config(**changes)


def test_conv_needs_images_of_eight():
    with pytest.raises(UserError, match="at least 8x8"):
        vae.build(vae.Config(network="conv"), SPEC._replace(shape=(8, 7, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"num_samples": 3}, {"likelihood_scale": "fixed"}])
def test_ms_ssim_trains_all_but_the_scale_on_similarity_and_the_scale_on_the_likelihood(changes):
    weight = 7.0
    recipe, variables, values, out = outcome(ms_ssim_vae, ms_ssim_vae.HParams(similarity_weight=weight), **changes)
    metrics = out.metrics
    expected = np.mean(weight * (1 - metrics["ms_ssim"]) + metrics["kl"] + metrics["reconstruction"])
    np.testing.assert_allclose(out.losses["vae"], expected, rtol=1e-5)

    def value(params, name):
        changed = variables._replace(params={"vae": params})
        out = recipe.stages[0].model.objective(KEY, changed, values, X, train=True)
        return out.losses["vae"] if name == "loss" else jnp.mean(out.metrics[name])

    loss, similarity, kl, reconstruction = (
        jax.grad(value)(variables.params["vae"], name) for name in ("loss", "ms_ssim", "kl", "reconstruction")
    )
    for group in ("encoder", "decoder"):
        expected_gradient = jax.tree.map(lambda s, k: -weight * s + k, similarity[group], kl[group])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), loss[group], expected_gradient)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), loss["likelihood"], reconstruction["likelihood"]
    )


def test_ms_ssim_needs_images_of_its_window():
    for shape in ((6, 8, 1), (5,)):
        with pytest.raises(UserError, match="window of 7 pixels"):
            ms_ssim_vae.build(ms_ssim_vae.Config(), Spec("small", shape, "real"))
