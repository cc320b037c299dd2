"""A VAE of residual blocks without downsampling, the shape of VQ-VAEs and hierarchies, as a model file of one's own.

Trains like any other: ``PYTHONPATH=benchmarks python experiments/run.py --model=residual --dataset=digits``
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaex import distributions, divergences, nets
from vaex.configuration import option, options
from vaex.core import Batch, Model, Outcome, Recipe, Variables
from vaex.data.spec import Spec
from vaex.models import latent, likelihoods
from vaex.models.gaussian import HParams
from vaex.models.networks import BaseConfig

__all__ = ["TINY", "Config", "HParams", "build"]

TINY: dict[str, Any] = {"channels": 4, "latent_channels": 1}
SECOND_KERNELS = (3, 1)  # of the blocks: a hierarchy's, and a VQ-VAE's


@options
class Config(BaseConfig):
    """Options of the benchmark's model."""

    channels: int = option(64, low=1, doc="Channels of every convolution.")
    latent_channels: int = option(4, low=1, doc="Latent variables per pixel.")


class Stack(nn.Module):
    """Convolution, residual blocks, convolution: [..., h, w, c] -> [..., h, w, features].

    Attributes:
      channels: of the blocks.
      features: of the output.
      kernels: sizes of the first and the last convolution.
      layer: the class of the convolutions.
    """

    channels: int
    features: int
    kernels: tuple[int, int]
    layer: Any = nets.Conv

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def conv(x: jax.Array, features: int, size: int, name: str) -> jax.Array:
            return self.layer(features, (size, size), padding=size // 2, name=name)(x)

        x = conv(x, self.channels, self.kernels[0], "first")
        for index, size in enumerate(SECOND_KERNELS):
            inner = conv(nn.relu(x), self.channels, 3, f"block_{index}_a")
            x = x + conv(nn.relu(inner), self.channels, size, f"block_{index}_b")
        return conv(nn.relu(x), self.features, self.kernels[1], "last")


def stacks(config: Config, features: int, layer: Any = nets.Conv) -> tuple[Stack, Stack]:
    """Encoder and decoder whose convolutions are of class ``layer``."""
    encoder = Stack(config.channels, 2 * config.latent_channels, (3, 1), layer)
    return encoder, Stack(config.channels, features, (1, 3), layer)


def build(config: Config, spec: Spec) -> Recipe:
    """The recipe for images of this spec."""
    likelihood = likelihoods.build(config.likelihood, spec)
    h, w, c = spec.shape
    encoder, decoder = stacks(config, c * likelihood.channels)
    latents = h * w * config.latent_channels
    prior = distributions.Normal(jnp.zeros(latents), 1.0)

    def init(key: jax.Array, batch: Batch) -> Variables:
        encoder_key, decoder_key = jax.random.split(key)
        z = jnp.zeros((1, h, w, config.latent_channels))
        params = {
            "encoder": encoder.init(encoder_key, batch["x"][:1])["params"],
            "decoder": decoder.init(decoder_key, z)["params"],
            "likelihood": likelihood.init(),
        }
        return Variables({"vae": params})

    def encode(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> distributions.Normal:
        raw: Any = encoder.apply({"params": variables.params["vae"]["encoder"]}, batch["x"])
        mean, log_scale = jnp.split(raw, 2, axis=-1)
        flat = mean.shape[:-3]
        return distributions.Normal(
            mean.reshape(*flat, latents), log_scale=likelihoods.soft_clip(log_scale).reshape(*flat, latents)
        )

    def decode(variables: Variables, hparams: Any, z: jax.Array, batch: Batch) -> Any:
        grid = z.reshape(-1, h, w, config.latent_channels)
        raw: Any = decoder.apply({"params": variables.params["vae"]["decoder"]}, grid)
        raw = raw.reshape(*z.shape[:-1], h, w, c, likelihood.channels)
        return likelihood.distribution(variables.params["vae"]["likelihood"], hparams.sigma, raw)

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        posterior = encode(key, variables, hparams, batch)
        log_px = decode(variables, hparams, posterior.sample(key), batch).log_prob(batch["x"])
        kl = divergences.kl(posterior, prior)
        metrics = {"elbo": log_px - kl, "reconstruction": -log_px, "kl": kl}
        return Outcome({"vae": jnp.mean(kl - log_px)}, variables.state, metrics)

    def sample(key: jax.Array, variables: Variables, hparams: Any, n: int, condition: Any = None) -> Any:
        return decode(variables, hparams, prior.sample(key, (n,)), {})

    model = Model(init, objective, encode, decode, None, sample)
    return latent.single_stage(model, config, likelihood)
