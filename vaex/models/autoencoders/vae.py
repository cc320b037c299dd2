r"""The variational autoencoder.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + \mathrm{KL}(q(z|x)\,\|\,p(z))`, the negative ELBO.

Source: Kingma & Welling 2014, Auto-Encoding Variational Bayes; Rezende et al. 2014.
Command: ``python experiments/run.py --model=vae``
Result: digits, test: elbo -108.5, log-likelihood -99.7 (K = 100), KL 21.7; 4,000 steps overfit the 1,397 digits, which a larger
``beta`` or fewer steps prevent (see ``beta_vae``, ``iwae``).
"""

from __future__ import annotations

from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.models import gaussian
from vaex.models.gaussian import TINY, Config, HParams

__all__ = ["TINY", "Config", "HParams", "build"]


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a Gaussian VAE trained on the negative ELBO."""
    return gaussian.recipe(config, spec, lambda hparams, terms: terms.kl)
