r"""Components of models whose label is a latent variable too (M2), over data or over the codes of another model.

:math:`p(x, y, z) = p(y)\,p(z)\,p(x|y, z)` with a uniform p(y), and the posterior :math:`q(y|x)\,q(z|x, y)`. The label of an
unlabelled example is marginalised exactly: every class is enumerated, in one product per layer.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from vaex import distributions, divergences
from vaex.configuration import hparam, hyperparameters
from vaex.core import Batch, ClassLogWeights, InitKey, Labels, LogWeights, PyTree, Variables
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.models.conditions import require_labels
from vaex.models.networks import NetworkConfig, encoder_module, network_inputs
from vaex.ops.log_sum_exp import log_sum_exp
from vaex.schedules import Scalar
from vaex.training.step import masked_mean


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of a model with a likelihood, and the weight of the classification loss."""

    alpha: Scalar = hparam(
        0.1,
        low=0.0,
        doc="Weight of the mean classification loss of labelled examples beside the mean bound of all: the paper's alpha over N.",
    )


class Classify(Protocol):
    """Returns q(y|x), of batch shape [b]."""

    def __call__(self, params: PyTree, batch: Batch, /) -> distributions.Categorical: ...


class LabelledComponents(NamedTuple):
    """Components that read labels, and a classifier.

    Attributes:
      shape: of one example.
      labelled_share: of the training data, where batches hold more labelled examples than that; else None.
      conditional: q(z|x, y), p(z) and p(x|y, z).
      init: the parameters of both.
      classify: q(y|x).
    """

    shape: tuple[int, ...]
    labelled_share: float | None
    conditional: latent.Components
    init: latent.InitParams
    classify: Classify


class Terms(NamedTuple):
    """Terms of a bound on log p(x), the label marginalised, and of the training loss; nats.

    Attributes:
      log_px: expected log p(x|y, z), [b].
      kl: of z and y together, [b].
      entropy: of q(y|x), [b].
      loss: to be minimised, [].
      classification_loss: mean of -log q(y|x) over labelled examples, [].
      accuracy: share of labelled examples whose label is the most probable one, [].
    """

    log_px: jax.Array
    kl: jax.Array
    entropy: jax.Array
    loss: jax.Array
    classification_loss: jax.Array
    accuracy: jax.Array


def build_components(config: NetworkConfig, spec: Spec) -> LabelledComponents:
    """Return networks of ``config`` for labelled data of this spec, and a classifier like the encoder.

    Raises: UserError for data without labels, and where network or likelihood do not fit the data.
    """
    classes = require_labels(spec)
    posterior = gaussian.gaussian_posterior("diagonal", config.latent_dim)
    conditional = latent.build_components(
        config, spec, posterior, latent.standard_prior(config.latent_dim), Labels(classes)
    )
    classifier = encoder_module(config, spec, classes)

    def init(key: jax.Array, batch: Batch) -> PyTree:
        params = classifier.init(jax.random.fold_in(key, InitKey.AUXILIARY), network_inputs(spec, batch["x"][:1]))[
            "params"
        ]
        return conditional.init(key, batch) | {"classifier": params}

    def classify(params: PyTree, batch: Batch) -> distributions.Categorical:
        logits = classifier.apply({"params": params["classifier"]}, network_inputs(spec, batch["x"]))
        return distributions.Categorical(logits, event_ndims=0)

    share = spec.num_labelled / spec.num_training_examples if spec.num_labelled and spec.num_training_examples else None
    return LabelledComponents(spec.shape, share, conditional, init, classify)


def every_class(batch: Batch, classes: int) -> Batch:
    """Replace the labels by all classes, [c, 1]: what is computed from the batch has leading axes [c, b]."""
    return batch | {"y": jnp.arange(classes)[:, None]}


def terms(key: jax.Array, components: LabelledComponents, params: PyTree, hparams: PyTree, batch: Batch) -> Terms:
    """Return the bound of each example with its label marginalised, and the loss, in which labels of 0 or more are known."""
    classes, conditional = components.conditional.classes, components.conditional
    enumerated = every_class(batch, classes)
    posterior = conditional.posterior(params, hparams, enumerated)
    # one noise for all classes: expectations are the same, and differences between classes, which train q(y|x), vary less
    z = jax.vmap(lambda of_class: of_class.sample(key))(posterior)
    log_px = conditional.decode(params, hparams, z, enumerated).log_prob(batch["x"])
    kl = divergences.kl(posterior, conditional.prior(params, hparams))
    q = components.classify(params, batch)
    log_q = q.log_probabilities.T
    probabilities, entropy = jnp.exp(log_q), q.entropy()
    expected_log_px = jnp.sum(probabilities * log_px, axis=0)
    expected_kl = jnp.sum(probabilities * kl, axis=0) + math.log(classes) - entropy
    label = batch.get("y", jnp.full(batch["x"].shape[0], -1))
    known, one_hot = label >= 0, jax.nn.one_hot(label, classes, axis=0)
    joint = jnp.sum(one_hot * (log_px - kl), axis=0) - math.log(classes)  # L(x, y), eq. 6: bounds log p(x, y)
    bound = jnp.where(known, joint, expected_log_px - expected_kl)  # U(x), eq. 7
    count = jnp.maximum(jnp.sum(known), 1)
    classification_loss = -jnp.sum(one_hot * log_q) / count
    accuracy = jnp.sum(q.mode == label) / count
    loss = -_mean_bound(bound, known, components.labelled_share) + hparams.alpha * classification_loss  # eqs. 8 and 9
    return Terms(expected_log_px, expected_kl, entropy, loss, classification_loss, accuracy)


def _mean_bound(bound: jax.Array, known: jax.Array, labelled_share: float | None) -> jax.Array:
    """Estimate the mean of bounds [b] over the training data, of which a share is labelled; None: that of the batch."""
    if labelled_share is None:
        return jnp.mean(bound)
    return labelled_share * masked_mean(bound, known) + (1.0 - labelled_share) * masked_mean(bound, ~known)


def class_log_weights(
    key: jax.Array,
    components: LabelledComponents,
    params: PyTree,
    hparams: PyTree,
    batch: Batch,
    num_samples: int,
) -> jax.Array:
    """Draw z and return log p(x, z|y) - log q(z|x, y) of every class, [k, b, c], with one noise for all classes."""
    conditional = components.conditional
    enumerated = every_class(batch, conditional.classes)
    draw = jax.vmap(lambda of_class: latent.sample_and_log_prob(key, of_class, num_samples), out_axes=1)
    z, log_q = draw(conditional.posterior(params, hparams, enumerated))
    log_px = conditional.decode(params, hparams, z, enumerated).log_prob(batch["x"])
    return jnp.moveaxis(log_px + conditional.prior(params, hparams).log_prob(z) - log_q, 1, -1)


def marginal(class_log_weights: ClassLogWeights, classes: int) -> LogWeights:
    """Return log weights of x alone, in which the label is summed out under the uniform prior."""

    def log_weights(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int) -> jax.Array:
        of_classes = class_log_weights(key, variables, hparams, batch, num_samples)
        return log_sum_exp(of_classes, axis=-1) - math.log(classes)

    return log_weights


def with_label(components: LabelledComponents, params: PyTree, batch: Batch) -> Batch:
    """Give examples without a label (none, or -1) the most probable one."""
    inferred = components.classify(params, batch).mode
    return batch | {"y": jnp.where(batch["y"] >= 0, batch["y"], inferred) if "y" in batch else inferred}
