r"""The plain autoencoder: a point code, no prior, no bound.

Objective, in nats per example: :math:`-\log p(x|z = f(x))`. It defines no density over x; samples are drawn from a Gaussian
with the codes' mean and covariance, which training tracks in ``Variables.state``.

Source: Hinton & Salakhutdinov 2006; the Gaussian over codes: Ghosh et al. 2020, section 4.
Command: ``python experiments/run.py --model=autoencoder``
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.core import Batch, Model, Outcome, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import latent, likelihoods, networks
from vaex.models.networks import TINY, Networked
from vaex.schedules import Schedule
from vaex.training import algorithm

__all__ = ["TINY", "Config", "HParams", "build"]

MEMORY = 0.99  # decay of the codes' moments per step


@dataclass(frozen=True)
class Config(Networked):
    """What changes shapes or control flow; static."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HParams(algorithm.HParams):
    """What scales something; traced.

    Attributes:
      sigma: scale of the likelihood where likelihood_scale is fixed.
    """

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {"sigma": (1e-6, math.inf)}

    sigma: Schedule | float = 1.0


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec."""
    likelihood = likelihoods.build(config.likelihood, spec, scale=config.likelihood_scale)
    net = networks.networks(config, spec, config.latent_dim, likelihood)

    def init(key: jax.Array, batch: Batch) -> Variables:
        moments = {"mean": jnp.zeros(config.latent_dim), "covariance": jnp.eye(config.latent_dim)}
        return Variables({"autoencoder": net.init(key, batch)}, moments)

    def encode(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> distributions.Delta:
        return distributions.Delta(net.encode(variables.params["autoencoder"], batch["x"]))

    def decode(variables: Variables, hparams: Any, z: jax.Array, batch: Batch) -> Any:
        return net.decode(variables.params["autoencoder"], z, hparams.sigma)

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        z = encode(key, variables, hparams, batch).mean
        reconstruction = -decode(variables, hparams, z, batch).log_prob(batch["x"])
        moments = _track(variables.state, jax.lax.stop_gradient(z)) if train else variables.state
        return Outcome({"autoencoder": jnp.mean(reconstruction)}, moments, {"reconstruction": reconstruction})

    def sample(key: jax.Array, variables: Variables, hparams: Any, n: int, condition: Any = None) -> Any:
        d = config.latent_dim
        scale_tril = jnp.linalg.cholesky(variables.state["covariance"] + 1e-6 * jnp.eye(d))
        z = variables.state["mean"] + jax.random.normal(key, (n, d)) @ scale_tril.T
        return decode(variables, hparams, z, {})

    model = Model(init, objective, encode, decode, None, sample)
    return latent.single_stage(model, config, HParams(), likelihood)


def _track(moments: dict[str, jax.Array], z: jax.Array) -> dict[str, jax.Array]:
    mean = jnp.mean(z, axis=0)
    centred = z - mean
    new = {"mean": mean, "covariance": centred.T @ centred / len(z)}
    return jax.tree.map(lambda old, fresh: MEMORY * old + (1.0 - MEMORY) * fresh, moments, new)
