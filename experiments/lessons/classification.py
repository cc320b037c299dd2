"""Lessons on classification: ``logistic_regression`` and ``bayesian_network``."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special
from sklearn import datasets, linear_model, naive_bayes

from lessons.fits import Lesson, agreement, chains, draws, fitted, reliability, scores
from vaex import inference
from vaex.distributions import Normal
from vaex.plots import Curves

TRAINING = 100  # digits that are seen: few, so that the posterior is wide
COMPONENTS = 20
WEIGHT_SCALE = 2.0


def logistic_regression() -> Lesson:
    """Return calibration and learning curves, and for each posterior of the weights accuracy, log loss and calibration."""
    x, y, test_x, test_y = _odd_and_even()

    def log_density(w: jax.Array) -> jax.Array:
        logits = jnp.asarray(x) @ w
        likelihood = jnp.sum(jnp.asarray(y) * logits - jax.nn.softplus(logits))
        return Normal(jnp.zeros(len(w)), WEIGHT_SCALE).log_prob(w) + likelihood

    size = x.shape[1]
    result = chains(log_density, size)
    predictions = {f"NUTS ({agreement(result)})": _mean_probability(test_x, np.asarray(draws(result)))}
    elbos = {next(iter(predictions)): "-"}
    mode = inference.laplace(log_density, size)
    predictions["MAP"] = special.expit(test_x @ np.asarray(mode.params["loc"], np.float64))
    elbos["MAP"] = "-"
    gaussians: dict[str, Any] = {"Laplace": mode.params}
    for name, family in (("mean field", inference.MeanField(size)), ("full rank", inference.FullRank(size))):
        gaussians[name], _ = fitted(family, log_density)
    for name, params in gaussians.items():
        family = inference.MeanField(size) if name == "mean field" else inference.FullRank(size)
        diagnosis = inference.diagnose(jax.random.key(1), log_density, family, params)
        predictions[name] = _mean_probability(test_x, np.asarray(diagnosis.samples))
        elbos[name] = f"{diagnosis.elbo:.2f}"
    for bound in ("jaakkola_jordan", "bohning"):
        fit = inference.fit_logistic(jnp.asarray(x), jnp.asarray(y), weight_precision=WEIGHT_SCALE**-2, bound=bound)
        weights = np.random.default_rng(0).multivariate_normal(fit.loc, fit.covariance, 2000)
        predictions[bound] = _mean_probability(test_x, weights)
        elbos[bound] = f"{fit.bound[-1]:.2f} (its bound)"
    table = [["posterior", "ELBO", "accuracy", "log loss", "calibration error"]]
    marks = {}
    for name, probability in predictions.items():
        accuracy, loss, calibration = scores(probability, test_y)
        table.append([name, elbos[name], f"{accuracy:.3f}", f"{loss:.3f}", f"{calibration:.3f}"])
        short = name.split(" (")[0]
        if short in ("NUTS", "MAP", "mean field"):
            marks[short] = tuple(np.array([(mean, rate) for _, mean, rate in reliability(probability, test_y, 8)]).T)
    ends = np.array([0.0, 1.0])
    lines = {"calibrated": ends, **{name: np.full(2, np.nan) for name in marks}}
    left = Curves(ends, lines, "predicted probability", "share of label 1", "Calibration: odd digits", marks=marks)
    right, more = _generative_against_discriminative()
    return [left, right], [*table, *more]


def _loaded_digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels [n, 64] in [0, 1] and labels [n]."""
    pixels, labels = datasets.load_digits(return_X_y=True)
    return np.asarray(pixels) / 16.0, np.asarray(labels)


def _moons(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = datasets.make_moons(count, noise=0.25, random_state=seed)
    return np.asarray(x), np.asarray(y)


def _odd_and_even() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Digits in 20 principal components and an intercept, label 1 for odd ones: training and test."""
    pixels, labels = _loaded_digits()
    y = (labels % 2).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(y))
    pixels, y = pixels[order], y[order]
    centre = pixels[:TRAINING].mean(axis=0)
    _, _, axes = np.linalg.svd(pixels[:TRAINING] - centre, full_matrices=False)
    codes = (pixels - centre) @ axes[:COMPONENTS].T
    codes = codes / codes[:TRAINING].std(axis=0)
    x = np.concatenate([np.ones((len(y), 1)), codes], axis=1).astype(np.float32)
    return x[:TRAINING], y[:TRAINING], x[TRAINING:], y[TRAINING:]


def _mean_probability(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Posterior predictive probability of label 1 [n], from draws of the weights [k, d]."""
    return special.expit(np.asarray(x, np.float64) @ weights.T).mean(axis=1)


def _generative_against_discriminative() -> tuple[Curves, list[list[str]]]:
    """Accuracy on all ten digits of p(x | y) p(y), Gaussian in each pixel, and of p(y | x), softmax, by training size."""
    pixels, labels = _loaded_digits()
    sizes = (20, 50, 100, 200, 400, 800)
    accuracy = {"p(x|y) p(y)": np.zeros(len(sizes)), "p(y|x)": np.zeros(len(sizes))}
    repeats = 5
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(len(labels))
        x, y = pixels[order], labels[order]
        for place, size in enumerate(sizes):
            generative = naive_bayes.GaussianNB(var_smoothing=0.1).fit(x[:size], y[:size])
            discriminative = linear_model.LogisticRegression(max_iter=2000).fit(x[:size], y[:size])
            for name, model in zip(accuracy, (generative, discriminative), strict=True):
                accuracy[name][place] += model.score(x[900:], y[900:]) / repeats
    table = [
        ["training digits", *map(str, sizes[:4])],
        *([name, *(f"{value:.3f}" for value in values[:4])] for name, values in accuracy.items()),
    ]
    chart = Curves(np.log10(sizes), accuracy, "log10 of training digits", "test accuracy", "Ten digits")
    return chart, table


class Classifier(nn.Module):
    """Two hidden layers of tanh, one logit."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in (8, 8):
            x = jnp.tanh(nn.Dense(width)(x))
        return nn.Dense(1)(x)[..., 0]


def bayesian_network() -> Lesson:
    """Return predictions along a line that leaves the data, and scores of MAP, mean field (Bayes by backprop) and NUTS."""
    x, y = _moons(60, 0)
    test_x, test_y = _moons(1000, 1)
    network = Classifier()
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(2))
    supports = jax.tree.map(lambda leaf: inference.real(*leaf.shape), shapes)

    def log_density(variables: Any) -> jax.Array:
        prior = sum(jnp.sum(Normal(0.0, 1.0, event_ndims=0).log_prob(leaf)) for leaf in jax.tree.leaves(variables))
        logits: Any = network.apply(variables, jnp.asarray(x, jnp.float32))
        return prior + jnp.sum(jnp.asarray(y) * logits - jax.nn.softplus(logits))

    line = np.stack([np.linspace(-6, 7, 131), np.full(131, 0.25)], axis=1)
    places = jnp.asarray(np.concatenate([test_x, line]), jnp.float32)

    @jax.jit
    def probabilities(variables: Any) -> jax.Array:
        logits: Any = jax.vmap(lambda one: network.apply(one, places))(variables)
        return jax.nn.sigmoid(logits)

    sets: dict[str, Any] = {}
    elbos: dict[str, str] = {}
    result = chains(log_density, supports, num_samples=500)
    name = f"NUTS ({agreement(result)} of weights)"
    sets[name] = jax.tree.map(lambda leaf: leaf[::4], draws(result))
    point = inference.PointMass(supports)
    start = {"loc": 0.3 * jax.random.normal(jax.random.key(2), (point.space.size,))}
    params, _ = jax.jit(lambda key: inference.fit(key, log_density, point, params=start, num_samples=1))(
        jax.random.key(0)
    )
    sets["MAP"] = inference.sample(jax.random.key(1), point, params, 1)
    field = inference.MeanField(supports, scale=0.1)
    params, diagnosis = fitted(
        field, log_density, num_samples=500, steps=4000, params=field.init(jax.random.key(0)) | start
    )
    sets["mean field"] = diagnosis.samples
    elbos["mean field"] = f"{diagnosis.elbo:.1f} (k {diagnosis.pareto_k:.1f})"
    predictions = {name: np.asarray(probabilities(variables), np.float64) for name, variables in sets.items()}
    table, lines, bands = _along_the_line(predictions, elbos, test_y)
    title = "Two moons: data from -1 to 2; bands hold 80% of the posterior"
    return Curves(line[:, 0], lines, "x0, at x1 = 0.25", "probability of label 1", title, bands), table


def _along_the_line(
    predictions: dict[str, np.ndarray], elbos: dict[str, str], labels: np.ndarray
) -> tuple[list[list[str]], dict[str, np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Scores on the labelled examples, which come first, and means and bands of the places after them."""
    table = [["posterior", "ELBO", "accuracy", "log loss", "calibration error", "entropy at x0 = -6 and 7"]]
    lines, bands, count = {}, {}, len(labels)
    for name, values in predictions.items():
        mean, short = values.mean(axis=0), name.split(" (")[0]
        far = np.clip(mean[[count, -1]], 1e-7, 1 - 1e-7)
        entropy = special.entr(far) + special.entr(1 - far)
        accuracy, loss, calibration = scores(mean[:count], labels)
        cells = [f"{accuracy:.3f}", f"{loss:.3f}", f"{calibration:.3f}", f"{entropy[0]:.2f}, {entropy[1]:.2f}"]
        table.append([name, elbos.get(name, "-"), *cells])
        lines[short] = mean[count:]
        if len(values) > 1:
            low, high = np.quantile(values[:, count:], (0.1, 0.9), axis=0)
            bands[short] = (low, high)
    return table, lines, bands
