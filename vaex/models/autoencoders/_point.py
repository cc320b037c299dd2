"""Autoencoders with point codes: variants differ in how codes are made, what corrupts inputs or codes, and a penalty.

Such models define no density over x. Samples are decoded from a Gaussian with the mean and covariance that the encoder's
outputs had in training (Ghosh et al. 2020, section 4), which ``Variables.state`` tracks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import distributions
from vaex.configuration import options
from vaex.core import Batch, DrawFigure, Latents, Metrics, Model, Objective, Outcome, PyTree, Recipe, StepKey, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.models import latent, likelihoods
from vaex.models.latent import HParams
from vaex.models.networks import TINY, NetworkConfig, Networks, networks
from vaex.plots.records import Grid

__all__ = ["TINY", "Config", "HParams", "Terms", "draw_features", "recipe"]

DECAY = 0.99  # of the tracked moments, per step
GROUP = "autoencoder"


@options
class Config(NetworkConfig):
    """Options of an autoencoder with point codes."""


class Terms(NamedTuple):
    """Terms from which penalties are computed.

    Attributes:
      x: inputs as the encoder reads them [b, *shape].
      z: their codes [b, d], before any corruption.
      encode: x -> codes.
      decode: codes -> p(x|z).
      params: of "encoder", "decoder" and "likelihood".
      moments: "mean" [d] and "covariance" [d, d] of the encoder's outputs, and "activation" [d], the mean of the codes, over
        about the last hundred batches; without a gradient.
    """

    x: jax.Array
    z: jax.Array
    encode: Callable[[jax.Array], jax.Array]
    decode: Callable[[jax.Array], Distribution]
    params: PyTree
    moments: dict[str, jax.Array]


class Code(Protocol):
    """Returns codes [b, d] from the encoder's outputs ``raw`` [b, d]."""

    def __call__(self, hparams: PyTree, raw: jax.Array, /) -> jax.Array: ...


class Corruption(Protocol):
    """Returns values of the shape of ``values``, corrupted at random."""

    def __call__(self, key: jax.Array, hparams: PyTree, values: jax.Array, /) -> jax.Array: ...


class Penalty(Protocol):
    """Returns what the loss adds to -log p(x|z), [b] or [], nats, and metrics, each [b] or []."""

    def __call__(self, hparams: PyTree, terms: Terms, /) -> tuple[jax.Array, Metrics]: ...


def recipe(
    config: NetworkConfig,
    spec: Spec,
    *,
    code: Code = lambda hparams, raw: raw,
    corrupt: Corruption | None = None,
    corrupt_codes: Corruption | None = None,
    penalty: Penalty | None = None,
    figures: Mapping[str, DrawFigure] | None = None,
    compares_examples: bool = False,
) -> Recipe:
    """Return the recipe of an autoencoder whose loss is ``mean(-log p(x|z) + penalty)``.

    Args:
      config: gives the networks, the likelihood and the optimizer.
      spec: of the data.
      code: makes codes of the encoder's outputs.
      corrupt: corrupts x before it is encoded. The metric of the loss is then "denoising", and "reconstruction" is that of
        clean inputs, in evaluation only.
      corrupt_codes: corrupts codes before they are decoded, in training only.
      penalty: added to the loss.
      figures: name -> a figure of the model's own.
      compares_examples: see ``Model``.
    """
    likelihood = likelihoods.build(config.likelihood, spec, scale=config.likelihood_scale, mean=config.mean)
    net = networks(config, spec, config.latent_dim, likelihood)
    d = config.latent_dim

    def init(key: jax.Array, batch: Batch) -> Variables:
        moments = {"mean": jnp.zeros(d), "covariance": jnp.eye(d), "activation": jnp.zeros(d)}
        return Variables({GROUP: net.init(key, batch)}, moments)

    def encode(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> distributions.Delta:
        return distributions.Delta(code(hparams, net.encode(variables.params[GROUP], batch["x"])))

    def decode(variables: Variables, hparams: PyTree, z: jax.Array, batch: Batch) -> Distribution:
        return net.decode(variables.params[GROUP], hparams.sigma, z)

    def sample(
        key: jax.Array, variables: Variables, hparams: PyTree, n: int, condition: ArrayLike | None = None
    ) -> Distribution:
        scale_tril = jnp.linalg.cholesky(variables.state["covariance"] + 1e-6 * jnp.eye(d))
        raw = variables.state["mean"] + jax.random.normal(key, (n, d)) @ scale_tril.T
        return decode(variables, hparams, code(hparams, raw), {})

    objective = _objective(net, code, corrupt, corrupt_codes, penalty)
    model = Model(init, objective, encode, decode, None, sample, compares_examples)
    free = (Latents("free", d),)
    return latent.single_stage(model, config, likelihood, figures, free)


def draw_features(decode: Callable[[jax.Array], Distribution], z: jax.Array, *, columns: int = 16) -> Grid:
    """Draw what each latent of images changes between its least and its largest code, with the others at their means.

    Grey is no change, white or black the largest of a latent. A latent that is the same in all examples stays grey.

    Args:
      decode: z [n, d] -> a distribution over images in [0, 1].
      z: codes of some examples, [b, d].
      columns: latents in a row, at most.
    """
    d, mean = z.shape[1], jnp.mean(z, axis=0)

    def images_at(values: jax.Array) -> jax.Array:
        return jnp.clip(decode(mean + jnp.diag(values - mean)).mean, 0.0, 1.0)  # a change beyond black is invisible

    change = images_at(jnp.max(z, axis=0)) - images_at(jnp.min(z, axis=0))
    size = jnp.max(jnp.abs(change), axis=range(1, change.ndim), keepdims=True)
    images = 0.5 + 0.5 * change / jnp.maximum(size, 1e-3)
    columns = min(columns, d)
    blank = jnp.full((-d % columns, *images.shape[1:]), jnp.nan)
    grid = jnp.concatenate([images, blank]).reshape(-1, columns, *images.shape[1:])
    return Grid(grid, title="What each latent draws, from its least to its largest code")


def _objective(
    net: Networks, code: Code, corrupt: Corruption | None, corrupt_codes: Corruption | None, penalty: Penalty | None
) -> Objective:
    """Return the objective of ``recipe``, which describes the arguments."""

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        x, params = batch["x"], variables.params[GROUP]

        def encode(x: jax.Array) -> jax.Array:
            return code(hparams, net.encode(params, x))

        def decode(z: jax.Array) -> Distribution:
            return net.decode(params, hparams.sigma, z)

        def reconstruction(z: jax.Array) -> jax.Array:
            return -decode(z).log_prob(x)

        encoded_x = x if corrupt is None else corrupt(jax.random.fold_in(key, StepKey.PENALTY), hparams, x)
        raw = net.encode(params, encoded_x)
        z = code(hparams, raw)
        state = jax.lax.stop_gradient(_track(variables.state, raw, z)) if train else variables.state
        drop = corrupt_codes if train else None
        decoded_z = z if drop is None else drop(jax.random.fold_in(key, StepKey.DROPOUT), hparams, z)
        loss = reconstruction(decoded_z)
        metrics = {"reconstruction" if corrupt is None else "denoising": loss}
        if corrupt is not None and not train:
            metrics["reconstruction"] = reconstruction(encode(x))
        if penalty is not None:
            terms = Terms(encoded_x, z, encode, decode, params, state)
            value, diagnostics = penalty(hparams, terms)
            loss, metrics = loss + value, metrics | diagnostics
        return Outcome({GROUP: jnp.mean(loss)}, state, metrics)

    return objective


def _track(moments: PyTree, raw: jax.Array, z: jax.Array) -> PyTree:
    """Return exponential averages of the moments, updated with those of this batch."""
    mean = jnp.mean(raw, axis=0)
    centred = raw - mean
    of_batch = {"mean": mean, "covariance": centred.T @ centred / len(raw), "activation": jnp.mean(z, axis=0)}
    return jax.tree.map(lambda average, value: DECAY * average + (1.0 - DECAY) * value, moments, of_batch)
