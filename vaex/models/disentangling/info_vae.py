r"""InfoVAE: less weight on the KL divergence of each posterior, and the MMD of aggregate posterior and prior.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + (1-\alpha)\,\mathrm{KL}(q(z|x)\,\|\,p(z))
+ (\alpha+\lambda-1)\,\mathrm{MMD}^2(q(z), p(z))`; ``kl_weight`` is 1 - alpha, ``mmd_weight`` is alpha + lambda - 1. alpha = 1 is
MMD-VAE, which ``--kl_weight=0`` gives.

Source: Zhao, Song & Ermon 2019, InfoVAE, eq. 6 and section 4.
Command: ``python experiments/run.py --model=info_vae``
Result: digits, test, 200 images: elbo -93.6, log-likelihood -89.8 (K = 100), KL 13.8, squared MMD 0.0004.
"""

from __future__ import annotations

import jax

from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Metrics, PyTree, Recipe
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.models.disentangling import _discrepancy as discrepancy
from vaex.models.gaussian import TINY
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]


@options
class Config(gaussian.Config):
    """Options of a Gaussian VAE, and the kernel of the MMD."""

    kernel: discrepancy.Kernel = option("imq", doc="Kernel of the MMD: imq (inverse multiquadric) or rbf (Gaussian).")


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of a Gaussian VAE, and the weights of its two divergences."""

    kl_weight: Scalar = hparam(0.5, low=0.0, doc="Weight of the KL divergence, 1 - alpha in the paper.")
    mmd_weight: Scalar = hparam(
        1000.0, low=0.0, doc="Weight of the squared maximum mean discrepancy, alpha + lambda - 1 in the paper."
    )
    kernel_scale: Scalar = hparam(
        1.0,
        low=1e-6,
        doc="Factor of the seven length scales of the kernel, which are 0.3 to 3.2 standard deviations of the prior.",
    )


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a Gaussian VAE with the divergences of eq. 6."""

    def penalty(hparams: PyTree, terms: gaussian.Terms) -> tuple[jax.Array, Metrics]:
        mmd = discrepancy.prior_discrepancy(terms.key, terms.z, terms.prior, config.kernel, hparams.kernel_scale)
        return hparams.kl_weight * terms.kl + hparams.mmd_weight * mmd, {"mmd": mmd}

    model, likelihood = gaussian.gaussian_vae(config, spec, penalty)
    return latent.single_stage(latent.refuse_single_examples(model), config, likelihood)
