r"""Wasserstein autoencoder: the MMD of aggregate posterior and prior instead of a KL divergence.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + \lambda\,\mathrm{MMD}^2(q(z), p(z))`. The encoder is
deterministic, or outputs a Gaussian. With ``--likelihood=gaussian --likelihood_scale=fixed`` the first term is the paper's squared
error over 2 sigma^2. A deterministic encoder leaves no bound on log p(x).

Source: Tolstikhin et al. 2018, Wasserstein auto-encoders, algorithm 2 (WAE-MMD).
Command: ``python experiments/run.py --model=wae``
Result: digits, test, 200 images: reconstruction 110.8 nats, squared MMD within 0.0003 of 0; ``--posterior=gaussian``:
reconstruction 78.2, log-likelihood -99.0 (K = 100).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, Outcome, PyTree, Recipe, StepKey, Variables
from vaex.data.spec import Spec
from vaex.models import gaussian, latent
from vaex.models.disentangling import _discrepancy as discrepancy
from vaex.models.networks import TINY, NetworkConfig
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]


@options
class Config(NetworkConfig):
    """Options of an autoencoder, the kind of its encoder, and the kernel of the MMD."""

    posterior: Literal["deterministic", "gaussian"] = option(
        "deterministic", doc="Posterior: deterministic (a point) or gaussian (with a diagonal covariance)."
    )
    kernel: discrepancy.Kernel = option("imq", doc="Kernel of the MMD: imq (inverse multiquadric) or rbf (Gaussian).")


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of an autoencoder with a likelihood, and the weight and scale of the MMD."""

    mmd_weight: Scalar = hparam(
        3000.0, low=0.0, doc="Weight of the squared maximum mean discrepancy, lambda in the paper."
    )
    kernel_scale: Scalar = hparam(
        1.0,
        low=1e-6,
        doc="Factor of the seven length scales of the kernel, which are 0.3 to 3.2 standard deviations of the prior.",
    )


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a Wasserstein autoencoder for data of this spec."""
    point = latent.Posterior(config.latent_dim, lambda params, hparams, raw: distributions.Delta(raw), density=False)
    with_noise = config.posterior == "gaussian"
    posterior = gaussian.gaussian_posterior("diagonal", config.latent_dim) if with_noise else point
    components = latent.build_components(config, spec, posterior, latent.standard_prior(config.latent_dim))

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params = variables.params["vae"]
        z = components.posterior(params, hparams, batch).sample(key)
        reconstruction = -components.decode(params, hparams, z, batch).log_prob(batch["x"])
        prior = components.prior(params, hparams)
        mmd = discrepancy.prior_discrepancy(
            jax.random.fold_in(key, StepKey.PENALTY), z[None], prior, config.kernel, hparams.kernel_scale
        )
        loss = jnp.mean(reconstruction) + hparams.mmd_weight * mmd
        return Outcome({"vae": loss}, variables.state, {"reconstruction": reconstruction, "mmd": mmd})

    model = latent.model(components, objective)
    return latent.single_stage(latent.refuse_single_examples(model), config, components.likelihood)
