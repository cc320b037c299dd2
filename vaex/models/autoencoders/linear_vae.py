r"""Linear VAE: probabilistic PCA, of which everything is known exactly.

p(z) = N(0, I), p(x|z) = N(W z + m, sigma^2 I) with one learned sigma, and q(z|x) = N(V (x - m) + v, D), D diagonal and the same for
all x. Objective, in nats per example: the negative elbo, :math:`-\mathbb E_{q}\log p(x|z) + \mathrm{KL}(q\,\|\,p(z))`, its
expectation in closed form or by a sample. Its maximum is probabilistic PCA's maximum likelihood, where the bound is tight
and the latents are the principal components; it has no other local maxima.
``exact_log_likelihood``, in evaluation, is that of :math:`\mathcal N(m, W W^\top + \sigma^2 I)`.

Source: Lucas et al. 2019, Don't blame the ELBO!, sections 3 and 4; Tipping & Bishop 1999 (the maximum, eqs. 7 and 8).
Command: ``python experiments/run.py --model=linear_vae``
Result: digits, test: elbo and exact log-likelihood 17.59 nats, probabilistic PCA's maximum within 0.001
(experiments/linear.py).
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from vaex import distributions, divergences
from vaex.configuration import option, options
from vaex.core import Batch, Outcome, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import latent, likelihoods
from vaex.models.autoencoders import _linear as linear
from vaex.models.autoencoders._linear import DEFAULTS, TINY, HParams
from vaex.plots.records import Grid

__all__ = ["DEFAULTS", "TINY", "Config", "HParams", "build"]


@options
class Config(linear.Config):
    """Options of ``linear_vae``."""

    expectation: Literal["closed_form", "monte_carlo"] = option(
        "closed_form", doc="Of log p(x|z) over the posterior: closed form, or from one sample as other VAEs have it."
    )


def build_components(config: Config, spec: Spec) -> latent.Components:
    """The parts of a model whose encoder sees x - m, so that V and m are learned apart, and whose D is the same for all x."""
    d = config.latent_dim

    def constant(params: Any, hparams: Any, raw: jax.Array) -> distributions.Normal:
        return distributions.Normal(
            raw, log_scale=jnp.broadcast_to(likelihoods.soft_clip(params["log_scale"]), raw.shape)
        )

    kind = latent.Posterior(d, constant, lambda key: {"log_scale": jnp.zeros(d)})
    it = latent.build_components(config.networked(), spec, kind, latent.standard_prior(d))

    def init(key: jax.Array, batch: Batch) -> Any:
        # sigma starts wide: components are found from the largest on, where a narrow start is stuck between them for long
        params = it.init(key, batch)
        return params | {"likelihood": jax.tree.map(jnp.zeros_like, params["likelihood"])}

    def posterior(params: Any, hparams: Any, batch: Batch) -> distributions.Normal:
        centre = it.decode(params, hparams, jnp.zeros((1, d)), {}).mean
        return it.posterior(params, hparams, {"x": batch["x"] - centre})

    return it._replace(init=init, posterior=posterior)


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec.

    Raises: UserError for as many latents as values, or binarised data.
    """
    linear.check(config, spec)
    it, d = build_components(config, spec), config.latent_dim

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        params, x = variables.params["vae"], batch["x"]
        q = it.posterior(params, hparams, batch)
        kl = divergences.kl(q, it.prior(params, hparams))
        weights = linear.loadings(lambda z: it.decode(params, hparams, z, {}), d)
        if config.expectation == "closed_form":
            at_mean = it.decode(params, hparams, q.mean, batch)
            moved = jnp.tensordot(q.variance[0], jnp.square(weights), axes=1)  # the variance of W z, value by value
            log_px = at_mean.log_prob(x) - 0.5 * jnp.sum(moved / at_mean.variance[0])
        else:
            log_px = it.decode(params, hparams, q.sample(key), batch).log_prob(x)
        metrics = latent.metrics(it.likelihood, log_px, kl)
        if not train:
            metrics["exact_log_likelihood"] = exact_log_likelihood(it, params, hparams, x, weights)
        return Outcome({"vae": jnp.mean(-log_px + kl)}, variables.state, metrics)

    def directions(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> Grid:
        params = variables.params["vae"]
        return linear.directions(lambda z: it.decode(params, hparams, z, {}), jnp.eye(d))

    return latent.single_stage(latent.model(it, objective), config, it.likelihood, {"directions": directions})


def exact_log_likelihood(
    it: latent.Components, params: Any, hparams: Any, x: jax.Array, weights: jax.Array
) -> jax.Array:
    """log N(x; m, W W^T + sigma^2 I) of each example, [b], in nats; ``weights`` [d, *shape] are the columns of W."""
    d = len(weights)
    centre = it.decode(params, hparams, jnp.zeros((1, d)), {})
    mean, log_scale = centre.mean.reshape(-1), 0.5 * jnp.log(centre.variance).reshape(-1)
    marginal = distributions.LowRankNormal(mean, weights.reshape(d, -1).T, log_scale=log_scale)
    return marginal.log_prob(x.reshape(len(x), -1))
