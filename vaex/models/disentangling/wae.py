r"""Wasserstein autoencoder: an autoencoder whose codes, taken together, are drawn to the prior by MMD.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + \lambda\,\mathrm{MMD}^2(q(z), p(z))`. The encoder gives a
point, or a Gaussian. With ``--likelihood=gaussian --likelihood_scale=fixed`` the first term is the paper's squared error over
2 sigma^2. With a point the model has samples, but no density and no bound.

Source: Tolstikhin et al. 2018, Wasserstein auto-encoders, algorithm 2 (WAE-MMD).
Command: ``python experiments/run.py --model=wae``
Result: digits, test, 200 images: reconstruction 110.8 nats, squared MMD within 0.0003 of 0; ``--encoder=gaussian``: reconstruction
78.2, log-likelihood -99.0 (K = 100).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.core import Batch, Outcome, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.models.disentangling import _discrepancy as discrepancy
from vaex.models.networks import TINY, Networked
from vaex.schedules import Schedule
from vaex.training import step as algorithm

__all__ = ["TINY", "Config", "HParams", "build"]


@dataclass(frozen=True)
class Config(Networked):
    """What changes shapes or control flow; static.

    Attributes:
      encoder: deterministic (a point) or gaussian (diagonal).
      kernel: imq (inverse multiquadric) or rbf (Gaussian).
    """

    encoder: Literal["deterministic", "gaussian"] = "deterministic"
    kernel: discrepancy.Kernel = "imq"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HParams(algorithm.HParams):
    """What scales something; traced.

    Attributes:
      sigma: scale of the likelihood where likelihood_scale is fixed.
      mmd_weight: weight lambda of the squared maximum mean discrepancy.
      kernel_scale: factor of the kernel's seven length scales, 0.3 to 3.2 standard deviations of the prior.
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {"sigma": (1e-6, math.inf), **discrepancy.RANGES}

    sigma: Schedule | float = 1.0
    mmd_weight: Schedule | float = 3000.0
    kernel_scale: Schedule | float = 1.0


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec."""
    point = latent.Posterior(config.latent_dim, lambda raw, params, hparams: distributions.Delta(raw))
    random = config.encoder == "gaussian"
    posterior = gaussian.gaussian_posterior("diagonal", config.latent_dim) if random else point
    it = latent.parts(config, spec, posterior, latent.standard_prior(config.latent_dim))

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        params = variables.params["vae"]
        z = it.posterior(params, hparams, batch).sample(key)
        reconstruction = -it.decode(params, hparams, z, batch).log_prob(batch["x"])
        prior = it.prior(params, hparams)
        mmd = discrepancy.prior_discrepancy(
            jax.random.fold_in(key, 1), z[None], prior, config.kernel, hparams.kernel_scale
        )
        loss = jnp.mean(reconstruction) + hparams.mmd_weight * mmd
        return Outcome({"vae": loss}, variables.state, {"reconstruction": reconstruction, "mmd": mmd})

    model = latent.model(it, objective)
    model = model if random else model._replace(log_weights=None)
    return latent.single_stage(latent.of_pairs(model), config, HParams(), it.likelihood)
