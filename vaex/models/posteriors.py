"""Posteriors and priors as parts of a model, and what a posterior may see of the model that it is part of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from vaex import distributions
from vaex.core import Batch, PyTree
from vaex.distributions import Distribution


class PosteriorDistribution(Protocol):
    """Returns q(z|x), of batch shape [b], from the outputs ``raw`` [b, features] of the encoder."""

    def __call__(self, params: PyTree, hparams: PyTree, raw: jax.Array, /) -> Distribution: ...


class PriorDistribution(Protocol):
    """Returns p(z), of batch shape []; ``posterior`` maps x [m, *shape] to q(z|x), for priors that are mixtures of posteriors."""

    def __call__(
        self, params: PyTree, hparams: PyTree, posterior: Callable[[jax.Array], Distribution], /
    ) -> Distribution: ...


class InitParams(Protocol):
    """Initialises a tree of parameters from a key and a batch of model inputs."""

    def __call__(self, key: jax.Array, batch: Batch, /) -> PyTree: ...


class ModelView(NamedTuple):
    """What a posterior sees of its batch and of the rest of its model; a pytree, as are its functions.

    Attributes:
      batch: "x" [b, *shape], model inputs; "y" [b] where the model reads labels.
      prior: p(z), a Distribution of batch shape [].
      decode: z [..., b, d] -> p(x|z), a Distribution of batch shape [..., b].
      encode: x [m, *shape] -> what the encoder gives, before ``Posterior.refine``, of batch shape [m]; labels are unknown.
    """

    batch: Batch
    prior: Any
    decode: Callable[[jax.Array], Any]
    encode: Callable[[jax.Array], Any]

    @property
    def log_joint(self) -> Callable[[jax.Array], jax.Array]:
        """z [..., b, d] -> log p(x, z) [..., b], nats; a pytree without the encoder."""
        return Partial(_log_joint, self.decode, self.prior, self.batch["x"])


def _log_joint(decode: Callable[[jax.Array], Any], prior: Any, x: jax.Array, z: jax.Array) -> jax.Array:
    return decode(z).log_prob(x) + prior.log_prob(z)


class Refine(Protocol):
    """Returns q(z|x), of batch shape [b], from the distribution ``start`` that the encoder gave and from the model.

    The result must be a pytree, as ``distributions.family`` makes one. Where log q(z|x) is not known but only that of z and
    auxiliary variables u, it offers ``sample_and_log_prob``, which then returns log q(z, u|x) - log r(u|z, x) with any density r,
    and the KL divergence is estimated from samples: ELBO and importance weights are those of the extended space.
    """

    def __call__(self, params: PyTree, hparams: PyTree, start: Distribution, view: ModelView, /) -> Distribution: ...


class Posterior(NamedTuple):
    """A family of posteriors over the outputs of an encoder.

    Attributes:
      features: number of outputs that the encoder has.
      distribution: q(z|x) of these outputs. A prior that is a mixture of posteriors is one of these.
      init: key -> parameters beside the encoder's; () for none.
      refine: makes another posterior of it, which sees batch, prior and decoder; None for none.
      density: False where q(z|x) has no density, as a point: the model then has no log weights.
    """

    features: int
    distribution: PosteriorDistribution
    init: Callable[[jax.Array], PyTree] = lambda key: ()
    refine: Refine | None = None
    density: bool = True


class Prior(NamedTuple):
    """A family of priors.

    Attributes:
      distribution: p(z).
      init: its parameters; () for none.
      density: False where p(z) can be sampled alone: the model then has no log weights.
    """

    distribution: PriorDistribution
    init: InitParams = lambda key, batch: ()
    density: bool = True


def standard_prior(latent_dim: int) -> Prior:
    """Return the prior N(0, I) over ``latent_dim`` latents, which has no parameters."""
    normal = distributions.Normal(jnp.zeros(latent_dim), 1.0)
    return Prior(lambda params, hparams, posterior: normal)
