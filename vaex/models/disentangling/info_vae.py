r"""InfoVAE: less weight on the KL of each posterior, and the aggregate posterior drawn to the prior by MMD.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + (1-\alpha)\,\mathrm{KL}(q(z|x)\,\|\,p(z))
+ (\alpha+\lambda-1)\,\mathrm{MMD}^2(q(z), p(z))`; ``kl_weight`` is 1 - alpha, ``mmd_weight`` is alpha + lambda - 1. alpha = 1 is
MMD-VAE, which ``--kl_weight=0`` gives.

Source: Zhao, Song & Ermon 2019, InfoVAE, eq. 6 and section 4.
Command: ``python experiments/run.py --model=info_vae``
Result: digits, test, 200 images: elbo -93.6, log-likelihood -89.8 (K = 100), KL 13.8, squared MMD 0.0004.
"""

from __future__ import annotations

from typing import Any

import jax

from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.models.disentangling import _discrepancy as discrepancy
from vaex.models.gaussian import TINY
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]


@options
class Config(gaussian.Config):
    """Options of ``info_vae``."""

    kernel: discrepancy.Kernel = option("imq", doc="Imq (inverse multiquadric) or rbf (Gaussian).")


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of ``info_vae``."""

    kl_weight: Scalar = hparam(0.5, low=0.0, doc="Weight of the KL, 1 - alpha.")
    mmd_weight: Scalar = hparam(
        1000.0, low=0.0, doc="Weight of the squared maximum mean discrepancy, alpha + lambda - 1."
    )
    kernel_scale: Scalar = hparam(
        1.0, low=1e-6, doc="Factor of the kernel's seven length scales, 0.3 to 3.2 standard deviations of the prior."
    )


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec."""

    def penalty(hparams: Any, terms: gaussian.Terms) -> tuple[jax.Array, dict[str, jax.Array]]:
        mmd = discrepancy.prior_discrepancy(terms.key, terms.z, terms.prior, config.kernel, hparams.kernel_scale)
        return hparams.kl_weight * terms.kl + hparams.mmd_weight * mmd, {"mmd": mmd}

    model, likelihood = gaussian.gaussian_vae(config, spec, penalty)
    return latent.single_stage(latent.refuse_single_examples(model), config, likelihood)
