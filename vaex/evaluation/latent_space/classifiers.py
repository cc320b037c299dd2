"""Classifiers of images by their attributes, which judge what a change of the code has changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

COMPONENTS, HIDDEN, EPOCHS = 100, 128, 60  # principal components of the images, hidden units, passes


class Classify(Protocol):
    """Predicts attributes of examples x [n, ...]: name -> integers [n]."""

    def __call__(self, x: np.ndarray, /) -> Mapping[str, np.ndarray]: ...


class Classifier(NamedTuple):
    """``classify``, and ``accuracy``, name -> share of right predictions among a tenth of the examples that no network has seen."""

    classify: Classify
    accuracy: Mapping[str, float]


def fit_classifier(x: ArrayLike, attributes: Mapping[str, ArrayLike], *, seed: int = 0) -> Classifier:
    """Train a perceptron for each attribute, of 128 hidden units on the first 100 principal components of the examples.

    Args:
      x: examples [n, ...], values as they are shown.
      attributes: name -> integers [n].
      seed: of the networks.
    Returns: a pure function of the arguments.
    Raises: ValueError for attributes of another length, or with a single value.
    Example:
      >>> x = np.repeat(np.eye(2), 50, axis=0)
      >>> fit_classifier(x, {"which": np.repeat([0, 1], 50)}).accuracy
      {'which': 1.0}
    """
    import warnings

    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    values = np.asarray(x, np.float64).reshape(len(np.asarray(x)), -1)
    held_out = np.arange(len(values)) % 10 == 0
    components = PCA(min(COMPONENTS, *values[~held_out].shape), random_state=seed).fit(values[~held_out])
    scale = float(np.sqrt(components.explained_variance_.sum())) or 1.0
    inputs = components.transform(values) / scale * np.sqrt(components.n_components_)
    networks, accuracy = {}, {}
    for name, given in attributes.items():
        y = np.asarray(given)
        if y.shape != (len(values),) or len(np.unique(y[~held_out])) < 2:
            raise ValueError(
                f"fit_classifier: attribute {name!r} has shape {y.shape} and {len(np.unique(y))} values, expected "
                f"({len(values)},) and at least 2"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # so many passes are what is asked for
            networks[name] = MLPClassifier((HIDDEN,), max_iter=EPOCHS, random_state=seed).fit(
                inputs[~held_out], y[~held_out]
            )
        accuracy[name] = float(networks[name].score(inputs[held_out], y[held_out]))

    def classify(x: np.ndarray, /) -> dict[str, np.ndarray]:
        flat = np.asarray(x, np.float64).reshape(len(x), -1)
        inputs = components.transform(flat) / scale * np.sqrt(components.n_components_)
        return {name: np.asarray(network.predict(inputs)) for name, network in networks.items()}

    return Classifier(classify, accuracy)
