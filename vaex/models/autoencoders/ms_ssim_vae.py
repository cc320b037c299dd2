r"""MS-SSIM VAE: a VAE whose reconstructions are compared by structural similarity at several scales, not pixel by pixel.

Objective: :math:`\lambda\,(1 - \text{MS-SSIM}(x, \mu_\theta(z))) + \mathrm{KL}(q(z|x)\,\|\,p(z))`, z from q(z|x) and
:math:`\mu_\theta(z)` the mean of p(x|z); :math:`-\log p(x|z)` trains the scale of the likelihood alone, so that the elbo, which is
reported, is a bound. Images too small for five scales have fewer.

Source: Snell et al. 2017, Learning to generate images with perceptual similarity metrics, section 3.2 (expected-loss VAE).
Command: ``python experiments/run.py --model=ms_ssim_vae``
Result: digits, test: MS-SSIM 0.915 (one scale), elbo 22.8, KL 8.1; ``vae --likelihood=gaussian``: elbo -17.2, KL 27.0.
MNIST, test, ``--dataset=mnist --steps=1500 --batch_size=64``: MS-SSIM 0.835 (three scales), KL 8.8.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.evaluation.structural_similarity import multiscale_ssim
from vaex.models import compared_means, gaussian, latent
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = gaussian.TINY


@options
class Config(compared_means.Config, gaussian.PosteriorConfig):
    """Options of a Gaussian VAE, whose mean is an image in [0, 1], and the window of the similarity."""

    window: int = option(
        7, low=2, doc="Side of the Gaussian window (standard deviation 1.5 pixels) in which images are compared."
    )


@hyperparameters
class HParams(gaussian.HParams):
    """Hyperparameters of a Gaussian VAE, and the weight of the dissimilarity."""

    similarity_weight: Scalar = hparam(100.0, low=0.0, doc="Weight of 1 - MS-SSIM beside the KL divergence, in nats.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the MS-SSIM VAE for images of this spec.

    Raises: UserError for data that are no images, or for images smaller than the window.
    """
    if len(spec.shape) != 3 or min(spec.shape[:2]) < config.window:
        raise UserError(
            f"--model=ms_ssim_vae compares images in a window of {config.window} pixels a side, but {spec.name} has examples of "
            f"shape {spec.shape}; use larger images, or a smaller --window"
        )
    components = gaussian.build_components(config, spec)

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        x, params = batch["x"], variables.params["vae"]
        terms = latent.draw_terms(key, components, params, hparams, batch, num_samples=config.num_samples)
        similarity = multiscale_ssim(
            jnp.broadcast_to(x, terms.likelihood.mean.shape), terms.likelihood.mean, window=config.window
        )
        similarity = similarity if similarity.ndim == 1 else jnp.mean(similarity, axis=0)
        scale_only = compared_means.log_px_of_scale(components, params, hparams, terms.z, batch)
        loss = jnp.mean(hparams.similarity_weight * (1.0 - similarity) + terms.kl) - jnp.mean(scale_only)
        metrics = latent.metrics(components.likelihood, terms.log_px, terms.kl) | {"ms_ssim": similarity}
        return Outcome({"vae": loss}, variables.state, metrics)

    return latent.single_stage(latent.model(components, objective), config, components.likelihood)
