"""Models that read labels: bounds by enumeration and quadrature, what labels and hyperparameters do, two stages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from vaex.core import Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import module
from vaex.schedules import resolve
from vaex.training.hyperparameters import as_schedules

SPEC = Spec("random", (8, 8, 1), "binary", levels=2, num_classes=3)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.integers(0, 2, (6, 8, 8, 1)), jnp.float32)
Y = jnp.array([0, 1, 2, -1, -1, 1])
KEY = jax.random.key(0)
CLASSES = ("m2_vae", "semi_supervised_vae")


def filled(shapes, seed, size):
    """Draw parameters of these shapes in NumPy, which compiles nothing: kernels of variance ``size``^2 / fan-in, small biases."""
    rng = np.random.default_rng(seed)

    def leaf(struct):
        scale = np.prod(struct.shape[:-1]) ** -0.5 if len(struct.shape) > 1 else 0.1
        return jnp.asarray(size * scale * rng.standard_normal(struct.shape), struct.dtype)

    return jax.tree.map(leaf, shapes)


@functools.cache
def built(name, size=1.0, **changes):
    """Return the recipe, with the functions of its last model compiled, and variables of its last stage."""
    file = module(name)
    recipe = file.build(file.Config(**{**file.TINY, **changes}), SPEC)
    finished = {}
    for index, stage in enumerate(recipe.stages):
        shapes = jax.eval_shape(stage.model.init, KEY, {"x": X, "y": Y})
        state = stage.carry_over(finished) if stage.carry_over else ()
        variables = finished[stage.name] = Variables(filled(shapes.params, index, size), state)
    labels = recipe.labels
    if labels.classify is not None:
        labels = labels._replace(
            classify=jax.jit(labels.classify), class_log_weights=jax.jit(labels.class_log_weights, static_argnums=4)
        )
    model = recipe.model._replace(
        encode=jax.jit(recipe.model.encode),
        decode=jax.jit(recipe.model.decode),
        log_weights=jax.jit(recipe.model.log_weights, static_argnums=4),
        sample=jax.jit(recipe.model.sample, static_argnums=3),
    )
    stages = (*recipe.stages[:-1], recipe.stages[-1]._replace(model=model))
    return recipe._replace(stages=stages, labels=labels), variables


@functools.cache
def objective(name):
    return jax.jit(built(name)[0].stages[-1].model.objective, static_argnames="train")


def hparams_of(name, **changes):
    return resolve(as_schedules(module(name).HParams(**changes)), 0)


def outcome(name, y, **changes):
    """Return the loss in training with these labels, and the metrics."""
    batch = {"x": X, "y": jnp.broadcast_to(jnp.asarray(y), (6,))}
    evaluated = objective(name)(KEY, built(name)[1], hparams_of(name, **changes), batch, train=True)
    [loss] = evaluated.losses.values()
    return float(loss), {name: np.asarray(values) for name, values in evaluated.metrics.items()}


# --- conditional ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_encoder_and_decoder_read_the_label_and_unlabelled_is_a_condition_of_its_own(network):
    recipe, variables = built("conditional_vae", network=network)
    hparams = hparams_of("conditional_vae")
    means, images = [], []
    for label in (-1, 0, 1, 2):
        batch = {"x": X[:2], "y": jnp.full(2, label)}
        means.append(np.asarray(recipe.model.encode(KEY, variables, hparams, batch).mean))
        images.append(np.asarray(recipe.model.decode(variables, hparams, jnp.ones((2, 2)), batch).mean))
    for by_label in (means, images):
        assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(by_label) for b in by_label[:i])
    without = dict(variables.params["vae"])
    for network_name in ("encoder", "decoder"):
        params = without[network_name]
        without[network_name] = {**params, "condition": jax.tree.map(jnp.zeros_like, params["condition"])}
    blind = Variables({"vae": without})
    for label in (-1, 2):
        batch = {"x": X[:2], "y": jnp.full(2, label)}
        np.testing.assert_allclose(recipe.model.encode(KEY, blind, hparams, batch).mean, means[0], rtol=1e-5, atol=1e-6)


def test_the_conditional_bound_is_the_elbo_given_the_label():
    loss, metrics = outcome("conditional_vae", Y)
    np.testing.assert_allclose(loss, -np.mean(metrics["elbo"]), rtol=1e-6)
    assert np.abs(outcome("conditional_vae", 0)[1]["elbo"] - outcome("conditional_vae", 1)[1]["elbo"]).min() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conditional_vae", *CLASSES])
def test_samples_of_one_key_share_their_latents_and_are_of_any_class_without_a_condition(name):
    recipe, variables = built(name)
    hparams = hparams_of(name)
    of = [
        np.asarray(recipe.model.sample(KEY, variables, hparams, 60, None if y is None else jnp.full(60, y)).mean)
        for y in (None, 0, 1, 2)
    ]
    drawn = np.argmin([np.abs(of[0] - other).max(axis=(1, 2, 3)) for other in of[1:]], axis=0)
    picked = np.stack(of[1:])[drawn, np.arange(60)]
    np.testing.assert_allclose(of[0], picked, rtol=1e-4, atol=1e-5)
    assert np.bincount(drawn, minlength=3).min() > 8  # of 20 expected: over three standard errors


@pytest.mark.parametrize("name", ["conditional_vae", *CLASSES])
def test_data_without_labels_is_refused(name):
    file = module(name)
    with pytest.raises(UserError, match="random has no labels, and this model reads them"):
        file.build(file.Config(**file.TINY), SPEC._replace(num_classes=0))


def test_a_missing_label_is_no_label_by_default():
    recipe, variables = built("conditional_vae")
    hparams = hparams_of("conditional_vae")
    with pytest.raises(ValueError, match="encode: this model reads labels, but the batch has none"):
        recipe.model.encode(KEY, variables, hparams, {"x": X})
    with pytest.raises(ValueError, match="decode: this model reads labels"):
        recipe.model.decode(variables, hparams, jnp.zeros((1, 2)), {})


# --- the label marginalised -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_the_loss_is_the_papers_objective(name):
    """Compare with eqs. 7 and 9: labelling a row moves the mean loss by (U(x) - L(x, y)) / 6, with mean H(q) / 6 under q(y|x)."""
    unlabelled, metrics = outcome(name, -1, alpha=0.0)
    assert metrics["classification_loss"] == 0
    moves = [outcome(name, np.where(np.arange(6) == 4, y, -1), alpha=0.0) for y in range(3)]
    log_q = [-row["classification_loss"] for _, row in moves]
    np.testing.assert_allclose(np.sum(np.exp(log_q)), 1.0, rtol=1e-5)
    moved = np.asarray([loss - unlabelled for loss, _ in moves], np.float64)
    np.testing.assert_allclose(6 * np.exp(log_q) @ moved, metrics["label_entropy"][4], atol=6 * 4e-6 * abs(unlabelled))
    assert np.ptp(moved) > 1e-3
    weighted, labelled_metrics = outcome(name, Y, alpha=0.7)
    difference = weighted - outcome(name, Y, alpha=0.0)[0]
    np.testing.assert_allclose(difference, 0.7 * labelled_metrics["classification_loss"], rtol=1e-3)


@pytest.mark.parametrize("name", CLASSES)
def test_labelled_examples_count_as_much_as_in_the_data_not_as_in_the_batch(name):
    """Of ten examples three are labelled; the batch has four of six. L(x, y) of rows by labelling one at a time."""
    loss, metrics = outcome(name, -1, alpha=0.0)
    rows = metrics["elbo" if "elbo" in metrics else "code_elbo"]  # U(x)
    gains = [6 * (loss - outcome(name, np.where(np.arange(6) == row, Y, -1), alpha=0.0)[0]) for row in range(6)]
    file = module(name)
    changed = file.build(file.Config(**file.TINY), SPEC._replace(num_training_examples=10, num_labelled=3))
    hparams = hparams_of(name, alpha=0.7)
    evaluate = jax.jit(changed.stages[-1].model.objective, static_argnames="train")
    evaluated = evaluate(KEY, built(name)[1], hparams, {"x": X, "y": Y}, train=True)
    known = np.asarray(Y) >= 0
    expected = -(0.3 * np.mean((rows + gains)[known]) + 0.7 * np.mean(rows[~known]))
    expected += 0.7 * evaluated.metrics["classification_loss"]
    [loss] = evaluated.losses.values()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_the_classification_loss_and_accuracy_are_of_labelled_examples():
    recipe, variables = built("m2_vae")
    log_q = recipe.labels.classify(KEY, variables, hparams_of("m2_vae"), {"x": X}).log_probabilities
    known = np.flatnonzero(np.asarray(Y) >= 0)
    metrics = outcome("m2_vae", Y)[1]
    expected = -np.mean(np.asarray(log_q)[known, np.asarray(Y)[known]])
    np.testing.assert_allclose(metrics["classification_loss"], expected, rtol=1e-5)
    right = np.argmax(log_q, axis=1)[known] == np.asarray(Y)[known]
    np.testing.assert_allclose(metrics["training_accuracy"], np.mean(right), rtol=1e-6)


def exact(recipe, variables, hparams, points=2001):
    """Compute log p(x|y) [6, 3] of a model with one latent, by quadrature over it."""
    grid = np.linspace(-8, 8, points)
    log_prior = -0.5 * grid**2 - 0.5 * np.log(2 * np.pi) + np.log(grid[1] - grid[0])
    table = []
    for label in range(3):
        z = jnp.asarray(grid[:, None, None], jnp.float32)
        likelihood = recipe.model.decode(
            variables, hparams, jnp.broadcast_to(z, (points, 6, 1)), {"y": jnp.full(6, label)}
        )
        table.append(logsumexp(np.asarray(likelihood.log_prob(X), np.float64) + log_prior[:, None], axis=0))
    return np.asarray(table).T


@pytest.mark.slow
def test_the_label_is_marginalised_exactly():
    """Compare mean weights of x, and of x given each class, with quadrature over z and a sum over y; the ELBO is below."""
    recipe, variables = built("m2_vae", latent_dim=1)
    hparams, batch = hparams_of("m2_vae"), {"x": X}
    truth = exact(recipe, variables, hparams)
    marginal = logsumexp(truth, axis=1) - np.log(3)
    k = 20_000
    for log_weights, expected in (
        (recipe.model.log_weights(KEY, variables, hparams, batch, k), marginal),
        (recipe.labels.class_log_weights(KEY, variables, hparams, batch, k), truth),
    ):
        weights = np.exp(np.asarray(log_weights, np.float64) - expected)
        error = np.std(weights, axis=0) / np.sqrt(k)
        assert np.all(error < 0.1), "too few samples to tell anything"
        assert np.all(np.abs(np.mean(weights, axis=0) - 1) < 4 * error + 1e-4)
    evaluate = jax.jit(
        lambda key: recipe.stages[0].model.objective(key, variables, hparams, batch, train=False).metrics
    )
    elbo = np.stack([evaluate(key)["elbo"] for key in jax.random.split(KEY, 30)])
    assert np.all(np.mean(elbo, axis=0) < marginal + 4 * np.std(elbo, axis=0) / np.sqrt(30))


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_log_weights_sum_over_classes_and_never_read_the_label(name):
    recipe, variables = built(name)
    hparams = hparams_of(name)
    of_all = recipe.labels.class_log_weights(KEY, variables, hparams, {"x": X}, 5)
    assert of_all.shape == (5, 6, 3)
    for batch in ({"x": X}, {"x": X, "y": Y}):
        log_weights = recipe.model.log_weights(KEY, variables, hparams, batch, 5)
        np.testing.assert_allclose(log_weights, logsumexp(of_all, axis=-1) - np.log(3), rtol=1e-5)


@pytest.mark.slow
def test_two_stages_are_one_model_of_x():
    """Compare mean weights of x with E_p[p(x|z1)], estimated by sampling z1 from both priors."""
    recipe, variables = built(
        "semi_supervised_vae", size=0.5, latent_dim=1, m2_latent_dim=1
    )  # no weight is far from the mean
    hparams, k = hparams_of("semi_supervised_vae"), 20_000
    plain = []
    for label in range(3):
        drawn = recipe.model.sample(jax.random.key(4), variables, hparams, k, jnp.full(k, label))
        plain.append([np.exp(np.asarray(drawn.log_prob(jnp.broadcast_to(x, (k, 8, 8, 1))), np.float64)) for x in X])
    plain = np.moveaxis(np.asarray(plain), -1, 0).transpose(0, 2, 1)  # [k, 6, 3]
    weighted = np.exp(np.asarray(recipe.labels.class_log_weights(KEY, variables, hparams, {"x": X}, k), np.float64))
    ratio = np.mean(weighted, axis=0) / np.mean(plain, axis=0)
    error = sum((np.std(values, axis=0) / np.mean(values, axis=0)) ** 2 / k for values in (weighted, plain)) ** 0.5
    assert np.all(error < 0.2), "too few samples to tell anything"
    assert np.all(np.abs(ratio - 1) < 4 * error)


def test_unlabelled_examples_are_encoded_with_their_most_probable_label():
    for name in CLASSES:
        recipe, variables = built(name)
        hparams = hparams_of(name)
        best = recipe.labels.classify(KEY, variables, hparams, {"x": X}).mode
        mixed = jnp.where(jnp.arange(6) < 3, best, -1)
        expected = recipe.model.encode(KEY, variables, hparams, {"x": X, "y": best}).mean
        other = recipe.model.encode(KEY, variables, hparams, {"x": X, "y": (best + 1) % 3}).mean
        for batch in ({"x": X}, {"x": X, "y": jnp.full(6, -1)}, {"x": X, "y": mixed}):
            np.testing.assert_allclose(
                recipe.model.encode(KEY, variables, hparams, batch).mean, expected, rtol=1e-5, atol=1e-6
            )
        assert np.abs(np.asarray(expected - other)).max() > 1e-3


@pytest.mark.slow
def test_the_second_stage_leaves_the_first_as_it_is():
    recipe, variables = built("semi_supervised_vae")
    batch = {"x": X, "y": Y}
    algorithm = recipe.stages[1].algorithm
    state = algorithm.init(KEY, as_schedules(module("semi_supervised_vae").HParams()), batch)
    state = state._replace(variables=state.variables._replace(state=variables.state))
    after, _ = jax.jit(algorithm.step)(state, batch)
    for old, new in zip(jax.tree.leaves(variables.state), jax.tree.leaves(after.variables.state), strict=True):
        np.testing.assert_array_equal(old, new)
    assert set(after.variables.params) == {"m2"}


@pytest.mark.slow
def test_one_label_for_each_cluster_classifies_unlabelled_examples():
    """Train on three clusters of images with one label each: nearly all unlabelled images get the label of their cluster."""
    rng = np.random.default_rng(3)
    prototypes, truth = rng.integers(0, 2, (3, 8, 8, 1)), rng.integers(0, 3, 96)
    x = np.abs(prototypes[truth] - (rng.random((96, 8, 8, 1)) < 0.1))
    y = np.full(96, -1)
    y[[np.flatnonzero(truth == label)[0] for label in range(3)]] = np.arange(3)
    file = module("m2_vae")
    recipe = file.build(file.Config(latent_dim=1, hidden=()), SPEC)
    algorithm, batch = recipe.stages[0].algorithm, {"x": jnp.asarray(x, jnp.float32), "y": jnp.asarray(y)}
    hparams = as_schedules(file.HParams(learning_rate=0.01, alpha=10.0))
    state, step = jax.jit(algorithm.init)(KEY, hparams, batch), jax.jit(algorithm.step)
    for _ in range(100):
        state, _ = step(state, batch)
    predicted = recipe.labels.classify(KEY, state.variables, resolve(hparams, 0), batch).mode
    assert np.mean(np.asarray(predicted) == truth) > 0.97


def test_the_first_stage_does_not_memorise_labelled_images():
    """Compare its loss with the mean over unlabelled rows, or over all where every row is labelled."""
    recipe, variables = built("semi_supervised_vae")
    first = jax.jit(recipe.stages[0].model.objective, static_argnames="train")
    m1 = Variables({"vae": variables.state["vae"]})
    rows = None
    for y, counted in ((Y, [3, 4]), (jnp.arange(6) % 3, range(6)), (jnp.full(6, -1), range(6)), (None, range(6))):
        batch = {"x": X} if y is None else {"x": X, "y": y}
        evaluated = first(KEY, m1, hparams_of("semi_supervised_vae"), batch, train=True)
        rows = np.asarray(evaluated.metrics["elbo"])
        np.testing.assert_allclose(evaluated.losses["vae"], -np.mean(rows[list(counted)]), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"m2_latent_dim": 0}, "m2_latent_dim=0: expected at least 1"),
        ({"m2_hidden": (4, 0)}, "m2_hidden=4x0"),
    ],
)
def test_configs_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        module("semi_supervised_vae").Config(**changes)
