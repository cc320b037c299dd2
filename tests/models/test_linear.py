"""Linear models against closed forms: the subspace of PCA, the maximum likelihood of probabilistic PCA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import probabilistic_pca
from scipy import linalg, stats

from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.autoencoders import _linear as linear
from vaex.models.autoencoders import linear_autoencoder, linear_vae, mcem, wake_sleep
from vaex.schedules import cosine, resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("vectors", (6,), "real")
GENERATOR = np.random.default_rng(0)
X = (
    GENERATOR.normal(size=(100, 6)) * [1.5, 1.0, 0.5, 0.3, 0.3, 0.3] @ np.linalg.qr(GENERATOR.normal(size=(6, 6)))[0]
    + 2.0
)
BATCH = {"x": jnp.asarray(X, jnp.float32)}
KEY = jax.random.key(0)


def model(module, **changes):
    """Build a model of two latents: its recipe, first variables and hyperparameters."""
    recipe = module.build(module.Config(**{"latent_dim": 2, **changes}), SPEC)
    values = resolve(as_schedules(module.HParams()), 0)
    return recipe, recipe.stages[0].model.init(KEY, BATCH), values


def trained(module, steps=1000, **changes):
    """Train a model on full batches until its loss is at the minimum."""
    recipe, _, _ = model(module, **changes)
    algorithm = recipe.stages[0].algorithm
    state = algorithm.init(KEY, module.HParams(learning_rate=cosine(0.05, 0.0, steps)), BATCH)
    run = jax.jit(lambda state: jax.lax.fori_loop(0, steps, lambda _, s: algorithm.step(s, BATCH)[0], state))
    state = run(state)
    return recipe, state.variables, resolve(state.hparams, steps)


def affine(recipe, variables, hparams):
    """Return W [values, d], m [values] and the variance of the likelihood."""
    means = recipe.model.decode(variables, hparams, jnp.concatenate([jnp.zeros((1, 2)), jnp.eye(2)]), {})
    mean = np.asarray(means.mean, np.float64)
    return (mean[1:] - mean[0]).T, mean[0], float(means.variance[0, 0])


@pytest.mark.slow
def test_the_linear_vae_reaches_probabilistic_pca():
    recipe, variables, hparams = trained(linear_vae)
    weights, mean, variance = probabilistic_pca(X, 2)
    best = stats.multivariate_normal(mean, weights @ weights.T + variance * np.eye(6)).logpdf(X)
    metrics = recipe.stages[0].model.objective(KEY, variables, hparams, BATCH, train=False).metrics
    np.testing.assert_allclose(metrics["exact_log_likelihood"].mean(), best.mean(), atol=0.001)
    np.testing.assert_allclose(
        metrics["elbo"].mean(), best.mean(), atol=0.002
    )  # tight at the maximum, D diagonal or not
    loadings, offset, noise = affine(recipe, variables, hparams)
    assert np.degrees(linalg.subspace_angles(loadings, weights)).max() < 0.1
    np.testing.assert_allclose(noise, variance, rtol=1e-3)
    np.testing.assert_allclose(offset, mean, atol=0.01)
    gram = loadings.T @ loadings  # the latents are the principal components
    assert abs(gram[0, 1]) < 0.05 * np.diag(gram).min()


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "steps"), [("global", 1000), ("fixed", 4000)])
def test_the_linear_autoencoder_spans_the_principal_subspace(scale, steps):
    recipe, variables, hparams = trained(linear_autoencoder, steps, likelihood_scale=scale)
    loadings, _, _ = affine(recipe, variables, hparams)
    assert np.degrees(linalg.subspace_angles(loadings, probabilistic_pca(X, 2)[0])).max() < 0.1
    centred = X - X.mean(axis=0)
    discarded = np.linalg.svd(centred, compute_uv=False)[2:]
    reconstructed = recipe.model.decode(
        variables, hparams, recipe.model.encode(KEY, variables, hparams, BATCH).mean, BATCH
    ).mean
    np.testing.assert_allclose(np.sum((reconstructed - X) ** 2), np.sum(discarded**2), rtol=1e-3)


@pytest.mark.slow
def test_the_exact_log_likelihood_is_the_marginal_density():
    recipe, variables, hparams = model(linear_vae)
    weights, mean, variance = affine(recipe, variables, hparams)
    expected = stats.multivariate_normal(mean, weights @ weights.T + variance * np.eye(6)).logpdf(X)
    metrics = recipe.stages[0].model.objective(KEY, variables, hparams, BATCH, train=False).metrics
    np.testing.assert_allclose(metrics["exact_log_likelihood"], expected, rtol=1e-4)
    assert np.all(metrics["elbo"] <= metrics["exact_log_likelihood"])
    assert (
        "exact_log_likelihood"
        not in recipe.stages[0].model.objective(KEY, variables, hparams, BATCH, train=True).metrics
    )


@pytest.mark.slow
def test_the_expectation_in_closed_form_is_the_mean_over_samples():
    recipe, variables, hparams = model(linear_vae)
    sampled, _, _ = model(linear_vae, expectation="monte_carlo")
    exact = recipe.stages[0].model.objective(KEY, variables, hparams, BATCH, train=True)

    @jax.jit
    @jax.vmap
    def draw(key):
        return (
            sampled.stages[0].model.objective(key, variables, hparams, BATCH, train=True).metrics["reconstruction"][:20]
        )

    drawn = np.asarray(draw(jax.random.split(KEY, 4000)))
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert np.all(np.abs(drawn.mean(axis=0) - exact.metrics["reconstruction"][:20]) < 4.5 * error)
    np.testing.assert_allclose(exact.losses["vae"], -np.mean(exact.metrics["elbo"]), rtol=1e-5)


@pytest.mark.slow
def test_sigma_starts_wide_on_images_and_is_the_hyperparameter_where_it_is_fixed():
    images = Spec("images", (3, 2, 1), "grey", levels=17)
    batch = {"x": jnp.zeros((2, 3, 2, 1))}
    for changes, expected in (({}, 1.0), ({"likelihood_scale": "fixed"}, 0.09)):
        hparams = resolve(as_schedules(linear_vae.HParams(sigma=0.3)), 0)
        recipe = linear_vae.build(linear_vae.Config(latent_dim=2, **changes), images)
        variables = recipe.stages[0].model.init(KEY, batch)
        variance = recipe.model.decode(variables, hparams, jnp.zeros((1, 2)), {}).variance
        np.testing.assert_allclose(variance, expected, rtol=1e-5)


@pytest.mark.slow
def test_directions_are_the_principal_axes_of_what_is_decoded():
    recipe, variables, hparams = model(linear_vae)
    rotation = np.linalg.qr(GENERATOR.normal(size=(4, 4)))[0]

    class Decoded:
        def __init__(self, z):
            self.mean = (z @ jnp.asarray(rotation[:2], jnp.float32)).reshape(-1, 2, 2, 1) + 1.0

    grid = linear.directions(Decoded, jnp.diag(jnp.array([0.25, 4.0])))
    images = 2.0 * np.asarray(grid.images[0]).reshape(2, 4) - 1.0
    for image, axis in zip(images, rotation[1::-1], strict=True):
        axis = axis / axis[np.argmax(np.abs(axis))]
        np.testing.assert_allclose(image, axis, atol=1e-4)
    assert grid.column_labels == ("±2", "±0.5")
    drawn = recipe.figures["directions"](KEY, variables, hparams, BATCH)
    assert drawn.images.shape == (1, 2, 6)


@pytest.mark.slow
@pytest.mark.parametrize("module", [linear_autoencoder, linear_vae])
@pytest.mark.parametrize(
    ("changes", "spec", "message"),
    [
        ({"latent_dim": 6}, SPEC, "--latent_dim=6: expected fewer than the 6 values"),
        ({"latent_dim": 0}, SPEC, "--latent_dim=0"),
        ({"optimizer": "adan"}, SPEC, "did you mean adam"),
        ({}, Spec("grey", (9,), "grey", levels=17, binarize="dynamic"), "use --binarize=none"),
    ],
)
def test_invalid_options_and_data_are_refused(module, changes, spec, message):
    with pytest.raises(UserError, match=message):
        module.build(module.Config(**{"latent_dim": 2, **changes}), spec)


LINEAR = {"hidden": (), "likelihood": "gaussian", "posterior": "full"}


def test_wake_and_sleep_move_what_they_are_for():
    """The decoder's loss is the reconstruction; dreams do not depend on the data, and move the encoder alone."""
    recipe, variables, hparams = model(wake_sleep, **LINEAR)

    @jax.jit
    def losses(params, x):
        changed = variables._replace(params=params)
        outcome = recipe.model.objective(KEY, changed, hparams, {"x": x}, train=True)
        return outcome.losses, outcome.metrics

    values, metrics = losses(variables.params, BATCH["x"])
    np.testing.assert_allclose(values["decoder"], np.mean(metrics["reconstruction"]), rtol=1e-6)
    np.testing.assert_allclose(losses(variables.params, BATCH["x"] + 3.0)[0]["encoder"], values["encoder"])
    slopes = jax.grad(lambda params: losses(params, BATCH["x"])[0]["encoder"])(variables.params)
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(slopes["decoder"]))
    assert any(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(slopes["encoder"]))


@pytest.mark.slow
def test_wake_and_sleep_reach_probabilistic_pca():
    """Where the posterior is in the family, both losses have one optimum: maximum likelihood, and a tight bound."""
    recipe, variables, hparams = trained(wake_sleep, 6000, **LINEAR)
    weights, mean, variance = probabilistic_pca(X, 2)
    best = stats.multivariate_normal(mean, weights @ weights.T + variance * np.eye(6)).logpdf(X).mean()
    elbo = [
        float(
            jnp.mean(
                recipe.model.objective(jax.random.key(seed), variables, hparams, BATCH, train=False).metrics["elbo"]
            )
        )
        for seed in range(20)
    ]
    np.testing.assert_allclose(np.mean(elbo), best, atol=0.05)


@pytest.mark.slow
def test_monte_carlo_em_reaches_probabilistic_pca():
    """Its chains draw from the exact posterior of a linear decoder, and their weights average to the exact likelihood."""
    linear = {"hidden": (), "likelihood": "gaussian", "temperatures": 40, "leapfrog_steps": 5, "updates": 3}
    recipe, variables, hparams = trained(mcem, 1500, **linear)
    weights, mean, variance = probabilistic_pca(X, 2)
    best = stats.multivariate_normal(mean, weights @ weights.T + variance * np.eye(6)).logpdf(X).mean()
    loadings, offset, noise = affine(recipe, variables, hparams)
    reached = stats.multivariate_normal(offset, loadings @ loadings.T + noise * np.eye(6)).logpdf(X)
    np.testing.assert_allclose(reached.mean(), best, atol=0.05)
    log_weights = jax.jit(recipe.model.log_weights, static_argnums=4)(KEY, variables, hparams, BATCH, 200)
    ratios = np.exp(np.asarray(log_weights, np.float64) - reached)
    error = ratios.mean(axis=1).std(ddof=1) / np.sqrt(200)
    np.testing.assert_allclose(ratios.mean(), 1.0, atol=4 * error)
    codes = recipe.model.encode(KEY, variables, hparams, BATCH)
    precision = np.eye(2) + loadings.T @ loadings / noise
    expected = np.linalg.solve(precision, loadings.T @ (X - offset).T / noise).T
    spread = np.sqrt(np.diag(np.linalg.inv(precision)))
    deviation = (np.asarray(codes.mean) - expected) / (spread / 4)  # of 16 chains
    assert np.abs(deviation).max() < 4.5
    np.testing.assert_allclose(np.asarray(codes.scale).mean(axis=0), spread, rtol=4 / np.sqrt(2 * 15))
