r"""Linear VAE: probabilistic PCA, whose likelihood and maximum are known in closed form.

p(z) = N(0, I), p(x|z) = N(W z + m, sigma^2 I) with one learned sigma, and q(z|x) = N(V (x - m) + v, D), D diagonal and the same for
all x. Objective, in nats per example: the negative ELBO, :math:`-\mathbb E_{q}\log p(x|z) + \mathrm{KL}(q\,\|\,p(z))`, its
expectation in closed form or by a sample. Its maximum is probabilistic PCA's maximum likelihood, where the bound is tight
and the latents are the principal components; it has no other local maxima.
``exact_log_likelihood``, in evaluation, is that of :math:`\mathcal N(m, W W^\top + \sigma^2 I)`.

Source: Lucas et al. 2019, Don't blame the ELBO!, sections 3 and 4; Tipping & Bishop 1999 (the maximum, eqs. 7 and 8).
Command: ``python experiments/run.py --model=linear_vae``
Result: digits, test: elbo and exact log-likelihood 17.59 nats, probabilistic PCA's maximum within 0.001
(experiments/linear.py).
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from vaex import distributions, divergences
from vaex.configuration import option, options
from vaex.core import Batch, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import latent, likelihoods
from vaex.models.autoencoders import _linear as linear
from vaex.models.autoencoders._linear import DEFAULTS, TINY, HParams
from vaex.plots.records import Grid

__all__ = ["DEFAULTS", "TINY", "Config", "HParams", "build"]


@options
class Config(linear.Config):
    """Options of a linear model, and how the expectation of its ELBO is taken."""

    expectation: Literal["closed_form", "monte_carlo"] = option(
        "closed_form",
        doc="Expectation of log p(x|z) over the posterior: in closed form, or from one sample as in other VAEs.",
    )


def build_components(config: Config, spec: Spec) -> latent.Components:
    """Return components whose encoder reads x - m, so that V and m are learned apart, and whose D is the same for all x."""
    d = config.latent_dim

    def distribution(params: PyTree, hparams: PyTree, raw: jax.Array) -> distributions.Normal:
        return distributions.Normal(
            raw, log_scale=jnp.broadcast_to(likelihoods.soft_clip(params["log_scale"]), raw.shape)
        )

    family = latent.Posterior(d, distribution, lambda key: {"log_scale": jnp.zeros(d)})
    base = latent.build_components(config.network_config(), spec, family, latent.standard_prior(d))

    def init(key: jax.Array, batch: Batch) -> PyTree:
        # a wide sigma lets training find the principal components from the largest on; a narrow one is stuck between them for long
        params = base.init(key, batch)
        return params | {"likelihood": jax.tree.map(jnp.zeros_like, params["likelihood"])}

    def posterior(params: PyTree, hparams: PyTree, batch: Batch) -> distributions.Normal:
        centre = base.decode(params, hparams, jnp.zeros((1, d)), {}).mean
        return base.posterior(params, hparams, {"x": batch["x"] - centre})

    return base._replace(init=init, posterior=posterior)


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a linear VAE, whose evaluation also has the exact log-likelihood.

    Raises: UserError for as many latents as values, or binarised data.
    """
    linear.check(config, spec)
    components, d = build_components(config, spec), config.latent_dim

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params, x = variables.params["vae"], batch["x"]
        q = components.posterior(params, hparams, batch)
        kl = divergences.kl(q, components.prior(params, hparams))
        weights = linear.loadings(lambda z: components.decode(params, hparams, z, {}), d)
        if config.expectation == "closed_form":
            at_mean = components.decode(params, hparams, q.mean, batch)
            variance = jnp.tensordot(q.variance[0], jnp.square(weights), axes=1)  # variance of each value of W z
            log_px = at_mean.log_prob(x) - 0.5 * jnp.sum(variance / at_mean.variance[0])
        else:
            log_px = components.decode(params, hparams, q.sample(key), batch).log_prob(x)
        metrics = latent.metrics(components.likelihood, log_px, kl)
        if not train:
            metrics["exact_log_likelihood"] = exact_log_likelihood(components, params, hparams, x, weights)
        return Outcome({"vae": jnp.mean(-log_px + kl)}, variables.state, metrics)

    def draw_directions(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
        params = variables.params["vae"]
        return linear.directions(lambda z: components.decode(params, hparams, z, {}), jnp.eye(d))

    return latent.single_stage(
        latent.model(components, objective), config, components.likelihood, {"directions": draw_directions}
    )


def exact_log_likelihood(
    components: latent.Components, params: PyTree, hparams: PyTree, x: jax.Array, weights: jax.Array
) -> jax.Array:
    """Log-density of each example, log N(x; m, W W^T + sigma^2 I), [b], nats; ``weights`` [d, *shape] are the columns of W."""
    d = len(weights)
    centre = components.decode(params, hparams, jnp.zeros((1, d)), {})
    mean, log_scale = centre.mean.reshape(-1), 0.5 * jnp.log(centre.variance).reshape(-1)
    marginal = distributions.LowRankNormal(mean, weights.reshape(d, -1).T, log_scale=log_scale)
    return marginal.log_prob(x.reshape(len(x), -1))
