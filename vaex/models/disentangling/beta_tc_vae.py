r"""beta-TC-VAE: of the three parts of the average KL, the total correlation is weighted by itself.

Objective, in nats per example, with :math:`q(z) = \frac1N\sum_n q(z|x_n)` over the N training examples:
:math:`-\mathbb E_{q(z|x)}\log p(x|z) + \alpha\,\mathrm{KL}(q(z,n)\,\|\,q(z)p(n)) + \beta\,\mathrm{KL}(q(z)\,\|\,\prod_j q(z_j))
+ \gamma\sum_j\mathrm{KL}(q(z_j)\,\|\,p(z_j))`; the logarithms of q(z) and q(z_j) are estimated from the minibatch.

Source: Chen et al. 2018, Isolating sources of disentanglement in VAEs, eq. 4; sampling: eq. 5 and appendix C.2.
Command: ``python experiments/run.py --model=beta_tc_vae``
Result: digits, test, 200 images: elbo -89.8, log-likelihood -84.9 (K = 100); mutual information 5.9, total correlation 0.12,
dimension-wise KL 0.37 nats.
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
    """Options of ``beta_tc_vae``."""

    posterior: Literal["diagonal", "fixed"] = option(
        "diagonal", doc="Gaussian with a diagonal covariance, or of a fixed variance (posterior_scale)."
    )
    sampling: Literal["weighted", "stratified"] = option(
        "stratified",
        doc="How examples of the batch stand for the data, weighted (biased, little noise) or stratified (unbiased "
        "for q(z)).",
    )


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of ``beta_tc_vae``."""

    alpha: Scalar = hparam(1.0, low=0.0, doc="Weight of the mutual information of example and latents.")
    beta: Scalar = hparam(6.0, low=0.0, doc="Weight of the total correlation.")
    gamma: Scalar = hparam(1.0, low=0.0, doc="Weight of the dimension-wise KL.")


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec.

    Raises: UserError where the spec does not tell how many training examples there are.
    """
    examples = spec.num_training_examples
    if examples < 1:
        raise UserError(
            f"beta_tc_vae: the spec of {spec.name} has num_training_examples={examples}, expected the size of the training "
            "data, by which a minibatch is weighted; take the spec from vaex.data.load, or set it with spec._replace"
        )

    def parts_of_kl(z: jax.Array, terms: gaussian.Terms) -> divergences.KLDecomposition:
        # evaluation may look at more examples at once than a small training set has
        size = max(examples, z.shape[0])
        q = terms.posterior
        return divergences.decompose_kl(z, q.mean, q.log_scale, size, prior=terms.prior, sampling=config.sampling)

    def penalty(hparams: Any, terms: gaussian.Terms) -> tuple[jax.Array, dict[str, jax.Array]]:
        if config.num_samples == 1:  # half the time of a leading axis of one
            parts = parts_of_kl(terms.z[0], terms)
        else:
            each = jax.vmap(lambda z: parts_of_kl(z, terms))(terms.z)
            parts = jax.tree.map(lambda values: jnp.mean(values, axis=0), each)
        weighted = hparams.alpha * parts.index_code_mi + hparams.beta * parts.total_correlation
        return weighted + hparams.gamma * parts.dimension_wise_kl, parts._asdict()

    model, likelihood = gaussian.gaussian_vae(config, spec, penalty)
    return latent.single_stage(latent.refuse_single_examples(model), config, likelihood)
