"""TD-VAE on two frames of two binary pixels: samples, weights and the model's definition give one distribution over 16 images."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vaex.bounds import importance_bound
from vaex.core import Variables
from vaex.data.spec import Spec
from vaex.models.sequences import td_vae
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("pixels", (2, 1, 2, 1), "binary", levels=2)
IMAGES = np.array(list(itertools.product([0, 1], repeat=4)), np.float32).reshape(16, 2, 1, 2, 1)
HPARAMS = resolve(as_schedules(td_vae.HParams()), 0)


@pytest.fixture(scope="module", params=[1, 2], ids=["one layer", "two layers"])
def model(request):
    """Parameters drawn so widely that frames depend on one another: the chain's probabilities differ by factors of ten."""
    config = td_vae.Config(
        latent_dim=request.param,
        layers=request.param,
        max_jump=2,
        network="mlp",
        hidden=(8,),
        recurrent=4,
        activation="tanh",
    )
    recipe = td_vae.build(config, SPEC)
    shapes = jax.eval_shape(recipe.model.init, jax.random.key(0), {"x": jnp.asarray(IMAGES)})
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape, scale=0.8), jnp.float32), shapes.params)
    # a posterior so wide that the squares of weights have a mean, by the precisions of its Gaussians and the chain's
    for name, shrink, log_scale in (("belief", 0.1, 0.7), ("smoothing", 0.1, 1.4), ("transition", 0.25, -0.1)):
        for layer in params["vae"][name]:
            out = layer["output"]
            size = len(out["bias"]) // 2
            means = jnp.arange(2 * size) < size  # scales are constants
            kernel, bias = (
                jnp.where(means, shrink * out["kernel"], 0.0),
                jnp.where(means, shrink * out["bias"], log_scale),
            )
            layer["output"] = {"kernel": kernel, "bias": bias}
    return recipe, Variables(params)


def numbers(x):
    return np.asarray(x, int).reshape(*np.shape(x)[:-4], 4) @ [8, 4, 2, 1]


def by_definition(recipe, variables, n):
    """Probabilities of the 16 images and their standard errors: the mean of p(x|z) over latents drawn from the chain."""

    @jax.jit
    def probabilities(key):
        drawn = recipe.model.sample(key, variables, HPARAMS, n)
        return jnp.exp(drawn.log_prob(jnp.asarray(IMAGES)[:, None]))  # [16, n]

    p = np.concatenate([probabilities(key) for key in jax.random.split(jax.random.key(1), 8)], axis=1)
    return p.mean(1), p.std(1) / np.sqrt(p.shape[1])


@pytest.mark.slow
def test_samples_follow_the_density_that_the_weights_estimate(model):
    recipe, variables = model
    exact, error = by_definition(recipe, variables, 50_000)
    np.testing.assert_allclose(exact.sum(), 1.0, rtol=1e-4)
    assert np.max(error / exact) < 0.01 and exact.max() > 5 * exact.min()

    @jax.jit
    def weights(key):
        return recipe.model.log_weights(key, variables, HPARAMS, {"x": jnp.asarray(IMAGES)}, 10_000)

    w = np.exp(np.concatenate([weights(key) for key in jax.random.split(jax.random.key(2), 20)]).astype(np.float64))
    spread = np.hypot(w.std(0) / np.sqrt(len(w)), error)
    assert np.sum(spread) < 0.1, "too few weights to tell anything"
    assert np.all(np.abs(w.mean(0) - exact) < 4.5 * spread)
    assert abs(w.mean(0).sum() - 1) < 4.5 * np.sqrt(np.sum((w.std(0) ** 2) / len(w)))

    n = 100_000
    counts = np.bincount(
        numbers(jax.jit(lambda key: recipe.model.sample(key, variables, HPARAMS, n).sample(key))(jax.random.key(3))),
        minlength=16,
    )
    chi_square = np.sum((counts - n * exact) ** 2 / (n * exact * (1 - exact) + (n * error) ** 2))
    assert chi_square < stats.chi2(15).ppf(1 - 1e-5)
    independent = [np.bincount(numbers(IMAGES) // 4, exact, 4), np.bincount(numbers(IMAGES) % 4, exact, 4)]
    apart = np.outer(*independent).ravel()
    assert np.sum((counts - n * apart) ** 2 / (n * apart)) > 1000  # of frames that were independent


@pytest.mark.slow
def test_the_bound_of_more_samples_is_tighter_and_below_the_density(model):
    recipe, variables = model
    exact, _ = by_definition(recipe, variables, 50_000)
    x, last = jnp.asarray(IMAGES), -np.inf
    for k in (1, 10, 100):

        @jax.jit
        def draw(keys, k=k):
            weights = jax.lax.map(lambda key: recipe.model.log_weights(key, variables, HPARAMS, {"x": x}, k), keys)
            return importance_bound(jnp.moveaxis(weights, 1, 0))

        bound = np.asarray(draw(jax.random.split(jax.random.key(4), 200)))
        mean, error = bound.mean(), bound.mean(1).std() / np.sqrt(200)
        assert last - 4 * error < mean < np.mean(np.log(exact)) + 4 * error
        last = mean
