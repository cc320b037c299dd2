r"""Models whose label is a latent variable too (model M2), over pixels or over the codes of another model.

:math:`p(x, y, z) = p(y)\,p(z)\,p(x|y, z)` with a uniform p(y), and the posterior :math:`q(y|x)\,q(z|x, y)`. The label of an
unlabelled example is marginalised exactly: every class is enumerated, in one product per layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaex import distributions, divergences
from vaex.configuration import hparam, hyperparameters
from vaex.core import Batch, InitKey, PyTree
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.models.networks import NetworkConfig, encoder_module, require_labels
from vaex.schedules import Scalar
from vaex.training.hyperparameters import TrainingHParams


@hyperparameters
class HParams(TrainingHParams):
    """Hyperparameters of ``labelled``."""

    sigma: Scalar = hparam(1.0, low=1e-06, doc="Scale of the likelihood where likelihood_scale is fixed.")
    alpha: Scalar = hparam(
        10.0,
        low=0.0,
        doc="Weight of the classification loss, the mean over a batch's labelled examples, beside the bound per example.",
    )


class LabelledParts(NamedTuple):
    """Parts that read labels, and a classifier: ``init(key, batch) -> params`` of both, ``classify(params, batch) -> q(y|x)``.

    ``shape``: of one example.
    """

    shape: tuple[int, ...]
    parts: latent.Components
    init: Callable[[jax.Array, Batch], PyTree]
    classify: Callable[[PyTree, Batch], distributions.Categorical]


class Terms(NamedTuple):
    """Terms of the bound on log p(x), the label marginalised, in nats, [b] each, and of the training loss.

    ``log_px``: expected log p(x|y,z). ``kl``: of z and y together. ``entropy``: of q(y|x). ``loss`` [] to be minimised.
    ``classification_loss`` []: mean of -log q(y|x) over labelled examples; ``accuracy`` []: the share that q(y|x) gets right.
    """

    log_px: jax.Array
    kl: jax.Array
    entropy: jax.Array
    loss: jax.Array
    classification_loss: jax.Array
    accuracy: jax.Array


def labelled_parts(config: NetworkConfig, spec: Spec) -> LabelledParts:
    """Networks of ``config`` for labelled data of this spec, and a classifier like its encoder.

    Raises: UserError for data without labels, and where network or likelihood do not fit the data.
    """
    classes = require_labels(spec)
    posterior = gaussian.gaussian_posterior("diagonal", config.latent_dim)
    it = latent.build_components(config, spec, posterior, latent.standard_prior(config.latent_dim), classes)
    classifier = encoder_module(config, spec, classes)

    def init(key: jax.Array, batch: Batch) -> PyTree:
        mine = classifier.init(jax.random.fold_in(key, InitKey.AUXILIARY), batch["x"][:1])["params"]
        return it.init(key, batch) | {"classifier": mine}

    def classify(params: PyTree, batch: Batch) -> distributions.Categorical:
        logits: Any = classifier.apply({"params": params["classifier"]}, batch["x"])
        return distributions.Categorical(logits, event_ndims=0)

    return LabelledParts(spec.shape, it, init, classify)


def every_class(batch: Batch, classes: int) -> Batch:
    """The batch with labels [c, 1], so that what is computed of it has leading axes [c, b]."""
    return batch | {"y": jnp.arange(classes)[:, None]}


def terms(it: LabelledParts, key: jax.Array, params: PyTree, hparams: Any, batch: Batch) -> Terms:
    """The bound of each example with its label marginalised, and the loss, in which known labels (0 or more) are used."""
    classes, every = it.parts.classes, every_class(batch, it.parts.classes)
    posterior = it.parts.posterior(params, hparams, every)
    # all classes with the same noise: expectations stay as they are, their differences, which train q(y|x), lose most noise
    z = jax.vmap(lambda of_class: of_class.sample(key))(posterior)
    log_px = it.parts.decode(params, hparams, z, every).log_prob(batch["x"])
    kl = divergences.kl(posterior, it.parts.prior(params, hparams))
    q = it.classify(params, batch)
    log_q = q.log_probabilities.T
    guess, entropy = jnp.exp(log_q), q.entropy()
    expected = jnp.sum(guess * log_px, axis=0), jnp.sum(guess * kl, axis=0) + math.log(classes) - entropy
    label = batch.get("y", jnp.full(len(batch["x"]), -1))
    known, truth = label >= 0, jax.nn.one_hot(label, classes, axis=0)
    joint = jnp.sum(truth * (log_px - kl), axis=0) - math.log(classes)  # bounds log p(x, y)
    bound = jnp.where(known, joint, expected[0] - expected[1])
    count = jnp.maximum(jnp.sum(known), 1)
    classification_loss = -jnp.sum(truth * log_q) / count
    accuracy = jnp.sum(q.mode == label) / count
    loss = -jnp.mean(bound) + hparams.alpha * classification_loss
    return Terms(*expected, entropy, loss, classification_loss, accuracy)


def class_log_weights(
    it: LabelledParts, key: jax.Array, params: PyTree, hparams: Any, batch: Batch, num_samples: int
) -> jax.Array:
    """log p(x, z|y) - log q(z|x, y) for every class, [k, b, c]."""
    every = every_class(batch, it.parts.classes)
    # the same noise for all classes
    draw = jax.vmap(lambda of_class: latent.sample_and_log_prob(key, of_class, num_samples), out_axes=1)
    z, log_q = draw(it.parts.posterior(params, hparams, every))
    log_px = it.parts.decode(params, hparams, z, every).log_prob(batch["x"])
    return jnp.moveaxis(log_px + it.parts.prior(params, hparams).log_prob(z) - log_q, 1, -1)


def marginal(class_log_weights: Callable[..., jax.Array], classes: int) -> Callable[..., jax.Array]:
    """``Model.log_weights`` of x alone: [k, b], the label summed out of ``class_log_weights`` under the uniform prior."""

    def log_weights(*args: Any) -> jax.Array:
        return jax.nn.logsumexp(class_log_weights(*args), axis=-1) - math.log(classes)

    return log_weights


def with_label(it: LabelledParts, params: PyTree, batch: Batch) -> Batch:
    """The batch with the most probable label where it has none, or -1."""
    inferred = it.classify(params, batch).mode
    return batch | {"y": jnp.where(batch["y"] >= 0, batch["y"], inferred) if "y" in batch else inferred}
