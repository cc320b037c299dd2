"""The shared builder of autoencoders with point codes: what a variant changes is how codes are made, what corrupts its
inputs or its codes in training, and a penalty.

Such models define no density over x. Samples are decoded from a Gaussian with the mean and covariance that the encoder's
outputs had in training (Ghosh et al. 2020, section 4), which ``Variables.state`` tracks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaex import distributions
from vaex.configuration import options
from vaex.core import Batch, Latents, Model, Outcome, PyTree, Recipe, StepKey, Variables
from vaex.data.spec import Spec
from vaex.models import latent, likelihoods
from vaex.models.latent import HParams
from vaex.models.networks import TINY, NetworkConfig, Networks, networks
from vaex.plots.records import Grid

__all__ = ["TINY", "Config", "HParams", "Terms", "features", "recipe"]

MEMORY = 0.99  # decay of the tracked moments per step
PLAYER = "autoencoder"


@options
class Config(NetworkConfig):
    """Options of ``point``."""


class Terms(NamedTuple):
    """What a penalty may look at.

    ``x`` [b, *shape] and its codes ``z`` [b, d] as the decoder sees them in evaluation; ``encode``, from x to
    codes; ``moments``: "mean" [d] and "covariance" [d, d] of the encoder's outputs and "activation" [d], the
    mean of the codes, over the last hundred batches, without a gradient.
    """

    x: jax.Array
    z: jax.Array
    encode: Callable[[jax.Array], jax.Array]
    moments: dict[str, jax.Array]


Code = Callable[[Any, jax.Array], jax.Array]
Noise = Callable[[jax.Array, Any, jax.Array], jax.Array]
Penalty = Callable[[Any, Terms], tuple[jax.Array, dict[str, jax.Array]]]


def recipe(
    config: NetworkConfig,
    spec: Spec,
    *,
    code: Code = lambda hparams, raw: raw,
    corrupt: Noise | None = None,
    corrupt_codes: Noise | None = None,
    penalty: Penalty | None = None,
    figures: Mapping[str, Callable[..., Any]] | None = None,
) -> Recipe:
    """The recipe of an autoencoder whose loss is ``mean(-log p(x|z) + penalty)``.

    Args:
      config: gives the networks, the likelihood and the optimizer.
      spec: of the data.
      code: (hparams, raw [b, d]) -> codes [b, d], of what the encoder gives.
      corrupt: (key, hparams, x) -> x as the encoder sees it in training; the loss then is called "denoising", and
        "reconstruction" is that of clean inputs, in evaluation.
      corrupt_codes: (key, hparams, z) -> codes as the decoder sees them in training.
      penalty: (hparams, terms) -> ([b] or [] in nats, metrics of its own, [] or [b]).
      figures: the model's own pictures.
    """
    likelihood = likelihoods.build(config.likelihood, spec, scale=config.likelihood_scale)
    net = networks(config, spec, config.latent_dim, likelihood)
    d = config.latent_dim

    def init(key: jax.Array, batch: Batch) -> Variables:
        start = {"mean": jnp.zeros(d), "covariance": jnp.eye(d), "activation": jnp.zeros(d)}
        return Variables({PLAYER: net.init(key, batch)}, start)

    def encode(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> distributions.Delta:
        return distributions.Delta(code(hparams, net.encode(variables.params[PLAYER], batch["x"])))

    def decode(variables: Variables, hparams: Any, z: jax.Array, batch: Batch) -> Any:
        return net.decode(variables.params[PLAYER], hparams.sigma, z)

    def sample(key: jax.Array, variables: Variables, hparams: Any, n: int, condition: Any = None) -> Any:
        scale_tril = jnp.linalg.cholesky(variables.state["covariance"] + 1e-6 * jnp.eye(d))
        raw = variables.state["mean"] + jax.random.normal(key, (n, d)) @ scale_tril.T
        return decode(variables, hparams, code(hparams, raw), {})

    objective = _objective(net, code, corrupt, corrupt_codes, penalty)
    model = Model(init, objective, encode, decode, None, sample)
    free = (Latents("free", d),)
    return latent.single_stage(model, config, likelihood, figures, free)


def features(decode: Callable[[jax.Array], Any], z: jax.Array, *, columns: int = 16) -> Grid:
    """What each latent of images draws: the change from its least to its largest code, the others at their means.

    Grey is no change, white or black the largest of a latent; a latent that is the same in all examples stays grey.

    Args:
      decode: z [n, d] -> a distribution over images in [0, 1].
      z: codes of some examples, [b, d].
      columns: latents in a row, at most.
    """
    d, mean = z.shape[1], jnp.mean(z, axis=0)

    def drawn(values: jax.Array) -> jax.Array:
        return jnp.clip(decode(mean + jnp.diag(values - mean)).mean, 0.0, 1.0)  # beyond black, nothing is seen

    change = drawn(jnp.max(z, axis=0)) - drawn(jnp.min(z, axis=0))
    size = jnp.max(jnp.abs(change), axis=range(1, change.ndim), keepdims=True)
    images = 0.5 + 0.5 * change / jnp.maximum(size, 1e-3)
    columns = min(columns, d)
    nothing = jnp.full((-d % columns, *images.shape[1:]), jnp.nan)
    grid = jnp.concatenate([images, nothing]).reshape(-1, columns, *images.shape[1:])
    return Grid(grid, title="What each latent draws, from its least to its largest code")


def _objective(
    net: Networks, code: Code, corrupt: Noise | None, corrupt_codes: Noise | None, penalty: Penalty | None
) -> Callable[..., Outcome]:
    """As ``Model.objective``; see ``recipe`` for the arguments."""

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        x, params = batch["x"], variables.params[PLAYER]

        def loss_of(z: jax.Array) -> jax.Array:
            return -net.decode(params, hparams.sigma, z).log_prob(x)

        seen = x if corrupt is None else corrupt(jax.random.fold_in(key, StepKey.PENALTY), hparams, x)
        raw = net.encode(params, seen)
        z = code(hparams, raw)
        state = jax.lax.stop_gradient(_track(variables.state, raw, z)) if train else variables.state
        drop = corrupt_codes if train else None
        loss = loss_of(z if drop is None else drop(jax.random.fold_in(key, StepKey.DROPOUT), hparams, z))
        metrics = {"reconstruction" if corrupt is None else "denoising": loss}
        if corrupt is not None and not train:
            metrics["reconstruction"] = loss_of(code(hparams, net.encode(params, x)))
        if penalty is not None:
            terms = Terms(seen, z, lambda x: code(hparams, net.encode(params, x)), state)
            value, own = penalty(hparams, terms)
            loss, metrics = loss + value, metrics | own
        return Outcome({PLAYER: jnp.mean(loss)}, state, metrics)

    return objective


def _track(moments: PyTree, raw: jax.Array, z: jax.Array) -> PyTree:
    """Moments with this batch's in them."""
    mean = jnp.mean(raw, axis=0)
    centred = raw - mean
    new = {"mean": mean, "covariance": centred.T @ centred / len(raw), "activation": jnp.mean(z, axis=0)}
    return jax.tree.map(lambda old, fresh: MEMORY * old + (1.0 - MEMORY) * fresh, moments, new)
