r"""PIWAE: the encoder is trained by MIWAE, the decoder by the importance bound of all its samples: two players.

Objectives, in nats per example: the encoder's :math:`-\frac1m\sum_{j=1}^m\log\frac1k\sum_{i=1}^k w_{ij}`, the decoder's
:math:`-\log\frac1{mk}\sum_{ij} w_{ij}`, where :math:`w_{ij} = p(x, z_{ij})/q(z_{ij}|x)`.

Source: Rainforth et al. 2018, Tighter variational bounds are not necessarily better, section 5.
Command: ``python experiments/run.py --model=piwae --steps=1000``
Result: digits, test: importance bound -85.8, MIWAE bound -87.5, log-likelihood (K = 100) -84.8,
0.9 ± 0.3 nats above ``vae`` after as many steps (paired).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from vaex import bounds
from vaex.core import Batch, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import latent
from vaex.models.gaussian import HParams
from vaex.models.tighter_bounds import _importance as importance
from vaex.models.tighter_bounds._importance import GroupedConfig as Config
from vaex.models.tighter_bounds.miwae import TINY

__all__ = ["TINY", "Config", "HParams", "build"]

INFERENCE = ("encoder", "posterior")  # what the encoder's bound trains; the rest is the generative network's


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for data of this spec."""
    it, m = importance.build_components(config, spec), config.num_groups

    def params(variables: Variables) -> PyTree:
        return variables.params["encoder"] | variables.params["decoder"]

    def init(key: jax.Array, batch: Batch) -> Variables:
        generative = it.init(key, batch)
        inference = {name: generative.pop(name) for name in INFERENCE if name in generative}
        return Variables({"encoder": inference, "decoder": generative})

    def both(log_weights: jax.Array) -> bounds.PartialImportanceBounds:
        return bounds.partial_importance_bounds(log_weights.reshape(m, -1, *log_weights.shape[1:]))

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        log_weights, facts = importance.weigh(
            it, config, key, params(variables), hparams, batch, lambda w: both(w).encoder, m * config.num_samples
        )
        found = both(log_weights)
        losses = {"encoder": -jnp.mean(found.encoder), "decoder": -jnp.mean(found.decoder)}
        metrics = {"importance_bound": found.decoder, "miwae_bound": found.encoder, **facts}
        return Outcome(losses, variables.state, metrics)

    model = latent.model(it, objective, params_of=params)._replace(init=init)
    figures = importance.figures(model.log_weights, spec)
    return latent.single_stage(model, config, it.likelihood, figures)
