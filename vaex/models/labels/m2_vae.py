r"""M2: a conditional VAE whose label, where it is missing, is inferred by a classifier trained with it.

Objective, in nats per example: :math:`-\mathcal L(x,y)` of labelled examples and :math:`-\mathcal U(x)` of unlabelled ones
(label -1; ``--labels=100`` hides all others), each averaged over its part of the batch and weighted by its share
:math:`N_l/N` and :math:`1 - N_l/N` of the data, however many a batch holds, plus :math:`\alpha` times the mean of
:math:`-\log q(y|x)` over labelled ones. The paper's weight of that mean, beside sums over N examples, is N times as large: its
0.1 N is the default, 0.1.
:math:`\mathcal L(x,y) = \mathbb E_{q(z|x,y)}\log p(x|y,z) + \log p(y) - \mathrm{KL}(q(z|x,y)\,\|\,p(z))` and
:math:`\mathcal U(x) = \sum_y q(y|x)\,\mathcal L(x,y) + \mathcal H(q(y|x))`, summed over all classes.

Source: Kingma et al. 2014, eqs. 6-9.
Command: ``python experiments/run.py --model=m2_vae --labels=100``
Result: digits, 100 labels, test: the classifier is right for 70% of images, the generative classifier for 69%; with ``--alpha=10``
for 96% and 95%.
"""

from __future__ import annotations

import jax

from vaex.configuration import options
from vaex.core import Batch, Labels, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.models import latent
from vaex.models.labels import _labelled as labelled
from vaex.models.labels._labelled import HParams
from vaex.models.networks import TINY, NetworkConfig

__all__ = ["TINY", "Config", "HParams", "build"]


@options
class Config(NetworkConfig):
    """Options of M2, whose classifier has the size of its encoder."""

    def unused_beside_own(self) -> tuple[str, ...]:
        return ()  # the classifier uses them


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of M2 for labelled data of this spec."""
    components = labelled.build_components(config, spec)
    conditional = components.conditional

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        terms = labelled.terms(key, components, variables.params["vae"], hparams, batch)
        metrics = latent.metrics(conditional.likelihood, terms.log_px, terms.kl) | {"label_entropy": terms.entropy}
        if train:
            metrics |= {"classification_loss": terms.classification_loss, "training_accuracy": terms.accuracy}
        return Outcome({"vae": terms.loss}, variables.state, metrics)

    def encode(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Distribution:
        params = variables.params["vae"]
        return conditional.posterior(params, hparams, labelled.with_label(components, params, batch))

    def classify(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Distribution:
        return components.classify(variables.params["vae"], batch)

    def class_log_weights(
        key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int
    ) -> jax.Array:
        return labelled.class_log_weights(key, components, variables.params["vae"], hparams, batch, num_samples)

    density = conditional.likelihood.density
    log_weights = labelled.marginal(class_log_weights, conditional.classes) if density else None
    model = latent.model(conditional._replace(init=components.init), objective)
    model = model._replace(encode=encode, log_weights=log_weights, compares_examples=True)
    recipe = latent.single_stage(model, config, conditional.likelihood)
    return recipe._replace(labels=Labels(conditional.classes, classify, class_log_weights))
