"""Models with categorical latents, beside continuous ones or alone: their codes, and how gradients pass through samples.

A code is one vector: the continuous latents first, then the one-hot vectors of all categorical variables.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex import distributions, divergences
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, Latents, PyTree
from vaex.data.spec import Spec
from vaex.distributions.family import BaseDistribution, family
from vaex.models import latent
from vaex.models.latent import Components, Posterior, Prior
from vaex.models.likelihoods import Likelihood
from vaex.models.networks import NetworkConfig
from vaex.quantizers import perplexity
from vaex.schedules import Scalar, ramp

COOLING = ramp(1.0, 0.5, 2000)


@options
class Config(NetworkConfig):
    """Static choices of every model with categorical latents."""

    classes: int = option(10, low=2, doc="Number of classes of each categorical variable.")
    straight_through: bool = option(
        False,
        doc="In training the decoder sees the nearest one-hot vectors instead of relaxed ones, whose gradients it "
        "passes on.",
    )


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of ``categorical``."""

    temperature: Scalar = hparam(
        COOLING,
        low=0.01,
        doc="Temperature of the relaxed one-hot vectors in training; near 0 they are one-hot, and gradients vary much.",
    )


@family
class OneHotCodes(BaseDistribution):
    """Independent categorical variables as one-hot vectors, flattened to [..., variables * classes], behind a Gaussian.

    ``sample`` and ``log_prob`` are those of the discrete variables; ``relaxed`` is what training sees.

    Args:
      logits: [*batch, variables, classes], unnormalised.
      normal: None, or a diagonal or full Gaussian over the first latents, [*batch, d].
    """

    logits: jax.Array
    normal: Any = None

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Axes over independent codes."""
        return np.shape(self.logits)[:-2]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """All entries of a code."""
        return (self._continuous + math.prod(np.shape(self.logits)[-2:]),)

    @property
    def _continuous(self) -> int:
        return 0 if self.normal is None else self.normal.event_shape[0]

    @property
    def categorical(self) -> distributions.Categorical:
        """The variables as integers, [variables] an event."""
        return distributions.Categorical(self.logits)

    @property
    def mean(self) -> jax.Array:
        """Continuous means, then class probabilities, [*batch, entries]."""
        return self._joined(None if self.normal is None else self.normal.mean, self.categorical.probabilities)

    @property
    def variance(self) -> jax.Array:
        """Elementwise, [*batch, entries]."""
        share = self.categorical.probabilities
        return self._joined(None if self.normal is None else self.normal.variance, share * (1.0 - share))

    def relaxed(self, key: jax.Array, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A sample [*batch, entries] whose one-hot vectors are relaxed to the temperature, and the logarithms of these,
        [*batch, variables, classes]."""
        normal_key, class_key = jax.random.split(key)
        logs = distributions.LogRelaxedOneHot(self.logits, temperature, event_ndims=2).sample(class_key)
        return self._joined(None if self.normal is None else self.normal.sample(normal_key), jnp.exp(logs)), logs

    def discretized(self, code: jax.Array) -> jax.Array:
        """``code`` with each relaxed vector at its nearest one-hot, which passes gradients on as if nothing had changed."""
        continuous, soft = self._parted(code)
        hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1])
        return self._joined(continuous, soft + jax.lax.stop_gradient(hard - soft))

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        normal_key, class_key = jax.random.split(key)
        sample_shape = shape[: len(shape) - 1 - len(self.batch_shape)]
        index = self.categorical.sample(class_key, sample_shape)
        continuous = None if self.normal is None else self.normal.sample(normal_key, sample_shape)
        return self._joined(continuous, jax.nn.one_hot(index, np.shape(self.logits)[-1]))

    def _log_prob(self, value: jax.Array) -> jax.Array:
        """Log-density of a code whose last entries are one-hot vectors, which is taken for granted."""
        continuous, one_hot = self._parted(value)
        total = jnp.sum(one_hot * self.categorical.log_probabilities, axis=(-2, -1))
        return total if self.normal is None else total + self.normal.log_prob(continuous)

    def _parted(self, code: jax.Array) -> tuple[jax.Array, jax.Array]:
        d = self._continuous
        return code[..., :d], code[..., d:].reshape(*code.shape[:-1], *np.shape(self.logits)[-2:])

    def _joined(self, continuous: jax.Array | None, vectors: jax.Array) -> jax.Array:
        flat = vectors.reshape(*vectors.shape[:-2], -1)
        return flat if continuous is None else jnp.concatenate([continuous, flat], axis=-1)


class Terms(NamedTuple):
    """What a loss is made of.

    ``log_px`` [b], ``continuous_kl`` [b] and ``categorical_kl`` [b] in nats, both in closed form; the posterior and the prior;
    ``logs`` [b, variables, classes], the logarithms of the relaxed one-hot vectors, or None where the decoder sees exact
    samples. ``exact``: whether it does, so that log_px less both KLs is an elbo of the discrete model.
    """

    log_px: jax.Array
    continuous_kl: jax.Array
    categorical_kl: jax.Array
    posterior: OneHotCodes
    prior: OneHotCodes
    logs: jax.Array | None
    exact: bool

    def metrics(self, likelihood: Likelihood, kl: jax.Array) -> dict[str, jax.Array]:
        """The loss by its parts, [b] in nats; an elbo is so called only where it is one."""
        terms = latent.metrics(likelihood, self.log_px, kl)
        if not self.exact and "elbo" in terms:
            terms = {"relaxed_elbo" if name == "elbo" else name: values for name, values in terms.items()}
        return {**terms, "classes_used": classes_used(self.posterior)}


def draw_terms(
    key: jax.Array, components: Components, params: PyTree, hparams: PyTree, batch: Batch, *, train: bool, hard: bool
) -> Terms:
    """Return the terms of a batch.

    In training a relaxed sample goes through the decoder, or with ``hard`` its one-hot vectors; else an exact one.
    """
    posterior, prior = components.posterior(params, hparams, batch), components.prior(params, hparams)
    if train:
        z, logs = posterior.relaxed(key, hparams.temperature)
        z = posterior.discretized(z) if hard else z
    else:
        z, logs = posterior.sample(key), None
    log_px = components.decode(params, hparams, z, batch).log_prob(batch["x"])
    categorical = divergences.kl(posterior.categorical, prior.categorical)
    no_normal = posterior.normal is None
    continuous = jnp.zeros_like(categorical) if no_normal else divergences.kl(posterior.normal, prior.normal)
    return Terms(log_px, continuous, categorical, posterior, prior, logs, hard or not train)


def build_components(
    config: NetworkConfig, spec: Spec, variables: int, classes: int, continuous: Posterior | None = None
) -> tuple[Components, tuple[Latents, ...]]:
    """The parts of a model with ``variables`` uniform categorical latents behind ``continuous`` ones, and what its codes are.

    Args:
      config: of the model.
      spec: of the data.
      variables: categorical latents.
      classes: of each.
      continuous: a Gaussian posterior over ``config.latent_dim`` latents, or None.
    """
    d, features = (0, 0) if continuous is None else (config.latent_dim, continuous.features)
    normal = None if continuous is None else distributions.Normal(jnp.zeros(d), 1.0)
    uniform = OneHotCodes(jnp.zeros((variables, classes)), normal)

    def distribution(params: PyTree, hparams: PyTree, raw: jax.Array) -> OneHotCodes:
        logits = raw[..., features:].reshape(*raw.shape[:-1], variables, classes)
        first = None if continuous is None else continuous.distribution((), hparams, raw[..., :features])
        return OneHotCodes(logits, first)

    posterior = Posterior(features + variables * classes, distribution)
    wide = dataclasses.replace(config, latent_dim=d + variables * classes)  # so wide is the decoder's input
    components = latent.build_components(wide, spec, posterior, Prior(lambda params, hparams, posterior: uniform))
    return components, (*[Latents("normal", d)] * (d > 0), *[Latents("categorical", classes)] * variables)


def classes_used(posterior: OneHotCodes) -> jax.Array:
    """Effective number of classes in the batch: the perplexity of each variable's mean probabilities, averaged over variables."""
    shares = jnp.mean(posterior.categorical.probabilities, axis=0)
    return jnp.mean(perplexity(shares))
