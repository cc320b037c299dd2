r"""DIP-VAE: the covariance of the aggregate posterior is drawn to the prior's.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + \mathrm{KL}(q(z|x)\,\|\,p(z))
+ \lambda_{od}\sum_{i\ne j}C_{ij}^2 + \lambda_d\sum_i(C_{ii}-1)^2`. C is over the batch: in DIP-VAE-I the covariance of the
posterior means, in DIP-VAE-II that of the latents, the mean posterior variance included.

Source: Kumar, Sattigeri & Balakrishnan 2018, eq. 6 (I) and 7 (II).
Command: ``python experiments/run.py --model=dip_vae``
Result: digits, test, 200 images: elbo -102.5, log-likelihood -93.9 (K = 100); squared covariances of the means 0.39 in all, of 90.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from vaex import divergences
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import gaussian, latent
from vaex.models.gaussian import TINY
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]


@options
class Config(gaussian.Config):
    """Options of ``dip_vae``."""

    dip: Literal["i", "ii"] = option("i", doc="Whose covariance, i (of the posterior means) or ii (of the latents).")

    def check(self) -> None:
        super().check()
        if self.dip == "ii" and self.posterior == "full":
            raise UserError("--dip=ii needs the latents' own variances; use --posterior=diagonal or fixed, or --dip=i")


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of ``dip_vae``."""

    off_diagonal: Scalar = hparam(10.0, low=0.0, doc="Weight of the covariances.")
    diagonal: Scalar = hparam(
        100.0,
        low=0.0,
        doc="Weight of the variances' distance from 1; the paper takes 10 times off_diagonal for i, the same for ii.",
    )


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec."""

    def moments(terms: gaussian.Terms) -> list[jax.Array]:
        q = terms.posterior
        return [q.mean] if config.dip == "i" else [q.mean, q.log_scale]

    def part(terms: gaussian.Terms, off_diagonal: float, diagonal: float) -> jax.Array:
        weights = {"off_diagonal": off_diagonal, "diagonal": diagonal}
        # an example alone, in evaluation, counts twice, which is the same covariance
        mean, *log_scale = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0) if len(x) == 1 else x, moments(terms))
        if config.dip == "i":
            return divergences.dip_i_penalty(mean, **weights)
        return divergences.dip_ii_penalty(mean, *log_scale, **weights)

    def penalty(hparams: Any, terms: gaussian.Terms) -> tuple[jax.Array, dict[str, jax.Array]]:
        off, on = part(terms, 1.0, 0.0), part(terms, 0.0, 1.0)
        own = {"squared_covariances": off, "squared_variance_errors": on}
        return terms.kl + hparams.off_diagonal * off + hparams.diagonal * on, own

    model, likelihood = gaussian.gaussian_vae(config, spec, penalty)
    return latent.single_stage(latent.refuse_single_examples(model), config, likelihood)
