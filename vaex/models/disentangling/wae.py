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

from typing import Any, Literal

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, Outcome, Recipe, StepKey, Variables
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.models.disentangling import _discrepancy as discrepancy
from vaex.models.networks import TINY, NetworkConfig
from vaex.schedules import Scalar
from vaex.training.hyperparameters import TrainingHParams

__all__ = ["TINY", "Config", "HParams", "build"]


@options
class Config(NetworkConfig):
    """Options of ``wae``."""

    encoder: Literal["deterministic", "gaussian"] = option(
        "deterministic", doc="Deterministic (a point) or gaussian (diagonal)."
    )
    kernel: discrepancy.Kernel = option("imq", doc="Imq (inverse multiquadric) or rbf (Gaussian).")


@hyperparameters
class HParams(TrainingHParams):
    """Hyperparameters of ``wae``."""

    sigma: Scalar = hparam(1.0, low=1e-06, doc="Scale of the likelihood where likelihood_scale is fixed.")
    mmd_weight: Scalar = hparam(3000.0, low=0.0, doc="Weight lambda of the squared maximum mean discrepancy.")
    kernel_scale: Scalar = hparam(
        1.0, low=1e-6, doc="Factor of the kernel's seven length scales, 0.3 to 3.2 standard deviations of the prior."
    )


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec."""
    point = latent.Posterior(config.latent_dim, lambda params, hparams, raw: distributions.Delta(raw))
    random = config.encoder == "gaussian"
    posterior = gaussian.gaussian_posterior("diagonal", config.latent_dim) if random else point
    it = latent.build_components(config, spec, posterior, latent.standard_prior(config.latent_dim))

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        params = variables.params["vae"]
        z = it.posterior(params, hparams, batch).sample(key)
        reconstruction = -it.decode(params, hparams, z, batch).log_prob(batch["x"])
        prior = it.prior(params, hparams)
        mmd = discrepancy.prior_discrepancy(
            jax.random.fold_in(key, StepKey.PENALTY), z[None], prior, config.kernel, hparams.kernel_scale
        )
        loss = jnp.mean(reconstruction) + hparams.mmd_weight * mmd
        return Outcome({"vae": loss}, variables.state, {"reconstruction": reconstruction, "mmd": mmd})

    model = latent.model(it, objective)
    model = model if random else model._replace(log_weights=None)
    return latent.single_stage(latent.refuse_single_examples(model), config, it.likelihood)
