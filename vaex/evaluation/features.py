"""Feature spaces in which samples and examples are compared: pixels, principal components, a classifier's layer, or your own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from vaex.errors import UserError

FeatureFunction: TypeAlias = Callable[[np.ndarray], np.ndarray]  # examples [n, ...] -> features [n, d]
FITTED = 10_000  # training examples that components and classifier are fitted to, at most
HIDDEN, EPOCHS = 256, 30  # of the classifier
KINDS = "pixels, pca:D, classifier, or module:function of your own"


class Features(NamedTuple):
    """``function`` from examples [n, ...] to features [n, d], and ``described``, how it was made, in words."""

    function: FeatureFunction
    described: str


def fit_features(kind: str, x: np.ndarray, y: np.ndarray | None = None) -> Features:
    """Return the features of this kind, fitted to training examples.

    Args:
      kind: "pixels"; "pca:D", the first D principal components; "classifier", the hidden layer of a perceptron that is trained to
        tell the labels (seeded, so that it is the same each time); or "module:function", which is imported.
      x: training examples [n, ...], values as they are shown.
      y: their labels [n], -1 for unlabelled; None without.
    Raises: UserError for another kind, a function that is not there, or a classifier without labels.
    Example:
      >>> fit_features("pixels", np.zeros((3, 2, 2, 1))).function(np.zeros((5, 2, 2, 1))).shape
      (5, 4)
    """
    if kind == "pixels":
        return Features(_flat, "pixels")
    if kind.startswith("pca:") and kind[4:].isdecimal() and int(kind[4:]) > 0:
        return _components(int(kind[4:]), _flat(x[:FITTED]))
    if kind == "classifier":
        if y is None or len(np.unique(y[y >= 0])) < 2:
            raise UserError("--features=classifier: the training examples have no labels; use pixels or pca:50")
        known = np.flatnonzero(y >= 0)[:FITTED]
        return _classifier(_flat(x[known]), y[known])
    if ":" in kind and not kind.startswith("pca:"):
        return Features(_imported(kind), kind)
    raise UserError(f"--features={kind}: expected {KINDS}")


def _flat(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64).reshape(len(x), -1)


def _components(count: int, values: np.ndarray) -> Features:
    from sklearn.decomposition import PCA

    count = min(count, *values.shape)
    fitted = PCA(count, svd_solver="full").fit(values)
    share = float(fitted.explained_variance_ratio_.sum())
    described = f"{count} principal components of {len(values)} training examples, {share:.1%} of their variance"
    return Features(lambda x: fitted.transform(_flat(x)), described)


def _classifier(values: np.ndarray, labels: np.ndarray) -> Features:
    """Return the hidden layer of a perceptron; its accuracy is measured on a tenth that it was not trained on."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    held_out = np.arange(len(values)) % 10 == 0
    network = MLPClassifier((HIDDEN,), max_iter=EPOCHS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # so many epochs are what is asked for
        network.fit(values[~held_out], labels[~held_out])
    accuracy = float(network.score(values[held_out], labels[held_out]))
    weights, biases = network.coefs_[0], network.intercepts_[0]
    described = (
        f"hidden layer ({HIDDEN}) of a perceptron trained on {np.sum(~held_out)} examples, accuracy {accuracy:.3f} on "
        f"{np.sum(held_out)} others"
    )
    return Features(lambda x: np.maximum(_flat(x) @ weights + biases, 0.0), described)


def _imported(name: str) -> FeatureFunction:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--features={name}: {error}; give module:function of an importable module") from None

    def checked(x: np.ndarray) -> np.ndarray:
        features = np.asarray(function(x))
        if features.ndim != 2 or len(features) != len(x):
            raise UserError(
                f"--features={name}: returned shape {features.shape} for {len(x)} examples, expected [n, d]"
            )
        return features

    return checked
