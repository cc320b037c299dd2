"""What models of sequences share: their choices, networks that see one frame at a time, and the recipe.

Axes: b batch, k samples, t time, d latent, r recurrent state. A code is the latents of all frames, one after the other, [t * d].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from vaex import distributions, nets
from vaex.configuration import option, options, with_default
from vaex.core import Batch, Latents, Model, Predict, PyTree, Recipe, Sequences, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.errors import UserError
from vaex.models import latent, likelihoods
from vaex.models.networks import NetworkConfig, networks
from vaex.models.sequences import _sequence_figures as sequence_figures
from vaex.nets.activations import soft_clip

FRAMES = 3  # of the sequences that the laws give to a model
TINY: dict[str, Any] = {"latent_dim": 2, "network": "mlp", "hidden": (8,), "channels": (2, 2), "recurrent": 4}
DEFAULTS = {"dataset": "bouncing_sprites", "batch_size": 64}


@options
class Config(NetworkConfig):
    """Static choices of every model of sequences."""

    latent_dim: int = option(32, low=1, doc="Number of latent variables of each frame.")
    network: Literal["mlp", "conv"] = option(
        "conv", doc="Encoder and decoder of frames: mlp for any size, conv for at least 8x8; those of series are mlp."
    )
    channels: tuple[int, ...] = with_default(NetworkConfig, "channels", (16, 32, 32))
    recurrent: int = option(256, low=1, doc="Width of the recurrent network's state.")

    def check(self) -> None:
        super().check()
        if self.precision != "float32":
            raise UserError(f"--precision={self.precision}: recurrent networks compute in float32; leave it out")
        if not self.hidden:
            raise UserError("--hidden= is empty; a model of sequences needs at least one width, such as --hidden=256")


class DecodeFrames(Protocol):
    """Returns p(x|inputs) of the frames decoded from ``inputs`` [..., n]."""

    def __call__(self, params: PyTree, inputs: jax.Array, hparams: PyTree, /) -> Distribution: ...


class Frames(NamedTuple):
    """Networks of the frames of a sequence.

    ``encode(params, x [..., t, *frame]) -> [..., t, features]``; ``decode(params, inputs [..., n], hparams)``: a distribution over
    one frame, of batch shape [...]; ``decode_all(params, inputs [..., t, n], hparams)``: over whole sequences.
    """

    init: Callable[[jax.Array, Batch], PyTree]
    encode: Callable[[PyTree, jax.Array], jax.Array]
    decode: DecodeFrames
    decode_all: DecodeFrames
    likelihood: likelihoods.Likelihood


def frames(config: Config, spec: Spec, inputs: int) -> Frames:
    """The networks of frames of this spec: an encoder to ``config.hidden[0]`` numbers, a decoder of ``inputs`` numbers.

    Frames are images, or the channels of a series, which an MLP encodes and decodes whatever ``config.network`` says.

    Raises: UserError for data that are neither, and where the network or the likelihood does not fit them.
    """
    if len(spec.shape) not in (2, 4):
        raise UserError(
            f"{spec.name} has examples of shape {spec.shape}, and this model reads sequences of images, or series; use "
            "--dataset=bouncing_sprites, or a model of images"
        )
    if len(spec.shape) == 2:
        config = dataclasses.replace(config, network="mlp")
    frame_spec = spec._replace(shape=spec.shape[1:])
    ndims = len(frame_spec.shape)
    likelihood = likelihoods.build(config.likelihood, spec, scale=config.likelihood_scale, mean=config.mean)
    of_frame = likelihoods.build(config.likelihood, frame_spec, scale=config.likelihood_scale, mean=config.mean)
    wide, features = dataclasses.replace(config, latent_dim=inputs), config.hidden[0]
    single, sequence = (networks(wide, frame_spec, features, output) for output in (of_frame, likelihood))

    def init(key: jax.Array, batch: Batch) -> PyTree:
        return single.init(key, {"x": batch["x"][:, 0]})

    def encode(params: PyTree, x: jax.Array) -> jax.Array:
        if x.shape[-ndims:] != frame_spec.shape or x.ndim < ndims + 2:
            raise ValueError(f"encode: x has shape {x.shape}, expected [b, t, {', '.join(map(str, frame_spec.shape))}]")
        result = single.encode(params, x.reshape(-1, *frame_spec.shape))
        return nets.activation_function(config.activation)(result).reshape(*x.shape[:-ndims], features)

    def decode(params: PyTree, inputs: jax.Array, hparams: PyTree) -> Distribution:
        return single.decode(params, hparams.sigma, inputs)

    def decode_all(params: PyTree, inputs: jax.Array, hparams: PyTree) -> Distribution:
        return sequence.decode(params, hparams.sigma, inputs)

    return Frames(init, encode, decode, decode_all, likelihood)


def gaussian_map(config: Config) -> nets.Network:
    """An MLP to the means and log scales of one frame's latents; see ``moments``."""
    return nets.MLP(config.hidden, 2 * config.latent_dim, config.activation)


def moments(raw: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means and bounded log scales, [..., d] each, of what a ``gaussian_map`` gives."""
    mean, log_scale = jnp.split(raw, 2, axis=-1)
    return mean, soft_clip(log_scale)


def normal(raw: jax.Array) -> distributions.Normal:
    """The Gaussian of one frame's latents of what a ``gaussian_map`` gives."""
    mean, log_scale = moments(raw)
    return distributions.Normal(mean, log_scale=log_scale)


class Follow(Protocol):
    """Returns the distributions, of batch shape [b, steps], of the frames after the last of ``batch["x"]``, of one draw of z."""

    def __call__(
        self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, steps: int, /
    ) -> Distribution: ...


def recipe(
    model: Model,
    config: Config,
    spec: Spec,
    likelihood: likelihoods.Likelihood,
    predict: Predict,
    follow: Follow,
) -> Recipe:
    """The recipe of a model of sequences, with figures of what it predicts.

    Args:
      model: trained in one run by gradients.
      config, spec: of the model.
      likelihood: of whole sequences.
      predict: the frame after so many steps.
      follow: all frames to come.
    """
    if len(spec.shape) == 2:
        figures = {"predictions": lambda *args: sequence_figures.draw_series(follow, *args)}
    else:
        figures = {
            "predictions": lambda *args: sequence_figures.draw_predictions(predict, *args),
            "roll_outs": lambda *args: sequence_figures.draw_roll_outs(follow, *args),
        }
    blocks = (Latents("free", spec.shape[0] * config.latent_dim),)
    result = latent.single_stage(model, config, likelihood, figures, blocks)
    return result._replace(sequences=Sequences(predict))
