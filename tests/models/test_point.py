"""Autoencoders with point codes: what each adds to a plain autoencoder, against values computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.autoencoders import _code_density as density
from vaex.models.autoencoders import _point as point
from vaex.models.autoencoders import (
    autoencoder,
    contractive_autoencoder,
    denoising_autoencoder,
    k_sparse_autoencoder,
    regularized_autoencoder,
    sparse_autoencoder,
)
from vaex.schedules import ramp, resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("random", (8, 8, 1), "grey", levels=256)
X = {"x": jnp.asarray(np.random.default_rng(0).random((16, 8, 8, 1)), jnp.float32)}
KEY = jax.random.key(0)
TINY = {"latent_dim": 4, "hidden": (8,), "likelihood": "gaussian"}


class Untrained:
    """Model at its first parameters, with its hyperparameters at step 10."""

    def __init__(self, module, hparams=None, spec=SPEC, **changes):
        self.recipe = module.build(module.Config(**{**TINY, **changes}), spec)
        self.model = self.recipe.stages[0].model
        self.hparams = resolve(as_schedules(hparams or module.HParams()), 10)
        self.variables = jax.jit(self.model.init)(KEY, X)
        self._objective = jax.jit(self.model.objective, static_argnames="train")
        self._codes = jax.jit(lambda x: self.recipe.model.encode(KEY, self.variables, self.hparams, {"x": x}).mean)

    def outcome(self, x=X["x"], *, train=True):
        return self._objective(KEY, self.variables, self.hparams, {"x": x}, train=train)

    def codes(self, x=X["x"]):
        return self._codes(x)

    def loss(self, z, x=X["x"]):
        return -self.recipe.model.decode(self.variables, self.hparams, z, {}).log_prob(x)


# --- common to all ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_plain_loss_and_the_tracked_moments():
    model = Untrained(autoencoder)
    outcome = model.outcome()
    z = np.asarray(model.codes())
    np.testing.assert_allclose(outcome.losses["autoencoder"], np.mean(model.loss(z)), rtol=1e-6)
    np.testing.assert_allclose(outcome.metrics["reconstruction"], model.loss(z), rtol=1e-6)
    np.testing.assert_allclose(outcome.state["mean"], 0.01 * z.mean(0), rtol=1e-4, atol=1e-6)
    covariance = 0.99 * np.eye(4) + 0.01 * np.cov(z.T, bias=True)
    np.testing.assert_allclose(outcome.state["covariance"], covariance, rtol=1e-5, atol=1e-6)
    unchanged = model.outcome(train=False).state
    assert all(np.array_equal(unchanged[name], model.variables.state[name]) for name in unchanged)


@pytest.mark.slow
@pytest.mark.parametrize("module", [autoencoder, k_sparse_autoencoder, sparse_autoencoder])
def test_samples_are_decoded_from_codes_made_of_the_tracked_gaussian(module):
    model = Untrained(
        module, **({} if module is not k_sparse_autoencoder else {"hparams": module.HParams(num_active=2)})
    )
    raw = jnp.array([0.5, -0.3, 1.0, 0.1])
    state = model.variables.state | {"mean": raw, "covariance": jnp.zeros((4, 4))}
    drawn = model.recipe.model.sample(KEY, model.variables._replace(state=state), model.hparams, 3).mean
    z = {"autoencoder": raw, "k_sparse_autoencoder": raw * jnp.array([1, 0, 1, 0])}
    code = z.get(module.__name__.split(".")[-1], jax.nn.sigmoid(raw))
    expected = model.recipe.model.decode(model.variables, model.hparams, jnp.tile(code, (3, 1)), {}).mean
    np.testing.assert_allclose(drawn, expected, atol=0.02)  # a millionth is added to the covariance


# --- denoising --------------------------------------------------------------------------------------------------------


def test_corruptions_are_what_they_are_called():
    x = jnp.full((40, 8, 8, 1), 0.25)
    hparams = denoising_autoencoder.HParams(noise_scale=0.5, corruption_rate=0.3)
    corrupted = {
        kind: np.asarray(denoising_autoencoder.corruption(kind)(KEY, hparams, x)).ravel()
        for kind in ("gaussian", "masking", "salt_and_pepper")
    }
    n = x.size
    tolerance = 4.5 * np.sqrt(0.25 / n)  # of shares, over four standard errors
    np.testing.assert_allclose(corrupted["gaussian"].mean(), 0.25, atol=4.5 * 0.5 / np.sqrt(n))
    np.testing.assert_allclose(corrupted["gaussian"].std(), 0.5, rtol=4.5 / np.sqrt(2 * n))
    shares = {kind: {value: np.mean(corrupted[kind] == value) for value in (0.0, 0.25, 1.0)} for kind in corrupted}
    np.testing.assert_allclose(list(shares["masking"].values()), [0.3, 0.7, 0.0], atol=tolerance)
    np.testing.assert_allclose(list(shares["salt_and_pepper"].values()), [0.15, 0.7, 0.15], atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "masking", "salt_and_pepper"])
def test_denoising_reconstructs_the_clean_image(kind):
    model = Untrained(denoising_autoencoder, corruption=kind)
    trained, evaluated = model.outcome(), model.outcome(train=False)
    noisy = denoising_autoencoder.corruption(kind)(jax.random.fold_in(KEY, 1), model.hparams, X["x"])
    np.testing.assert_allclose(trained.metrics["denoising"], model.loss(model.codes(noisy)), rtol=1e-5)
    np.testing.assert_allclose(trained.losses["autoencoder"], np.mean(trained.metrics["denoising"]), rtol=1e-6)
    np.testing.assert_allclose(evaluated.metrics["reconstruction"], model.loss(model.codes()), rtol=1e-5)
    assert set(trained.metrics) == {"denoising"} and set(evaluated.metrics) == {"denoising", "reconstruction"}
    still = Untrained(
        denoising_autoencoder, denoising_autoencoder.HParams(noise_scale=0.0, corruption_rate=0.0), corruption=kind
    )
    clean = still.outcome(train=False).metrics
    np.testing.assert_allclose(clean["denoising"], clean["reconstruction"], rtol=1e-6)
    rows = model.recipe.figures["denoised"](KEY, model.variables, model.hparams, X)
    assert rows.images.shape == (3, 10, 8, 8, 1) and rows.row_labels == ("original", "corrupted", "denoised")


def test_real_numbers_have_no_salt_and_pepper():
    config = denoising_autoencoder.Config(corruption="salt_and_pepper")
    with pytest.raises(UserError, match="--corruption=salt_and_pepper sets values to 0 or 1"):
        denoising_autoencoder.build(config, Spec("vectors", (5,), "real"))


# --- sparse -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_sparsity_penalties():
    hparams = sparse_autoencoder.HParams(kl_weight=7.0, l1_weight=3.0, target_activation=0.2)
    model = Untrained(sparse_autoencoder, hparams)
    z = np.asarray(model.codes(), np.float64)
    assert np.all((z > 0) & (z < 1))
    mean = z.mean(axis=0)
    kl = np.sum(special.rel_entr(0.2, mean) + special.rel_entr(0.8, 1 - mean))
    outcome = model.outcome()
    np.testing.assert_allclose(outcome.metrics["sparsity_kl"], kl, rtol=1e-4)
    np.testing.assert_allclose(outcome.losses["autoencoder"], np.mean(model.loss(z)) + 7.0 * kl, rtol=1e-5)
    np.testing.assert_allclose(outcome.metrics["mean_activation"], z.mean(axis=1), rtol=1e-5)
    model = Untrained(sparse_autoencoder, hparams, sparsity="l1")
    z, outcome = np.asarray(model.codes()), model.outcome()
    assert np.all(z >= 0) and np.any(z == 0)
    np.testing.assert_allclose(outcome.metrics["l1"], z.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(outcome.metrics["zeros"], np.mean(z == 0, axis=1), rtol=1e-5)
    np.testing.assert_allclose(outcome.losses["autoencoder"], np.mean(model.loss(z) + 3.0 * z.sum(axis=1)), rtol=1e-5)
    none = Untrained(sparse_autoencoder, hparams, sparsity="none").outcome()
    np.testing.assert_allclose(none.losses["autoencoder"], np.mean(none.metrics["reconstruction"]), rtol=1e-6)


@pytest.mark.slow
def test_dropout_zeroes_codes_in_training_only_and_keeps_their_mean():
    hparams = sparse_autoencoder.HParams(dropout_rate=0.25)
    model = Untrained(sparse_autoencoder, hparams, sparsity="none", dropout=True)
    plain = Untrained(sparse_autoencoder, hparams, sparsity="none")
    np.testing.assert_array_equal(
        model.outcome(train=False).losses["autoencoder"], plain.outcome().losses["autoencoder"]
    )
    assert abs(model.outcome().losses["autoencoder"] - plain.outcome().losses["autoencoder"]) > 1e-4
    kept = np.asarray(jax.random.uniform(jax.random.fold_in(KEY, 2), (16, 4)) >= 0.25)
    expected = model.loss(jnp.where(kept, model.codes() / 0.75, 0.0))
    np.testing.assert_allclose(model.outcome().metrics["reconstruction"], expected, rtol=1e-5)
    assert 0.5 < kept.mean() < 0.95


@pytest.mark.slow
def test_training_brings_the_mean_activations_to_their_target():
    recipe = sparse_autoencoder.build(sparse_autoencoder.Config(**TINY), SPEC)
    algorithm = recipe.stages[0].algorithm
    hparams = sparse_autoencoder.HParams(target_activation=0.2, learning_rate=0.01, kl_weight=300.0)
    state = jax.jit(lambda s: jax.lax.fori_loop(0, 600, lambda _, state: algorithm.step(state, X)[0], s))(
        algorithm.init(KEY, hparams, X)
    )
    z = recipe.model.encode(KEY, state.variables, hparams, X).mean
    np.testing.assert_allclose(np.mean(z, axis=0), 0.2, rtol=0.1)
    bars = recipe.figures["activations"](KEY, state.variables, hparams, X).heights
    np.testing.assert_allclose(bars, 0.2, rtol=0.15)
    assert np.all(np.diff(bars) <= 0)


def test_features_are_the_visible_changes():
    """Draw two latents that move one pixel each, one of them beyond black, where nothing changes."""

    class Decoded:
        def __init__(self, z):
            self.mean = jnp.stack([0.2 * z[:, 0], 0.3 - 0.1 * z[:, 1], -0.5 - z[:, 1]], axis=1).reshape(-1, 1, 3, 1)

    z = jnp.array([[0.0, 1.0, 5.0], [1.0, 2.0, 5.0]])
    images = np.asarray(point.draw_features(Decoded, z, columns=2).images)
    assert images.shape == (2, 2, 1, 3, 1)
    rows = images.reshape(4, 3)
    np.testing.assert_allclose(rows[:3], [[1.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.5]], atol=1e-5)
    assert np.isnan(rows[3]).all()


# --- k-sparse ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "kept"), [(1, 1), (3, 3), (2.4, 2), (4, 4), (9, 4)])
def test_only_the_k_largest_codes_are_kept(k, kept):
    raw = jnp.asarray(np.random.default_rng(1).normal(size=(16, 4)), jnp.float32)
    kept_codes = np.asarray(k_sparse_autoencoder.keep_largest(k_sparse_autoencoder.HParams(num_active=k), raw))
    for row, codes in zip(np.asarray(raw), kept_codes, strict=True):
        largest = np.argsort(-row)[:kept]
        assert set(np.flatnonzero(codes)) == set(largest)
        np.testing.assert_array_equal(codes[largest], row[largest])


def test_equal_codes_are_not_kept_together_and_the_number_narrows():
    kept_codes = k_sparse_autoencoder.keep_largest(k_sparse_autoencoder.HParams(num_active=2), jnp.ones((1, 4)))
    np.testing.assert_array_equal(kept_codes, [[1.0, 1.0, 0.0, 0.0]])
    model = Untrained(k_sparse_autoencoder, k_sparse_autoencoder.HParams(num_active=ramp(4.0, 2.0, 20)))  # 3 at step 10
    metrics = model.outcome().metrics
    np.testing.assert_array_equal(metrics["active_codes"], np.full(16, 3.0))
    np.testing.assert_allclose(metrics["reconstruction"], model.loss(model.codes()), rtol=1e-6)


# --- contractive ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_jacobian_is_exact(network):
    model = Untrained(
        contractive_autoencoder, contractive_autoencoder.HParams(contraction=0.7), network=network, channels=(3,)
    )
    x = X["x"][:3]

    rows = np.stack([np.asarray(jax.jacrev(lambda image: model.codes(image[None])[0])(image)).ravel() for image in x])
    squared = np.sum(np.square(rows), axis=1)
    outcome = model.outcome(x)
    np.testing.assert_allclose(outcome.metrics["jacobian_norm"], np.sqrt(squared), rtol=1e-4)
    np.testing.assert_allclose(
        outcome.losses["autoencoder"], np.mean(model.loss(model.codes(x), x) + 0.7 * squared), rtol=1e-5
    )
    spread = np.sqrt(np.trace(outcome.state["covariance"]))
    np.testing.assert_allclose(outcome.metrics["relative_jacobian_norm"], np.sqrt(squared) / spread, rtol=1e-4)
    stepped = jax.jit(model.recipe.stages[0].algorithm.step)(
        model.recipe.stages[0].algorithm.init(KEY, contractive_autoencoder.HParams(), {"x": x}), {"x": x}
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(stepped[0].variables))


def test_the_jacobian_of_a_sigmoid_layer_is_that_of_the_paper():
    generator = np.random.default_rng(2)
    weights, bias, x = (generator.normal(size=shape).astype(np.float32) for shape in ((5, 3), (3,), (4, 5)))
    h = special.expit(x @ weights + bias)
    expected = np.sum((h * (1 - h)) ** 2 * np.sum(weights**2, axis=0), axis=1)  # Rifai et al. 2011, eq. 7
    squared_norm = contractive_autoencoder.squared_jacobian_norm(
        lambda x: jax.nn.sigmoid(x @ weights + bias), jnp.asarray(x)
    )
    np.testing.assert_allclose(squared_norm, expected, rtol=1e-4)


@pytest.mark.slow
def test_contraction_lowers_the_jacobian_norm():
    metrics = {}
    recipe = contractive_autoencoder.build(contractive_autoencoder.Config(**TINY, activation="tanh"), SPEC)
    algorithm = recipe.stages[0].algorithm

    @jax.jit
    def train(state):
        return jax.lax.fori_loop(0, 200, lambda _, state: algorithm.step(state, X)[0], state)

    for contraction in (0.0, 1.0):
        hparams = contractive_autoencoder.HParams(contraction=contraction, learning_rate=0.01)
        metrics[contraction] = algorithm.step(train(algorithm.init(KEY, hparams, X)), X)[1]
    assert 0.0 < metrics[1.0]["jacobian_norm"] < 0.7 * metrics[0.0]["jacobian_norm"]
    assert metrics[0.0]["reconstruction"] <= metrics[1.0]["reconstruction"]  # at a price on the training data


def test_a_code_without_latents_is_refused():
    with pytest.raises(UserError, match="latent_dim=0"):
        point.Config(latent_dim=0)


# --- regularized autoencoder ----------------------------------------------------------------------------------------------------


SMALL_SPEC = Spec("random", (4, 4, 1), "binary", levels=2, num_training_examples=100)
SMALL_X = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 4, 4, 1)), jnp.float32)}


@pytest.mark.slow
@pytest.mark.parametrize("regularizer", ["l2", "gradient_penalty"])
def test_the_loss_is_the_sum_of_its_terms(regularizer):
    config = regularized_autoencoder.Config(latent_dim=3, hidden=(5,), activation="tanh", regularizer=regularizer)
    model = regularized_autoencoder.build(config, SMALL_SPEC).stages[0].model
    hparams = resolve(as_schedules(regularized_autoencoder.HParams(code_weight=0.7, regularizer_weight=0.3)), 0)
    variables = jax.jit(model.init)(KEY, SMALL_X)
    outcome = jax.jit(lambda batch: model.objective(KEY, variables, hparams, batch, train=True))(SMALL_X)

    z = model.encode(KEY, variables, hparams, SMALL_X).mean
    log_px = model.decode(variables, hparams, z, X).log_prob(SMALL_X["x"])
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(variables.params["autoencoder"]["decoder"])]
    if regularizer == "l2":
        expected = sum(np.vdot(leaf, leaf) for leaf in leaves)
    else:  # reverse mode, one example at a time
        jacobian = jax.jit(jax.jacrev(lambda code: model.decode(variables, hparams, code[None], {}).mean[0]))
        expected = np.array([np.sum(np.square(np.asarray(jacobian(code), np.float64))) for code in z])
    loss = np.mean(-log_px + 0.35 * np.sum(np.square(z), axis=1) + 0.3 * expected)
    np.testing.assert_allclose(outcome.losses["autoencoder"], loss, rtol=1e-5)
    name = {"l2": "squared_decoder_norm", "gradient_penalty": "squared_jacobian_norm"}[regularizer]
    np.testing.assert_allclose(outcome.metrics[name], expected, rtol=1e-5)


# --- mixture of codes --------------------------------------------------------------------------------------------------


def three_clusters(n=900):
    """Return points of three Gaussians of unlike shapes, in units of about a thousandth."""
    rng = np.random.default_rng(1)
    shapes = np.array([[[1.0, 0.0], [0.8, 0.3]], [[0.3, 0.0], [0.0, 1.0]], [[0.5, 0.0], [-0.4, 0.2]]])
    means, label = np.array([[-4.0, 0.0], [4.0, 1.0], [0.0, 5.0]]), rng.choice(3, n, p=[0.5, 0.3, 0.2])
    return 1e-3 * (means[label] + np.einsum("nij,nj->ni", shapes[label], rng.standard_normal((n, 2))))


def responsibilities(z, fitted):
    """Return the posterior of the components [n, k] and log q(z) [n] by SciPy's densities, float64."""
    weights = np.exp(fitted["logits"].astype(np.float64))
    covariances = fitted["scale_trils"].astype(np.float64) @ np.swapaxes(fitted["scale_trils"], -1, -2)
    parts = zip(weights, fitted["means"], covariances, strict=True)
    joint = np.stack([np.log(w) + stats.multivariate_normal(m, c).logpdf(z) for w, m, c in parts], axis=1)
    log_prob = np.asarray(special.logsumexp(joint, axis=1))
    return np.exp(joint - log_prob[:, None]), log_prob


@pytest.mark.slow
def test_a_fitted_mixture_is_a_fixed_point_of_expectation_maximisation():
    z = three_clusters()
    fitted = density.fit_mixture(z, 3, seed=0)
    share, log_prob = responsibilities(z, fitted)
    total = share.sum(0)
    np.testing.assert_allclose(np.exp(fitted["logits"]), total / len(z), atol=2e-3)
    np.testing.assert_allclose(fitted["means"], share.T @ z / total[:, None], atol=2e-5)
    for k, scale_tril in enumerate(fitted["scale_trils"]):
        centred = z - fitted["means"][k]
        covariance = np.einsum("n,ni,nj->ij", share[:, k], centred, centred) / total[k]
        np.testing.assert_allclose(scale_tril @ scale_tril.T, covariance, atol=2e-8)
    order = np.argsort(fitted["means"][:, 0])  # and it is the best such point, not one that shares a cluster
    np.testing.assert_allclose(fitted["means"][order], 1e-3 * np.array([[-4, 0], [0, 5], [4, 1]]), atol=2e-4)
    variables = density.Variables({}, {"density": fitted})
    ours = density.mixture(variables).log_prob(jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(ours, log_prob, rtol=1e-4)


def test_one_component_is_the_gaussian_with_the_mean_and_the_covariance_of_the_codes():
    z = three_clusters()
    fitted = density.fit_mixture(z, 1, seed=0)
    np.testing.assert_allclose(fitted["means"][0], z.mean(0), rtol=1e-5)
    covariance = fitted["scale_trils"][0] @ fitted["scale_trils"][0].T
    np.testing.assert_allclose(covariance, np.cov(z.T, bias=True), rtol=1e-4)


def test_codes_that_are_all_the_same_give_a_narrow_mixture():
    fitted = density.fit_mixture(np.full((30, 2), 0.5), 1, seed=0)
    np.testing.assert_allclose(fitted["means"], 0.5)
    np.testing.assert_allclose(fitted["scale_trils"][0], 1e-3 * np.eye(2), atol=1e-6)


def test_more_components_than_examples_are_refused():
    with pytest.raises(UserError, match=r"--components=101: random has 100 training examples; give at most as many"):
        regularized_autoencoder.build(regularized_autoencoder.Config(components=101), SMALL_SPEC)
