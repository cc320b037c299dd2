r"""beta-TC-VAE: the three terms of the average KL divergence weighted apart, above all the total correlation.

Objective, in nats per example, with :math:`q(z) = \frac1N\sum_n q(z|x_n)` over the N training examples:
:math:`-\mathbb E_{q(z|x)}\log p(x|z) + \alpha\,\mathrm{KL}(q(z,n)\,\|\,q(z)p(n)) + \beta\,\mathrm{KL}(q(z)\,\|\,\prod_j q(z_j))
+ \gamma\sum_j\mathrm{KL}(q(z_j)\,\|\,p(z_j))`; the logarithms of q(z) and q(z_j) are estimated from the minibatch, so the parts
that training reports are biased, and may be below 0. Evaluation computes them over all posteriors of the split.

Source: Chen et al. 2018, Isolating sources of disentanglement in VAEs, eq. 4; sampling: eq. 5 and appendix C.2.
Command: ``python experiments/run.py --model=beta_tc_vae``
Result: digits, test, 200 images: elbo -89.8, log-likelihood -84.9 (K = 100); mutual information 5.9, total correlation 0.12,
dimension-wise KL 0.37 nats.
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
    """Options of a Gaussian VAE with independent latents, and how q(z) is estimated from a batch."""

    posterior: Literal["diagonal", "fixed"] = option(
        "diagonal", doc="Posterior: Gaussian with a diagonal covariance, or with a fixed variance (posterior_scale)."
    )
    sampling: Literal["weighted", "stratified"] = option(
        "stratified",
        doc="Minibatch estimate of q(z): weighted (biased, little noise) or stratified (unbiased).",
    )


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of a Gaussian VAE, and one weight for each term of the average KL divergence."""

    alpha: Scalar = hparam(
        1.0, low=0.0, doc="Weight of the mutual information between an example's index and its latents."
    )
    beta: Scalar = hparam(6.0, low=0.0, doc="Weight of the total correlation.")
    gamma: Scalar = hparam(1.0, low=0.0, doc="Weight of the dimension-wise KL divergence.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a Gaussian VAE with the decomposed KL divergence of eq. 4.

    Raises: UserError where the spec does not say how many training examples there are.
    """
    examples = spec.num_training_examples
    if examples < 1:
        raise UserError(
            f"beta_tc_vae: the spec of {spec.name} has num_training_examples={examples}, expected the size of the training "
            "data, by which a minibatch is weighted; take the spec from vaex.data.load, or set it with spec._replace"
        )

    def decompose(z: jax.Array, terms: gaussian.Terms) -> divergences.KLDecomposition:
        # a batch of evaluation may be larger than a small training set
        size = max(examples, z.shape[0])
        q = terms.posterior
        return divergences.decompose_kl(z, q.mean, q.log_scale, size, prior=terms.prior, sampling=config.sampling)

    def penalty(hparams: PyTree, terms: gaussian.Terms) -> tuple[jax.Array, Metrics]:
        if config.num_samples == 1:  # half the time of a leading axis of one
            kl = decompose(terms.z[0], terms)
        else:
            each = jax.vmap(lambda z: decompose(z, terms))(terms.z)
            kl = jax.tree.map(lambda values: jnp.mean(values, axis=0), each)
        weighted = hparams.alpha * kl.index_code_mi + hparams.beta * kl.total_correlation
        # of the batch, not of each example: q(z) at one row is estimated from all others
        estimates = {name: jnp.mean(values) for name, values in kl._asdict().items()}
        return weighted + hparams.gamma * kl.dimension_wise_kl, estimates

    model, likelihood = gaussian.gaussian_vae(config, spec, penalty)
    return latent.single_stage(latent.refuse_single_examples(model), config, likelihood)
