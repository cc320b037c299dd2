r"""Two-stage models of maps of codes: an autoencoder, then a transformer that learns its codes one by one.

Stage "prior" fits :math:`p(c) = \prod_i p(c_i|c_{<i}, y)` to the codes of the finished autoencoder, which encodes x within the
step. The whole is a model of x, whose elbo is :math:`\log p(x|c(x)) + \log p(c(x))`: the KL of the point c(x) to the prior is
:math:`-\log p(c(x))`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import nets
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, DrawFigure, Labels, Model, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import latent
from vaex.models.codebooks import _code_maps as code_maps
from vaex.models.codebooks import _quantizers as codebooks
from vaex.models.codebooks._code_maps import GROUP, CodeMaps, CodePrior, DrawCodes
from vaex.models.conditions import condition_batch, condition_vectors, require_condition
from vaex.schedules import Scalar
from vaex.training.step import masked_mean

DEFAULTS = {"prior_steps": 300}  # of the 1,397 digits; with 2,000 the prior memorises them
TINY: dict[str, Any] = {
    "channels": 2,
    "blocks": 0,
    "codes": 4,
    "code_dim": 2,
    "codebook_init": "normal",
    "prior_width": 4,
    "prior_layers": 1,
    "prior_heads": 2,
}


@options
class Config(code_maps.Config):
    """Static choices of every model with maps of codes and a prior over them."""

    prior_width: int = option(64, low=1, doc="Width of the features of the transformer, the prior of the codes.")
    prior_layers: int = option(3, low=1, doc="Number of blocks of the transformer, the prior of the codes.")
    prior_heads: int = option(4, low=1, doc="Number of attention heads of the transformer; divides prior_width.")
    class_conditional: bool = option(
        False,
        doc="Condition the prior on the label or the conditions of y, so that samples have those that are asked for.",
    )

    def check(self) -> None:
        super().check()
        if self.prior_width % self.prior_heads:
            raise UserError(
                f"--prior_width={self.prior_width}: expected a multiple of --prior_heads={self.prior_heads}, as each head has "
                "its share"
            )


@hyperparameters
class HParams(codebooks.HParams):
    """Hyperparameters of ``code_prior``."""

    prior_learning_rate: Scalar = hparam(0.001, low=0.0, doc="Step size of the optimizer in the second stage.")
    prior_dropout: Scalar = hparam(
        0.1, low=0.0, high=0.9, doc="Share of the transformer's features that is left out in training."
    )
    sample_temperature: Scalar = hparam(
        1.0,
        low=0.001,
        doc="Temperature of samples, which divides their logits; below 1 likelier codes are drawn more often.",
    )


def transformer(config: Config, vq: CodeMaps) -> nets.CausalTransformer:
    """The prior's network."""
    sizes = config.prior_width, config.prior_layers, config.prior_heads
    return nets.CausalTransformer(vq.kinds, vq.quantizer.codes, *sizes)


def drawing(net: nets.CausalTransformer, spec: Spec, reads: Labels | None) -> DrawCodes:
    """How codes are drawn from the prior of the second stage's variables, the first few given or none; one program per shape."""

    @functools.partial(jax.jit, static_argnums=2)
    def drawn(
        key: jax.Array,
        variables: Variables,
        n: int,
        temperature: jax.Array | float,
        label: ArrayLike | None,
        prefix: jax.Array | None,
    ) -> jax.Array:
        label_key, key = jax.random.split(key)
        labels = condition_batch(label_key, reads.classes, n, label, spec.conditions) if reads else {}
        condition = condition_vectors(spec, labels["y"]) if reads else None
        params = variables.params["prior"]
        return nets.sample_codes(net, params, key, n, temperature=temperature, condition=condition, prefix=prefix)

    return drawn


def unpacked(variables: Variables) -> tuple[PyTree, PyTree]:
    """Parameters and state of the autoencoder, from the variables of the second stage."""
    return variables.state["params"], variables.state["state"]


def prior_model(vq: CodeMaps, net: nets.CausalTransformer, spec: Spec, reads: Labels | None, draw: DrawCodes) -> Model:
    """The second stage: the finished autoencoder, with the prior that is trained on its codes."""

    def log_probs(
        variables: Variables, codes: jax.Array, batch: Batch, dropout: nets.Dropout | None = None
    ) -> jax.Array:
        if reads and "y" not in batch:
            given = f"[b, {reads.conditions}] numbers" if reads.conditions else "[b] integers"
            raise ValueError(f"log_prob: the prior reads labels, but the batch has none; give y, {given}")
        condition = condition_vectors(spec, batch["y"]) if reads else None
        logits: Any = net.apply({"params": variables.params["prior"]}, codes, condition, dropout)
        return jnp.take_along_axis(jax.nn.log_softmax(logits), codes[..., None], axis=-1)[..., 0]

    def init(key: jax.Array, batch: Batch) -> Variables:
        condition = jnp.zeros((1, reads.conditions or reads.classes)) if reads else None
        return Variables({"prior": net.init(key, jnp.zeros((1, vq.n), jnp.int32), condition)["params"]})

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        chosen, mask = vq.encode(*unpacked(variables), hparams, batch["x"]), batch.get("mask")
        dropout = nets.Dropout(key, hparams.prior_dropout) if train else None
        nats = -log_probs(variables, chosen.codes(), batch, dropout)
        kl = jnp.sum(nats, axis=1)
        metrics = {"kl": kl, "bits_per_code": kl / (vq.n * math.log(2))}
        for name, level in zip(vq.names("kl"), vq.levels, strict=True):
            metrics[name] = jnp.sum(nats[:, level.start : level.stop], axis=1)
        if not train:  # the autoencoder is fixed: its decoder has no part in the gradient
            metrics |= latent.metrics(vq.likelihood, chosen.px.log_prob(batch["x"]), kl)
            metrics |= code_maps.diagnostics(vq, chosen, mask)
        return Outcome({"prior": masked_mean(kl, mask)}, variables.state, metrics)

    def log_prob(variables: Variables, codes: jax.Array, batch: Batch) -> jax.Array:
        return jnp.sum(log_probs(variables, codes, batch), axis=1)

    def sample(key: jax.Array, variables: Variables, hparams: PyTree, n: int, condition: ArrayLike | None) -> jax.Array:
        return draw(key, variables, n, hparams.sample_temperature, condition, None)

    return code_maps.model(vq, CodePrior(log_prob, sample), init, objective, unpacked)


def two_stages(
    config: Config,
    spec: Spec,
    vq: CodeMaps,
    figures: Callable[[CodeMaps, DrawCodes], Mapping[str, DrawFigure]],
) -> Recipe:
    """The recipe of this autoencoder and a prior over its codes.

    Args:
      config: of both stages.
      spec: of the data.
      vq: the autoencoder.
      figures: the autoencoder, and how codes are drawn -> the model's own figures.
    Raises: UserError where the prior is to see labels that the data lacks.
    """
    reads = require_condition(spec)._replace(prior_only=True) if config.class_conditional else None
    net = transformer(config, vq)
    draw = drawing(net, spec, reads)

    def init(key: jax.Array, batch: Batch) -> Variables:
        params, state = vq.init(key, batch)
        return Variables({GROUP: params}, state)

    def alone(variables: Variables) -> tuple[PyTree, PyTree]:
        return variables.params[GROUP], variables.state

    first = code_maps.model(vq, code_maps.uniform(vq), init, code_maps.objective(vq), alone)
    second = prior_model(vq, net, spec, reads, draw)
    stages = latent.stage("model", first, config), latent.stage("prior", second, config, autoencoder_state)
    return Recipe(stages, vq.likelihood.summary, figures(vq, draw), vq.latents, reads)


def autoencoder_state(finished: Mapping[str, Variables]) -> PyTree:
    """The finished autoencoder, as the state of the second stage."""
    return {"params": finished["model"].params[GROUP], "state": finished["model"].state}
