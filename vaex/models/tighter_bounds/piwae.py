r"""PIWAE: the encoder is trained on the MIWAE bound, the decoder on the importance bound of all its samples: two parameter groups.

Objectives, in nats per example: the encoder's :math:`-\frac1m\sum_{j=1}^m\log\frac1k\sum_{i=1}^k w_{ij}`, the decoder's
:math:`-\log\frac1{mk}\sum_{ij} w_{ij}`, where :math:`w_{ij} = p(x, z_{ij})/q(z_{ij}|x)`.

Source: Rainforth et al. 2018, Tighter variational bounds are not necessarily better, section 5.
Command: ``python experiments/run.py --model=piwae --steps=1000``
Result: digits, test: importance bound -85.8, MIWAE bound -87.5, log-likelihood (K = 100) -84.8,
0.9 ± 0.3 nats above ``vae`` after as many steps (paired).
"""

from __future__ import annotations

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

INFERENCE = ("encoder", "posterior")  # names in the tree of parameters that the encoder's bound trains


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a VAE whose encoder and decoder are parameter groups with a bound each (section 5)."""
    components, num_groups = importance.build_components(config, spec), config.num_groups

    def params_of(variables: Variables) -> PyTree:
        return variables.params["encoder"] | variables.params["decoder"]

    def init(key: jax.Array, batch: Batch) -> Variables:
        decoder = components.init(key, batch)
        encoder = {name: decoder.pop(name) for name in INFERENCE if name in decoder}
        return Variables({"encoder": encoder, "decoder": decoder})

    def partial_bounds(log_weights: jax.Array) -> bounds.PartialImportanceBounds:
        return bounds.partial_importance_bounds(log_weights.reshape(num_groups, -1, *log_weights.shape[1:]))

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        log_weights, metrics = importance.draw_log_weights(
            key,
            components,
            params_of(variables),
            hparams,
            batch,
            num_samples=num_groups * config.num_samples,
            estimator=config.estimator,
            bound=lambda w: partial_bounds(w).encoder,
        )
        bound = partial_bounds(log_weights)
        losses = {"encoder": -jnp.mean(bound.encoder), "decoder": -jnp.mean(bound.decoder)}
        bound_metrics = {"importance_bound": bound.decoder, "miwae_bound": bound.encoder}
        return Outcome(losses, variables.state, bound_metrics | metrics)

    model = latent.model(components, objective, params_of=params_of)._replace(init=init)
    figures = importance.figures(model.log_weights, spec)
    return latent.single_stage(model, config, components.likelihood, figures)
