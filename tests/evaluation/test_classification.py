"""Bayes' rule, compared with the exact classifier of Gaussian classes; accuracies where some labels are missing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vaex.evaluation import classification, likelihood

MEANS = np.array([-2.0, 0.5, 3.0])


def log_weights(key, variables, hparams, batch, k):
    """Log weights of a linear-Gaussian model, x = mean_y + z + noise; z is drawn from its prior, so they vary."""
    z = jax.random.normal(key, (k, len(batch["x"])))
    mean = jnp.asarray(MEANS, jnp.float32)[batch["y"]]
    return jax.scipy.stats.norm.logpdf(batch["x"], mean + z, 1.0)


def exact(x, log_prior):
    """log p(y|x) of these classes: x given y is normal with variance 2."""
    joint = stats.norm.logpdf(x[:, None], MEANS, np.sqrt(2)) + log_prior
    return joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)


@pytest.mark.parametrize("prior", [None, [0.7, 0.2, 0.1]])
def test_the_generative_classifier_is_bayes_rule(prior):
    x = np.linspace(-3, 4, 9).astype(np.float32)
    bound = likelihood.log_likelihood(classification.log_weights_by_class(log_weights, 3), num_samples=20_000)
    log_px = bound(jax.random.key(0), None, None, {"x": jnp.asarray(x), "y": jnp.zeros(9, jnp.int32)})
    assert log_px.shape == (9, 3)
    log_prior = np.log(np.full(3, 1 / 3) if prior is None else np.asarray(prior))
    log_py = classification.log_posterior(log_px, 0.0 if prior is None else log_prior)
    # weights of the nearest class deviate by about their mean, so its bound's error is about 0.01
    np.testing.assert_allclose(np.exp(log_py), np.exp(exact(x, log_prior)), atol=0.02)
    np.testing.assert_allclose(np.exp(log_py).sum(axis=1), 1.0, rtol=1e-5)


def test_extreme_likelihoods_stay_probabilities():
    log_py = np.asarray(classification.log_posterior(jnp.array([[-1e5, -1e5 - 3.0], [-1e30, 0.0]])))
    np.testing.assert_allclose(np.exp(log_py), [[1 / (1 + np.exp(-3)), 1 / (1 + np.exp(3))], [0, 1]], rtol=1e-4)


def test_accuracy_counts_labelled_examples_only():
    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]])
    accuracy = classification.accuracy(scores, [1, 1, -1, 0])
    assert accuracy is not None and accuracy.values.tolist() == [1, 0, 1] and accuracy.mean == pytest.approx(2 / 3)
    assert accuracy.standard_error == pytest.approx(1 / 3)
    assert classification.accuracy(scores, [-1] * 4) is None


@pytest.mark.parametrize(
    ("scores", "y", "message"),
    [
        (np.zeros((3, 2)), [0, 1], r"shapes \(3, 2\), \(2,\)"),
        (np.zeros(3), [0, 1, 1], r"expected \[n, classes\]"),
        (np.zeros((2, 2)), [0, 2], "y goes up to 2, but scores has 2 classes"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores, y, message):
    with pytest.raises(ValueError, match=message):
        classification.accuracy(scores, y)


def test_a_prior_of_other_classes_is_refused():
    with pytest.raises(ValueError, match=r"log_prior has shape \(2,\), expected \(3,\)"):
        classification.log_posterior(np.zeros((4, 3)), np.zeros(2))
