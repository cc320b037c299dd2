r"""Conditional VAE: encoder and decoder read the label, or other conditions.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x,y)}\log p(x|z,y) + \mathrm{KL}(q(z|x,y)\,\|\,p(z))`, the negative of
a lower bound on :math:`\log p(x|y)`; y is one-hot. It enters the first layers of an MLP, and the dense layers of a convolutional
encoder and decoder. An unlabelled example (label -1) has a condition of its own, the zero vector: where training data holds such
examples (``--labels=100``) the model also learns p(x), and z then holds the class too; otherwise label -1 has no meaning.
Of data whose y holds real numbers or several attributes, y is that vector, real numbers standardised by column, and samples that
name none have those of training examples.

Source: Sohn et al. 2015, eq. 4, with a prior that does not depend on the label; Kingma et al. 2014, eq. 6.
Command: ``python experiments/run.py --model=conditional_vae``
Result: digits, test: log p(x|y) -108.4 (K = 100); as a generative classifier it is right for 98.5% of images.
"""

from __future__ import annotations

from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.models import conditions, gaussian, latent
from vaex.models.gaussian import TINY, Config, HParams

__all__ = ["TINY", "Config", "HParams", "build"]


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a Gaussian VAE that reads labels, trained on the ELBO given the label."""
    reads = conditions.require_condition(spec)
    components = gaussian.build_components(config, spec, reads=reads)
    closed_form = config.kl == "closed_form"
    objective = latent.negative_elbo(
        components, lambda hparams, terms: terms.kl, num_samples=config.num_samples, closed_form=closed_form
    )
    recipe = latent.single_stage(latent.model(components, objective), config, components.likelihood)
    return recipe._replace(labels=reads)
