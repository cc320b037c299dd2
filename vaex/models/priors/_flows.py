"""Posteriors and priors by normalizing flows, as parts of a model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vaex import distributions, flows
from vaex.core import Batch, PyTree
from vaex.distributions.family import family
from vaex.models.latent import Posterior, Prior

DRAWS = 256  # of which the moments of a posterior by a flow are taken


@family
class FlowPosterior(distributions.Transformed):
    """Distribution of the output of a flow from a Gaussian, with the mean and variance of ``DRAWS`` samples.

    All examples share the noise, so that their moments do not depend on the batch they are in.
    """

    @property
    def _draws(self) -> jax.Array:
        start: Any = self.base
        noise = jax.random.normal(jax.random.key(0), (DRAWS, *(1,) * len(self.batch_shape), *self.event_shape))
        if isinstance(start, distributions.MultivariateNormal):
            noise = jnp.einsum(
                "...ij,k...j->k...i", start.scale_tril, jnp.broadcast_to(noise, (DRAWS, *start.mean.shape))
            )
        else:
            noise = jnp.exp(start.log_scale) * noise
        return self.flow.forward(self.params, start.mean + noise)[0]

    @property
    def mean(self) -> jax.Array:
        """[*batch, d], within a few sixteenths of a standard deviation."""
        return jnp.mean(self._draws, axis=0)

    @property
    def variance(self) -> jax.Array:
        """[*batch, d], within about a tenth."""
        return jnp.var(self._draws, axis=0)


def flow_posterior(base: Posterior, flow: flows.Flow) -> Posterior:
    """``base`` passed through ``flow``, with parameters from the encoder: its context, or where it takes none all of them.

    The encoder's numbers are added to learned ones, since around zero alone some flows have no gradient.
    """
    num_params = flow.context_dim or flows.params_size(flow)

    def distribution(params: PyTree, hparams: PyTree, raw: jax.Array) -> FlowPosterior:
        start = base.distribution((), hparams, raw[..., : base.features])
        rest = raw[..., base.features :]
        if flow.context_dim:
            return FlowPosterior(start, flow, flow.with_context(params, rest))
        return FlowPosterior(start, flow, jax.tree.map(jnp.add, params, flows.params_from_vector(flow, rest)))

    return Posterior(base.features + num_params, distribution, flow.init)


def flow_prior(flow: flows.Flow) -> Prior:
    """A standard normal passed through ``flow``."""
    normal = distributions.Normal(jnp.zeros(flow.dimension), 1.0)

    def init(key: jax.Array, batch: Batch) -> Any:
        return flow.init(key)

    return Prior(lambda params, hparams, posterior: distributions.Transformed(normal, flow, params), init)


def posterior_chain(kind: str, dimension: int, layers: int, hidden: tuple[int, ...], units: int) -> flows.Flow:
    """The flow of a posterior by its name.

    Args:
      kind: iaf, householder, sylvester or planar.
      dimension: latents.
      layers: how many; of householder, how many reflections.
      hidden: widths of the networks of iaf, the first one also that of their context.
      units: directions of a sylvester layer.
    """
    if kind == "householder":
        return flows.Householder(dimension, layers)
    if kind == "iaf":  # each layer treats the latents in the order in which the last one did not
        layer = flows.InverseAutoregressive(dimension, hidden, context_dim=hidden[0] if hidden else dimension)
        return flows.chain(*[layer, flows.reverse(dimension)] * (layers - 1), layer)
    layer = flows.Planar(dimension) if kind == "planar" else flows.Sylvester(dimension, units, units)
    return flows.chain(*[layer] * layers)


def prior_chain(kind: str, dimension: int, layers: int, hidden: tuple[int, ...]) -> flows.Flow:
    """The flow of a prior by its name, real_nvp or spline: ``layers`` that move one half of the latents, then the other."""
    coupling = {"real_nvp": flows.AffineCoupling, "spline": flows.SplineCoupling}[kind]
    return flows.chain(*(coupling(dimension, hidden, flip=index % 2 == 1) for index in range(layers)))
