"""Classification by Bayes' rule from the class-conditional likelihoods of a generative model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.evaluation.likelihood import Estimate, estimate

if TYPE_CHECKING:
    from vaex.core import Batch, ClassLogWeights, LogWeights, PyTree, Variables


def log_weights_by_class(log_weights: LogWeights, classes: int) -> ClassLogWeights:
    """Return a function of the log weights of every class, [k, b, classes], for a model whose ``log_weights`` are given the label.

    Passed to ``vaex.evaluation.likelihood.log_likelihood``, it gives importance-weighted log p(x|y), [b, classes].

    Args:
      log_weights: as in ``vaex.core.Model``; reads ``batch["y"]``.
      classes: labels are 0..classes-1.
    Example:
      >>> by_label = lambda key, variables, hparams, batch, k: jnp.tile(-1.0 * batch["y"], (k, 1))
      >>> log_weights_by_class(by_label, 3)(None, None, None, {"x": jnp.zeros((2, 4))}, 1).tolist()
      [[[-0.0, -1.0, -2.0], [-0.0, -1.0, -2.0]]]
    """

    def of_every_class(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, k: int) -> jax.Array:
        rows = {name: jnp.repeat(value, classes, axis=0) for name, value in batch.items()}
        rows["y"] = jnp.tile(jnp.arange(classes), len(batch["x"]))
        return log_weights(key, variables, hparams, rows, k).reshape(k, -1, classes)

    return of_every_class


def log_posterior(log_px: ArrayLike, log_prior: ArrayLike = 0.0) -> jax.Array:
    r"""Bayes' rule: :math:`\log p(y|x) = \log p(x|y) + \log p(y) - \log\sum_{y'} p(x|y')\,p(y')`.

    Args:
      log_px: log p(x|y) of every class, [..., classes], nats; importance-weighted bounds in practice.
      log_prior: log p(y), [classes], up to a constant; uniform by default.
    Returns: normalised log-probabilities, [..., classes].
    Raises: ValueError for a prior of another number of classes.
    Example:
      >>> jnp.exp(log_posterior(jnp.log(jnp.array([0.1, 0.3])))).round(2)
      Array([0.25, 0.75], dtype=float32)

    References: Kingma et al. 2014, section 2.2; bounds in place of likelihoods: Burda, Grosse & Salakhutdinov 2016, eq. 8.
    """
    log_px, log_prior = jnp.asarray(log_px), jnp.asarray(log_prior)
    if log_prior.ndim and log_prior.shape != log_px.shape[-1:]:
        raise ValueError(
            f"log_posterior: log_prior has shape {log_prior.shape}, expected {log_px.shape[-1:]} like the classes of log_px"
        )
    return jax.nn.log_softmax(log_px + log_prior, axis=-1)


def accuracy(scores: ArrayLike, y: ArrayLike) -> Estimate | None:
    """Share of labelled examples whose own class has the highest score.

    Args:
      scores: [n, classes], such as log-probabilities.
      y: [n] labels; examples with -1 (unlabelled) do not count.
    Returns: mean, standard error, and 0 or 1 for each labelled example; None where no example is labelled.
    Raises: ValueError for shapes that disagree, or labels that no score belongs to.
    Example:
      >>> accuracy([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, -1]).mean
      0.5
    """
    scores, y = np.asarray(scores), np.asarray(y)
    if scores.ndim != 2 or y.shape != scores.shape[:1]:
        raise ValueError(f"accuracy: scores and y have shapes {scores.shape}, {y.shape}, expected [n, classes] and [n]")
    if y.max(initial=-1) >= scores.shape[1]:
        raise ValueError(f"accuracy: y goes up to {y.max()}, but scores has {scores.shape[1]} classes; give one each")
    known = y >= 0
    return estimate(np.argmax(scores, axis=1)[known] == y[known]) if known.any() else None
