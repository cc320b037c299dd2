r"""M2: a conditional VAE whose label, where it is missing, is inferred by a classifier trained with it.

Objective, in nats per example, averaged over a batch: :math:`-\mathcal L(x,y)` of labelled examples and
:math:`-\mathcal U(x)` of unlabelled ones (label -1; ``--labels=100`` hides all others), plus :math:`\alpha` times the mean of
:math:`-\log q(y|x)` over labelled ones:
:math:`\mathcal L(x,y) = \mathbb E_{q(z|x,y)}\log p(x|y,z) + \log p(y) - \mathrm{KL}(q(z|x,y)\,\|\,p(z))` and
:math:`\mathcal U(x) = \sum_y q(y|x)\,\mathcal L(x,y) + \mathcal H(q(y|x))`, summed over all classes.

Source: Kingma et al. 2014, eqs. 6-9.
Command: ``python experiments/run.py --model=m2_vae --labels=100``
Result: digits, 100 labels, test: the classifier is right for 93% of images, the generative classifier for 95.5%.
"""

from __future__ import annotations

from typing import Any

import jax

from vaex.configuration import options
from vaex.core import Batch, Labels, Model, Outcome, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import latent
from vaex.models.labels import _labelled as labelled
from vaex.models.labels._labelled import HParams
from vaex.models.networks import TINY, NetworkConfig

__all__ = ["TINY", "Config", "HParams", "build"]


@options
class Config(NetworkConfig):
    """Options of ``m2_vae``."""


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for labelled data of this spec."""
    it = labelled.labelled_parts(config, spec)
    classes, parts = it.parts.classes, it.parts

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        found = labelled.terms(it, key, variables.params["vae"], hparams, batch)
        metrics = latent.metrics(parts.likelihood, found.log_px, found.kl) | {"label_entropy": found.entropy}
        if train:
            metrics |= {"classification_loss": found.classification_loss, "training_accuracy": found.accuracy}
        return Outcome({"vae": found.loss}, variables.state, metrics)

    def encode(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> Any:
        params = variables.params["vae"]
        return parts.posterior(params, hparams, labelled.with_label(it, params, batch))

    def classify(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> Any:
        return it.classify(variables.params["vae"], batch)

    def class_log_weights(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, k: int) -> jax.Array:
        return labelled.class_log_weights(it, key, variables.params["vae"], hparams, batch, k)

    log_weights = labelled.marginal(class_log_weights, classes) if parts.likelihood.density else None
    base: Model = latent.model(parts._replace(init=it.init), objective)
    recipe = latent.single_stage(base._replace(encode=encode, log_weights=log_weights), config, parts.likelihood)
    return recipe._replace(labels=Labels(classes, classify, class_log_weights))
