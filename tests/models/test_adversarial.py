"""Models with a discriminator: their losses against values computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.command import parse
from scipy import stats

import vaex
from vaex import nets
from vaex.data import Dataset
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.adversarial import adversarial_autoencoder, vae_gan
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("random", (8, 8, 1), "binary", levels=2, num_training_examples=100)
B = 16
X = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 2, (B, 8, 8, 1)), jnp.float32)}
KEY = jax.random.key(0)


class Evaluated:
    """Objective of a model at its first parameters, with all that it was computed from."""

    def __init__(self, module, hparams, **changes):
        self.recipe = module.build(module.Config(**{**module.TINY, "latent_dim": 3, **changes}), SPEC)
        self.model = self.recipe.stages[0].model
        self.hparams = resolve(as_schedules(hparams), 0)
        self.variables = self.model.init(KEY, X)
        self.outcome = self.model.objective(KEY, self.variables, self.hparams, X, train=True)
        self.posterior = self.model.encode(KEY, self.variables, self.hparams, X)
        self.metrics = {name: np.asarray(value, np.float64) for name, value in self.outcome.metrics.items()}

    def decoded(self, z):
        """Return the means of p(x|z), float64."""
        return np.asarray(self.model.decode(self.variables, self.hparams, jnp.asarray(z), X).mean, np.float64)


def log_sigmoid(logits):
    return -np.log1p(np.exp(-logits))


def nats(x, probability):
    """Return -log p(x|z) of binary images, [b]."""
    x = np.asarray(x)
    return -(x * np.log(probability) + (1 - x) * np.log1p(-probability)).sum((1, 2, 3))


# --- adversarial autoencoder --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("posterior", ["deterministic", "gaussian"])
def test_the_losses_of_autoencoder_and_discriminator(posterior):
    hparams = adversarial_autoencoder.HParams(adversarial_weight=7.0)
    evaluated = Evaluated(adversarial_autoencoder, hparams, posterior=posterior, discriminator_hidden=(8, 4))
    network = nets.MLP((8, 4), 1, "leaky_relu")

    def log_odds(z):
        return np.asarray(network.apply({"params": evaluated.variables.params["discriminator"]}, z), np.float64)[:, 0]

    z = np.asarray(evaluated.posterior.sample(KEY))
    of_prior, of_codes = log_odds(jax.random.normal(jax.random.fold_in(KEY, 1), (B, 3))), log_odds(z)
    adversarial = -log_sigmoid(of_codes)
    expected = np.mean(nats(X["x"], evaluated.decoded(z)) + 7.0 * adversarial)
    np.testing.assert_allclose(evaluated.outcome.losses["vae"], expected, rtol=1e-5)
    expected = -0.5 * np.mean(log_sigmoid(of_prior) + log_sigmoid(-of_codes))
    np.testing.assert_allclose(evaluated.outcome.losses["discriminator"], expected, rtol=1e-5)
    np.testing.assert_allclose(evaluated.metrics["adversarial"], adversarial, rtol=1e-4)
    right = 0.5 * np.mean(of_prior > 0) + 0.5 * np.mean(of_codes < 0)
    np.testing.assert_allclose(evaluated.metrics["discriminator_accuracy"], right, rtol=1e-6)
    assert (evaluated.model.log_weights is None) == (posterior == "deterministic")


@pytest.mark.slow
def test_the_discriminator_learns_the_log_density_ratio_of_prior_and_codes():
    """Train it alone behind an encoder whose codes are N(1, 1): log N(z; 0, 1) - log N(z; 1, 1) = 1/2 - z."""
    config = adversarial_autoencoder.Config(latent_dim=1, hidden=(), discriminator_hidden=(32, 32))
    stage = adversarial_autoencoder.build(config, SPEC).stages[0]
    hparams = adversarial_autoencoder.HParams(learning_rate=0.0, discriminator_learning_rate=3e-3)
    state = stage.algorithm.init(KEY, hparams, X)
    encoder = {"output": {"kernel": jnp.zeros((64, 1)).at[0, 0].set(1.0), "bias": jnp.ones(1)}}
    params = {**state.variables.params, "vae": {**state.variables.params["vae"], "encoder": encoder}}
    state = state._replace(variables=state.variables._replace(params=params))

    def step(state, key):
        return stage.algorithm.step(state, {"x": jax.random.normal(key, (512, 8, 8, 1))})

    state, _ = jax.jit(lambda state: jax.lax.scan(step, state, jax.random.split(KEY, 600)))(state)
    z = jnp.linspace(-1.0, 2.0, 7)[:, None]
    network = nets.MLP((32, 32), 1, "leaky_relu")
    log_odds = np.asarray(network.apply({"params": state.variables.params["discriminator"]}, z))
    np.testing.assert_allclose(log_odds, 0.5 - np.asarray(z), atol=0.25)


# --- VAE-GAN ------------------------------------------------------------------------------------------------------


def gan(**hparams):
    """Return a VAE-GAN whose discriminator's output layer, zeros at first, has weights."""
    evaluated = Evaluated(vae_gan, vae_gan.HParams(**hparams), discriminator_features=4)
    hidden, output = evaluated.variables.params["discriminator"]
    weights = jax.random.normal(KEY, output.shape)
    evaluated.variables.params["discriminator"] = hidden, weights
    evaluated.outcome = evaluated.model.objective(KEY, evaluated.variables, evaluated.hparams, X, train=True)

    def discriminate(x):
        features, pullback = jax.vjp(lambda x: nets.MLP((16,), 4, event_ndims=3).apply({"params": hidden}, x), x)
        leak = np.where(np.asarray(features) > 0, 1.0, 0.01)
        (slopes,) = pullback(jnp.asarray(leak * np.asarray(weights), features.dtype))
        features = leak * np.asarray(features, np.float64)
        return features, features @ np.asarray(weights, np.float64), np.square(slopes).sum((1, 2, 3))

    return evaluated, discriminate


@pytest.mark.slow
def test_the_losses_of_encoder_decoder_and_discriminator():
    evaluated, discriminate = gan(beta=0.3, feature_weight=7.0, gradient_penalty=3.0)
    mean, scale = (np.asarray(x, np.float64) for x in (evaluated.posterior.mean, evaluated.posterior.variance**0.5))
    z, drawn = evaluated.posterior.sample(KEY, (1,))[0], jax.random.normal(jax.random.fold_in(KEY, 1), (B, 3))
    reconstructed, sampled = (evaluated.decoded(code) for code in (z, drawn))
    (real, on_real, slope), (fake, on_fake, _), (_, on_drawn, _) = map(
        discriminate, (X["x"], *(jnp.asarray(means, jnp.float32) for means in (reconstructed, sampled)))
    )
    error = 0.5 * ((real - fake) ** 2).sum(1)
    kl = (0.5 * (mean**2 + scale**2 - 1) - np.log(scale)).sum(1)
    variance = float(evaluated.model.decode(evaluated.variables, evaluated.hparams, z, X).variance[0, 0, 0, 0])
    log_px = stats.norm.logpdf(np.asarray(X["x"], np.float64), reconstructed, variance**0.5).sum((1, 2, 3))
    fooling = -0.5 * (log_sigmoid(on_fake) + log_sigmoid(on_drawn))
    told_apart = -0.5 * log_sigmoid(on_real) - 0.25 * (log_sigmoid(-on_fake) + log_sigmoid(-on_drawn)) + 1.5 * slope
    expected = {"encoder": error + 0.3 * kl, "decoder": 7.0 * error + fooling - log_px, "discriminator": told_apart}
    for group, values in expected.items():
        np.testing.assert_allclose(evaluated.outcome.losses[group], np.mean(values), rtol=1e-4, err_msg=group)
    np.testing.assert_allclose(evaluated.outcome.metrics["elbo"], log_px - kl, rtol=1e-4)


@pytest.mark.slow
def test_the_log_likelihood_of_pixels_trains_the_scale_alone():
    """Without an error in features the decoder follows the discriminator: of two scales, it has the same gradient."""
    evaluated, _ = gan(feature_weight=0.0)

    def gradient(log_scale_shift):
        decoder = evaluated.variables.params["decoder"]
        likelihood = jax.tree.map(lambda x: x + log_scale_shift, decoder["likelihood"])

        def loss(decoder):
            variables = evaluated.variables._replace(params={**evaluated.variables.params, "decoder": decoder})
            return evaluated.model.objective(KEY, variables, evaluated.hparams, X, train=True).losses["decoder"]

        return jax.grad(loss)({**decoder, "likelihood": likelihood})

    near, far = gradient(0.0), gradient(1.0)
    jax.tree.map(np.testing.assert_array_equal, near["decoder"], far["decoder"])
    leaves = zip(jax.tree.leaves(near["likelihood"]), jax.tree.leaves(far["likelihood"]), strict=True)
    assert all(np.all(x != y) for x, y in leaves)


def upscaled_digits():
    """Return scikit-learn's digits at 24x24, as many pixels as MNIST has within its margin, and as sparse: [n, 24, 24, 1]."""
    x = np.asarray(Dataset.load("digits").splits["train"]["x"], np.float32).reshape(-1, 8, 8, 1)
    return np.kron(x / x.max(), np.ones((1, 3, 3, 1), np.float32))


@pytest.mark.slow
@pytest.mark.optimised
def test_by_its_defaults_it_reconstructs_images_of_many_pixels():
    """Squared error of means over the variance of pixels; above 0.8 with free means, Adam and no gradient penalty."""
    x = upscaled_digits()
    run = vaex.train("vae_gan", Dataset.from_arrays(x), steps=500, hidden=(128,), progress=False)
    shown = x[:200]
    error = np.square(np.asarray(run[0].reconstruct(shown)) - shown).sum()
    assert error / np.square(shown - shown.mean(0)).sum() < 0.5


@pytest.mark.slow
def test_the_discriminator_reads_missing_entries_of_fakes_as_of_examples():
    x = np.where(
        np.random.default_rng(1).uniform(size=(64, 6)) < 0.3, np.nan, np.random.default_rng(2).normal(size=(64, 6))
    )
    run = vaex.train(
        "vae_gan", Dataset.from_arrays(x), steps=20, log_every=20, hidden=(8,), latent_dim=2, progress=False
    )
    assert np.isfinite(run.rows()[-1]["discriminator_loss"]).all() and not run.diverged


def test_likelihoods_whose_means_saturate_are_refused():
    with pytest.raises(UserError, match=r"--likelihood=bernoulli: .*Known: gaussian, laplace"):
        parse(["--model=vae_gan", "--likelihood=bernoulli"])


# --- invalid input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model=adversarial_autoencoder --posterior=full", "Known: deterministic, gaussian"),
        ("--model=adversarial_autoencoder --discriminator_hidden=8x0", "--discriminator_hidden=8x0: expected numbers"),
        ("--model=adversarial_autoencoder --adversarial_weight=-1", "--adversarial_weight=-1: expected values"),
    ],
)
def test_flags_out_of_range_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        parse(flags.split())
