r"""DIP-VAE: a penalty on the distance between the covariances of aggregate posterior and prior.

Objective, in nats per example: :math:`-\mathbb E_{q(z|x)}\log p(x|z) + \mathrm{KL}(q(z|x)\,\|\,p(z))
+ \lambda_{od}\sum_{i\ne j}C_{ij}^2 + \lambda_d\sum_i(C_{ii}-1)^2`. C is over the batch: in DIP-VAE-I the covariance of the
posterior means, in DIP-VAE-II that of the latents, the mean posterior variance included.

Source: Kumar, Sattigeri & Balakrishnan 2018, eq. 6 (I) and 7 (II), with the weights of section 4:
:math:`\lambda_d = 10\lambda_{od}` for I and :math:`\lambda_d = \lambda_{od}` for II.
Command: ``python experiments/run.py --model=dip_vae``
Result: digits, test, 200 images: elbo -102.5, log-likelihood -94.1 (K = 100); squared covariances of the means 0.39 in all, of 90.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from vaex import divergences
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Metrics, PyTree, Recipe
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import gaussian, latent
from vaex.models.gaussian import TINY
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]


@options
class Config(gaussian.Config):
    """Options of a Gaussian VAE, and the covariance that is penalised."""

    dip: Literal["i", "ii"] = option(
        "i", doc="Penalised covariance: i, that of the posterior means, or ii, that of the latents."
    )

    def check(self) -> None:
        super().check()
        if self.dip == "ii" and self.posterior == "full":
            raise UserError("--dip=ii needs the latents' own variances; use --posterior=diagonal or fixed, or --dip=i")


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of a Gaussian VAE, and the weights of the covariance penalty."""

    off_diagonal: Scalar = hparam(10.0, low=0.0, doc="Weight of the squared covariances of different latents.")
    diagonal: Scalar | None = hparam(
        None,
        low=0.0,
        doc="Weight of the squared distance of each variance from 1; by default 10 times off_diagonal for i, as much for ii.",
    )


DIAGONAL_RATIO = {"i": 10.0, "ii": 1.0}  # published weights of diagonal over off_diagonal


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a Gaussian VAE with the penalty of eq. 6 or 7."""

    def moments(terms: gaussian.Terms) -> list[jax.Array]:
        q = terms.posterior
        return [q.mean] if config.dip == "i" else [q.mean, q.log_scale]

    def covariance_penalty(terms: gaussian.Terms, *, off_diagonal: float, diagonal: float) -> jax.Array:
        weights = {"off_diagonal": off_diagonal, "diagonal": diagonal}
        # the estimate needs two examples; one alone, in evaluation, is repeated, which keeps its covariance of zero
        mean, *log_scale = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0) if len(x) == 1 else x, moments(terms))
        if config.dip == "i":
            return divergences.dip_i_penalty(mean, **weights)
        return divergences.dip_ii_penalty(mean, *log_scale, **weights)

    def penalty(hparams: PyTree, terms: gaussian.Terms) -> tuple[jax.Array, Metrics]:
        covariances = covariance_penalty(terms, off_diagonal=1.0, diagonal=0.0)
        variances = covariance_penalty(terms, off_diagonal=0.0, diagonal=1.0)
        diagonal = hparams.diagonal
        if diagonal is None:
            diagonal = DIAGONAL_RATIO[config.dip] * hparams.off_diagonal
        loss = terms.kl + hparams.off_diagonal * covariances + diagonal * variances
        return loss, {"squared_covariances": covariances, "squared_variance_errors": variances}

    model, likelihood = gaussian.gaussian_vae(config, spec, penalty)
    return latent.single_stage(latent.refuse_single_examples(model), config, likelihood)
